"""Damaged slides: a real one cut short, or with bytes turned over. Each is tiled and read in a process of its own.

make fuzz, or python -c "from tests.fuzz import main; main()" [--truncated 50] [--flipped 200] [--seed 0]

Every outcome must be a status or pixels, within 20 seconds: no crash, no hang, no error that is no status.
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
"""Half of the flips hit within so many bytes of where TIFF tags stand."""


@dataclass(frozen=True)
class Damage:
    """What is done to a file: bytes kept (None: all), and where bytes are turned over."""

    name: str
    kept: int | None = None
    flipped: tuple[int, ...] = ()

    def apply(self, content: bytes) -> bytes:
        damaged = bytearray(content[: self.kept])
        for number, at in enumerate(self.flipped):
            damaged[at] ^= 1 << number % 8
        return bytes(damaged)


def damages(path: Path, *, truncated: int, flipped: int, seed: int) -> list[Damage]:
    """Cuts evenly over the file; flips of 1 to 256 bytes anywhere and about its tags."""
    size, rng = path.stat().st_size, np.random.default_rng(seed)
    with tifffile.TiffFile(path) as tif:
        tags = [page.offset for page in tif.pages]
    found = [Damage(f"truncated-{number}", kept=round(size * (number + 0.5) / truncated)) for number in range(truncated)]
    for number in range(flipped):
        n = int(rng.choice([1, 4, 32, 256]))
        if number % 2:
            at = np.clip(rng.choice(tags) + rng.integers(-NEAR_TAGS, NEAR_TAGS, n), 0, size - 1)
        else:
            at = rng.integers(0, size, n)
        found.append(Damage(f"flipped-{number}", flipped=tuple(int(i) for i in at)))
    return found


def outcome(source: Path, damage: Damage, folder: Path) -> str:
    """What became of a damaged copy: how its process ended where it ended badly, else the status, and tiles read of all."""
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
        return f"hangs for {LIMIT_S} s"
    path.unlink()
    return answer.read_text() if process.exitcode == 0 else f"ends with {process.exitcode}"


def is_good(found: str) -> bool:
    """Whether an outcome is a status, with its reason or pixels."""
    return found.startswith(tuple(json.dumps(str(status))[1:-1] for status in Status))


def _work(path: Path, answer: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    receipt = path.with_suffix(".json")
    status = tile_slide(SlideRow("damaged", path, mpp=0.499), TileSettings(), receipt)
    about = read_receipt(receipt)
    if status is not Status.OK:
        assert about["reason"]
        answer.write_text(f"{status}: {about['reason']}")
        return
    grid = read_grid(store_path(receipt))
    with open_slide(path, about["reader"], mpp=Mpp(*about["mpp"])) as slide:
        readable = np.concatenate([b.readable for b in read_tiles(slide, grid, mpp=0.5, threads=2)])
    answer.write_text(f"{status}: {readable.sum()} of {len(readable)} tiles, {about['reader']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truncated", type=int, default=50)
    parser.add_argument("--flipped", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = texture_path(None)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for damage in damages(source, truncated=args.truncated, flipped=args.flipped, seed=args.seed):
            found = outcome(source, damage, Path(folder))
            counts[found.split(":")[0] if is_good(found) else "BAD"] += 1
            print(f"{damage.name:14s} {found}", flush=True)
    print(json.dumps(counts))
    sys.exit(counts["BAD"] > 0)


if __name__ == "__main__":
    main()
