#!/usr/bin/env python3
"""Measure the speed of feature extraction, compared with a plain loop and with the encoder alone, on the same threads.

python benchmarks/extract.py [SLIDE ...] [--threads 2] [--tiles 1000] [--rounds 3] [--batch-size 64] [--no-memory]

SLIDE is any slide with tissue; without one, a slide of 400 megapixels is made from the demo's texture and read at 0.5 and
at 0.25 µm per pixel. The plain loop, in a process of its own, reads each tile with OpenSlide, resizes it with Pillow, and
encodes batches of 32 with timm in float32. "Encoder alone" encodes one prepared batch repeatedly. Features in bfloat16 are
compared with float32 on tissue of the demo's real slide. Peak memory is that of `wsi-mil extract` on 10,000 and on 100,000
small tiles, in processes of their own. For GPUs: `make gpu`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
import timm
import torch
from PIL import Image
from read import SIDE_BLOCKS, write_slide
from timm.data import create_transform

from wsi_mil.config import Encoder, TileSettings, Tiling, Tissue
from wsi_mil.demo.texture import texture_path
from wsi_mil.devices import fast_dtype, keep_freed_memory, reading_threads, set_threads
from wsi_mil.encoders.encoder import TileEncoder, create_encoder
from wsi_mil.encoders.networks import create_classifier
from wsi_mil.extract import extract_slide
from wsi_mil.geometry import Mpp
from wsi_mil.receipts import read_receipt, store_path
from wsi_mil.records import SlideRow
from wsi_mil.slides import open_slide, read_tiles
from wsi_mil.store import read_grid, shard_rows
from wsi_mil.tile import tile_slide

PLAIN_BATCH, PLAIN_TILES = 32, 192
MEMORY_TILES = (10_000, 100_000)
MEMORY_DIM = 64
DEFAULT = Encoder()
TISSUE_TILES = 4096
TINY = {
    **{"threads": 1, "tiles": 8, "rounds": 1, "batch_size": 4, "no_memory": True},
    **{"side_blocks": 64, "mpps": (0.5,), "plain_tiles": 4, "tissue_tiles": 4},
}


def tiles_of(slide: Path, folder: Path, settings: TileSettings, mpp: float | None = None) -> Path:
    """Tile a slide, at `mpp` µm per pixel if given, and return the receipt."""
    receipt = folder / "tiles" / f"{slide.stem}.json"
    tile_slide(SlideRow(slide.stem, slide, mpp=mpp), settings, receipt)
    assert read_receipt(receipt)["status"] == "ok", read_receipt(receipt)["reason"]
    return receipt


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def stage_rate(tiles: Path, slide: Path, encoder: TileEncoder, batch_size: int, threads: int, folder: Path) -> float:
    """Return the tiles per second of the whole stage: reading, encoding, writing the store."""
    receipt = folder / "features" / f"{time.monotonic_ns()}.json"
    options = {"dtype": str(encoder.dtype), "encoder": lambda: encoder, "threads": reading_threads(encoder.device, threads)}
    settings = Encoder(batch_size=batch_size)
    elapsed = seconds(lambda: extract_slide(tiles, SlideRow(receipt.stem, slide), settings, receipt, **options))
    return read_receipt(receipt)["n_tiles"] / elapsed


def encoder_rate(encoder: TileEncoder, batch: np.ndarray, n: int) -> float:
    """Return the tiles per second of the encoder on one prepared batch."""
    prepared = encoder.empty(batch.shape)
    prepared[:] = batch
    encoder.encode(prepared)
    n_batches = max(2, n // len(batch))

    def work() -> None:
        last = [encoder.begin(prepared) for _ in range(n_batches)][-1]
        last.result()

    return n_batches * len(batch) / seconds(work)


class PlainLoop:
    """Plain loop over OpenSlide, Pillow and timm in float32, one batch after another."""

    def __init__(self, slide: Path, tiles: Path):
        self.slide = openslide.OpenSlide(str(slide))
        self.grid = read_grid(store_path(tiles))
        self.network, data = create_classifier()
        self.network.reset_classifier(0)
        self.transform = create_transform(**data, is_training=False)

    @torch.inference_mode()
    def run(self, n: int) -> int:
        features = []
        coords = self.grid.coords[:n].tolist()
        for first in range(0, len(coords), PLAIN_BATCH):
            batch = []
            for x, y in coords[first : first + PLAIN_BATCH]:
                region = self.slide.read_region((x, y), 0, self.grid.tile_px_level0).convert("RGB")
                batch.append(self.transform(region.resize((self.grid.tile_px,) * 2, Image.Resampling.BICUBIC)))
            features.append(self.network(torch.stack(batch)))
        return len(torch.cat(features))


def plain_rate(slide: Path, tiles: Path, args: argparse.Namespace) -> float:
    """Return the tiles per second of the plain loop, in a process of its own."""
    command = [sys.executable, __file__, "--plain", str(slide), str(tiles), f"--threads={args.threads}"]
    command.append(f"--plain-tiles={args.plain_tiles}")
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def cpu(slide: Path, tiles: Path, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Measure the default encoder on the CPU, compared with the plain loop and the encoder alone; medians over rounds."""
    dtype = fast_dtype("auto", torch.device("cpu"))
    encoder, batch = create_encoder(DEFAULT, device=torch.device("cpu"), dtype=dtype), first_batch(slide, tiles, args.batch_size)
    rates: dict[str, list[float]] = {"plain": [], "stage": [], "encoder": []}
    for _ in range(args.rounds):
        rates["encoder"].append(encoder_rate(encoder, batch, args.tiles))
        rates["stage"].append(stage_rate(tiles, slide, encoder, args.batch_size, args.threads, folder))
        rates["plain"].append(plain_rate(slide, tiles, args))
    for name, values in rates.items():
        print(f"{slide.name}: {name:8s} {statistics.median(values):8.1f} tiles/s ({', '.join(f'{v:.1f}' for v in values)})")
    ratios = {
        "cpu_vs_plain": [s / p for s, p in zip(rates["stage"], rates["plain"], strict=True)],
        "cpu_vs_encoder": [s / e for s, e in zip(rates["stage"], rates["encoder"], strict=True)],
    }
    print(f"dtype {dtype}, {args.threads} threads; per round {ratios}")
    medians = {name: round(statistics.median(values), 2) for name, values in ratios.items()}
    return {**medians, "cpu_tiles_per_s": round(statistics.median(rates["stage"]), 1)}


