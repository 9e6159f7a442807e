"""Faults of the machine while features are extracted: kills, and a disk that fills up.

make faults, or python -c "from tests.faults.extraction import main; main()" [--kills 10] [--full 5] [--seed 0]

After each, the store must be that of an undisturbed run, byte for byte, once the command has run again.
"""

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import tissue_image, write_aperio
from wsi_mil.config import TileSettings, Tiling, Tissue
from wsi_mil.errors import StoreError
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.store import bytes_on_disk, read_attributes, shard_rows
from wsi_mil.tile import tile_slide

TILE_PX = 32
BATCH_SIZE = 64
SETTINGS = {"encoder": "test_vit", "weights": "random", "dtype": "float32", "batch_size": BATCH_SIZE}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Extraction:
    """A slide that is tiled, and the command that extracts its features."""

    def __init__(self, folder: Path, *, side: int):
        """`side`: of the slide, pixels."""
        self.slide = write_aperio(folder / "big.svs", tissue_image(side, side - 3 * TILE_PX), levels=(1, 4))
        self.tiles = folder / "tiles" / "big.json"
        settings = TileSettings(tiling=Tiling(tile_px=TILE_PX, mpp=0.5, min_tissue=0), tissue=Tissue(method="none"))
        tile_slide(SlideRow("big", self.slide), settings, self.tiles)
        self.n = int(read_receipt(self.tiles)["n_tiles"])
        self.shard_rows = shard_rows(self.n, BATCH_SIZE)

    def start(self, receipt: Path) -> subprocess.Popen[str]:
        """The command, at work."""
        row = json.dumps({"slide_id": "big", "path": str(self.slide)})
        command = [sys.executable, "-m", "wsi_mil", "extract", f"--tiles={self.tiles.parent}", f"--row={row}", "--device=cpu"]
        command += [f"--settings={json.dumps(SETTINGS)}", f"--features={receipt.parent}", "--threads=1"]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def finish(self, receipt: Path) -> str:
        """Run the command to its end; what it said."""
        process = self.start(receipt)
        said = process.communicate(timeout=3600)[1]
        assert process.returncode == 0, said
        return said

    def finish_after(self, receipt: Path) -> None:
        """Run it to its end after a disturbance: no shard that was whole is encoded again."""
        done = shards_done(store_path(receipt)) * self.shard_rows
        said = self.finish(receipt)
        encoded = re.search(r"extract big: (\d+) tiles in", said)
        assert int(encoded.group(1) if encoded else 0) == max(0, self.n - done), said


def shards_done(store: Path) -> int:
    """Whole shards on disk."""
    try:
        return int(read_attributes(store)["shards_done"])
    except StoreError:
        return 0


def kill_at(extraction: Extraction, receipt: Path, seconds: float) -> bool:
    """Start the command, kill it after a while; whether it was still at work."""
    process = extraction.start(receipt)
    time.sleep(seconds)
    is_killed = process.poll() is None
    process.kill()
    process.communicate()
    return is_killed


def kills(extraction: Extraction, whole: Path, folder: Path, n: int, rng: random.Random) -> dict[str, int]:
    """Kill the command `n` times at random moments, of stores begun anew whenever one is whole."""
    start = time.monotonic()
    extraction.finish(folder / "timed" / "big.json")
    longest, stores, killed = time.monotonic() - start, 0, 0
    while killed < n:
        receipt = folder / f"killed-{stores}" / "big.json"
        stores += 1
        for _ in range(rng.randint(1, 4)):
            before = shards_done(store_path(receipt))
            is_killed = kill_at(extraction, receipt, rng.uniform(0, longest))
            after = shards_done(store_path(receipt))
            print(f"store {stores}: {'killed' if is_killed else 'had ended'}, {before} → {after} shards", flush=True)
            assert after >= before
            killed += is_killed
            if after * extraction.shard_rows >= extraction.n:
                break
        extraction.finish_after(receipt)
        assert tree(receipt.parent) == tree(whole.parent)
    return {"kills": killed, "stores": stores}


@contextlib.contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A file system in memory of so many bytes. Needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(extraction: Extraction, whole: Path, folder: Path, n_bytes: int) -> int:
    """Run the command on a disk of so many bytes, then with room; shards that were whole before."""
    with small_disk(folder, n_bytes) as disk:
        receipt = disk / "big.json"
        process = extraction.start(receipt)
        said = process.communicate(timeout=3600)[1]
        done = shards_done(store_path(receipt))
        print(f"disk of {n_bytes} bytes: exit {process.returncode}, {done} shards whole; {said.splitlines()[-1]}", flush=True)
        assert process.returncode not in (0, 2) and "Traceback" not in said, said
        assert "the disk is full" in said.splitlines()[-1], said
        subprocess.run(["mount", "-o", f"remount,size={10 * bytes_on_disk(store_path(whole))}", str(disk)], check=True)
        extraction.finish_after(receipt)
        assert tree(disk) == tree(whole.parent)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--full", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        extraction, whole = Extraction(folder, side=3500), folder / "whole" / "big.json"
        extraction.finish(whole)
        print(f"{extraction.n} tiles in {shards_done(store_path(whole))} shards, {bytes_on_disk(store_path(whole))} bytes")
        figures = kills(extraction, whole, folder, args.kills, rng)
        if os.geteuid() == 0:
            size = bytes_on_disk(store_path(whole))
            done = [
                fill_disk(extraction, whole, folder / f"disk-{i}", int(rng.uniform(0.1, 1.0) * size)) for i in range(args.full)
            ]
            figures |= {"disks_filled": len(done)}
        else:
            print("disk full: did not run, only root can mount a small disk")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
