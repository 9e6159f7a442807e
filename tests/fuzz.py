"""Fuzz test of damaged slides: a real slide, truncated or with flipped bits, is tiled and read in a process of its own.

make fuzz, or python -c "from tests.fuzz import main; main()" [--truncated 50] [--flipped 200] [--seed 0]

Every outcome must be a status or pixels within 120 seconds: no crash, no hang, no exception.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from wsi_mil.config import TileSettings
from wsi_mil.demo.texture import texture_path
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow, Status
from wsi_mil.slides import open_slide, read_tiles
from wsi_mil.store import read_grid
from wsi_mil.tile import tile_slide

LIMIT_S, LIMIT_BYTES = 120, 6 << 30
NEAR_TAGS = 4096
"""Half of the flips are within this many bytes of TIFF tags."""


@dataclass(frozen=True)
class Damage:
    """Damage of a file: number of bytes kept (None: all), and positions of bytes with a flipped bit."""

    name: str
    kept: int | None = None
    flipped: tuple[int, ...] = ()

    def apply(self, content: bytes) -> bytes:
        damaged = bytearray(content[: self.kept])
        for number, at in enumerate(self.flipped):
            damaged[at] ^= 1 << number % 8
        return bytes(damaged)


def damages(path: Path, *, truncated: int, flipped: int, seed: int) -> list[Damage]:
    """Return truncations at evenly spaced positions, and flips in 1 to 256 bytes, anywhere or near TIFF tags."""
    size = path.stat().st_size
    rng = np.random.default_rng(seed)
    with tifffile.TiffFile(path) as tif:
        tags = [page.offset for page in tif.pages]
    damaged = [Damage(f"truncated-{number}", kept=round(size * (number + 0.5) / truncated)) for number in range(truncated)]
    for number in range(flipped):
        n = int(rng.choice([1, 4, 32, 256]))
        if number % 2:
            at = np.clip(rng.choice(tags) + rng.integers(-NEAR_TAGS, NEAR_TAGS, n), 0, size - 1)
        else:
            at = rng.integers(0, size, n)
        damaged.append(Damage(f"flipped-{number}", flipped=tuple(int(i) for i in at)))
    return damaged


def outcome(source: Path, damage: Damage, folder: Path) -> str:
    """Tile and read a damaged copy; return its status and the number of readable tiles, or how its process failed."""
    path, answer = folder / f"{damage.name}.svs", folder / f"{damage.name}.txt"
    path.write_bytes(damage.apply(source.read_bytes()))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz"])
    process = context.Process(target=_work, args=(path, answer))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return f"no result after {LIMIT_S} s"
    path.unlink()
    return answer.read_text() if process.exitcode == 0 else f"exit code {process.exitcode}"


def is_good(result: str) -> bool:
    """Return whether an outcome is a status, with its reason or tiles."""
    return result.startswith(tuple(json.dumps(str(status))[1:-1] for status in Status))


def _work(path: Path, answer: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    receipt = path.with_suffix(".json")
    status = tile_slide(SlideRow("damaged", path, mpp=0.499), TileSettings(), receipt)
    content = read_receipt(receipt)
    if status is not Status.OK:
        assert content["reason"]
        answer.write_text(f"{status}: {content['reason']}")
        return
    grid = read_grid(store_path(receipt))
    with open_slide(path, content["reader"], mpp=Mpp(*content["mpp"])) as slide:
        readable = np.concatenate([b.readable for b in read_tiles(slide, grid, mpp=0.5, threads=2)])
    answer.write_text(f"{status}: {readable.sum()} of {len(readable)} tiles, {content['reader']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truncated", type=int, default=50, help="number of truncated copies")
    parser.add_argument("--flipped", type=int, default=200, help="number of copies with flipped bits")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = texture_path(None)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for damage in damages(source, truncated=args.truncated, flipped=args.flipped, seed=args.seed):
            result = outcome(source, damage, Path(folder))
            counts[result.split(":")[0] if is_good(result) else "BAD"] += 1
            print(f"{damage.name:14s} {result}", flush=True)
    print(json.dumps(counts))
    sys.exit(counts["BAD"] > 0)


if __name__ == "__main__":
    main()