def first_batch(slide: Path, tiles: Path, batch_size: int) -> np.ndarray:
    """Return the first tiles of a slide, uint8 `(batch_size, height, width, 3)`."""
    receipt = read_receipt(tiles)
    grid = read_grid(store_path(tiles))
    with open_slide(slide, receipt["reader"], mpp=Mpp(*receipt["mpp"])) as opened:
        return next(iter(read_tiles(opened, grid, mpp=receipt["settings"]["tiling"]["mpp"], batch_size=batch_size))).tiles


def precision(folder: Path, most: int) -> dict[str, float]:
    """Measure the cosine similarity of bfloat16 and float32 features, on at most `most` tissue tiles of a real slide."""
    slide = texture_path(None)
    tiles = tiles_of(slide, folder, TileSettings(tiling=Tiling(overlap=112)))
    batch = first_batch(slide, tiles, most)
    device = torch.device("cpu")
    exact, fast = (
        np.concatenate([encoder.encode(part) for part in np.array_split(batch, max(1, len(batch) // 64))]).astype(float)
        for encoder in (create_encoder(DEFAULT, device=device, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    )
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    print(f"bfloat16 compared with float32 on {len(batch)} tissue tiles of {slide.name}: median cosine similarity "
          f"{np.median(cosine):.4f}, minimum {cosine.min():.4f}")  # fmt: skip
    return {"cosine_median": round(float(np.median(cosine)), 4), "cosine_min": round(float(cosine.min()), 4)}


def peak_mb(command: list[str]) -> float:
    """Return the peak resident memory of a process in MB, from /proc."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        with suppress(OSError):  # the process may have ended meanwhile
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, *(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
        time.sleep(0.05)
    assert process.returncode == 0
    return peak


def memory(folder: Path, threads: int) -> dict[str, float]:
    """Measure the peak memory of `wsi-mil extract` on few and on many tiles."""
    slide = write_slide(folder / "many.svs")
    peak_of = {}
    for n in MEMORY_TILES:
        tiling = Tiling(tile_px=64, mpp=0.25, min_tissue=0, max_tiles=n)
        tiles = tiles_of(slide, folder / str(n), TileSettings(tiling=tiling, tissue=Tissue(method="none")))
        command = [sys.executable, "-m", "wsi_mil", "extract", f"--tiles={tiles.parent}", "--device=cpu", f"--threads={threads}"]
        command += [f"--row={json.dumps({'slide_id': tiles.stem, 'path': str(slide)})}", f"--features={folder / str(n) / 'f'}"]
        command += [f"--settings={json.dumps({'encoder': 'test_vit', 'weights': 'random', 'dtype': 'float32'})}"]
        peak_of[n] = peak_mb(command)
        print(f"peak memory of extract on {n:7,d} tiles: {peak_of[n]:.0f} MB")
    few, many = (peak_of[n] for n in MEMORY_TILES)
    shard = shard_rows(MEMORY_TILES[1], 64) * MEMORY_DIM * 2 / 2**20
    print(f"difference {many - few:.0f} MB; allowed {0.1 * few + shard:.0f} MB (a tenth and one shard of {shard:.1f} MB)")
    return {"memory_10k_mb": round(few), "memory_100k_mb": round(many), "memory_ratio": round((many - shard) / few, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("slides", nargs="*", type=Path, help="slides with tissue; a synthetic one if none is given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=1000, help="tiles per slide on the CPU")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--no-memory", action="store_true", help="skip the measurement of memory")
    parser.add_argument("--plain", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain-tiles", type=int, default=PLAIN_TILES, help=argparse.SUPPRESS)
    parser.set_defaults(side_blocks=SIDE_BLOCKS, mpps=(0.5, 0.25), tissue_tiles=TISSUE_TILES)
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    set_threads(args.threads)
    if args.plain:
        loop = PlainLoop(*args.plain)
        loop.run(min(PLAIN_BATCH, args.plain_tiles))
        print(args.plain_tiles / seconds(lambda: loop.run(args.plain_tiles)))
        return
    keep_freed_memory()
    print(f"torch {torch.__version__}, timm {timm.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        slides = [(slide, None) for slide in args.slides] or [
            (write_slide(folder / "made.svs", args.side_blocks), mpp) for mpp in args.mpps
        ]
        figures: dict[str, float] = {}
        for number, (slide, mpp) in enumerate(slides):
            tiles = tiles_of(slide, folder / str(number), TileSettings(tiling=Tiling(max_tiles=args.tiles)), mpp)
            of_slide = cpu(slide, tiles, args, folder / str(number))
            figures |= {f"{name}{'' if mpp in (None, 0.5) else f'_{mpp}um'}": value for name, value in of_slide.items()}
        figures |= precision(folder, args.tissue_tiles)
        figures |= {} if args.no_memory else memory(folder, args.threads)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
