"""Measure the stage `extract` with encoders of random weights by batch size, compared with the encoder on a prepared batch.

Tiles are read from a made slide with a pyramid of JPEG tiles, encoded, and written to a feature store by the stage itself. A
row has the tiles per second of the whole stage and of the encoder alone, and their ratio `gpu_vs_encoder`.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.gpu_parts.device import forget_peak, peak_gb, torch_device
from benchmarks.gpu_parts.rows import Row, measure_all, parsed_arguments
from wsi_mil.config import Encoder, TileSettings, Tiling
from wsi_mil.devices import fast_dtype, set_threads
from wsi_mil.encoders.encoder import TileEncoder, create_encoder
from wsi_mil.receipts import read_receipt
from wsi_mil.runtime.threads import usable_cores

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from extract import encoder_rate, first_batch, stage_rate, tiles_of
from read import write_slide

ROUNDS, LEAST_BATCHES = 3, 4
PALE, DARK = (235, 200, 220), (110, 50, 120)
"""Colours of loose and of dense tissue."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        side_blocks: width and height of the slide in blocks of 256 pixels.
        encoders: name in the table → encoder.
        batch_sizes: tiles of a batch, the most important first.
        mpps: µm per pixel that the slide is read at; tiles are at 0.5, so 0.25 means four times the pixels.
        seconds: that one run of the stage should take at most, on a slow device.
    """

    side_blocks: int
    encoders: dict[str, str]
    batch_sizes: tuple[int, ...]
    mpps: tuple[float, ...]
    seconds: float


FULL = Size(256, {"ViT-L/16": "vit_large_patch16_224", "ResNet-50": "resnet50"}, (256, 64, 128, 512), (0.5, 0.25), 5.0)
TINY = Size(64, {"ViT": "test_vit", "ResNet": "test_resnet"}, (8,), (0.5, 0.25), 0.1)


def made_texture(side: int = 1024) -> np.ndarray:
    """Return an image `[side, side, 3]` in the colours of H&E, whose JPEG tiles are about as large as those of tissue."""
    rng = np.random.default_rng(0)
    coarse, fine = (gaussian_filter(rng.normal(size=(side, side)), sigma) for sigma in (6, 1.0))
    density = 0.5 + 0.16 * coarse / coarse.std() + 0.17 * fine / fine.std()
    colours = np.array(PALE) + density[..., None] * (np.array(DARK) - np.array(PALE))
    return np.clip(colours + rng.normal(scale=2, size=(side, side, 1)), 0, 255).astype(np.uint8)


class Shrunk(logging.Handler):
    """Records that an encoder halved its batch for want of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "out of memory" in record.getMessage():
            self.said.append(record.getMessage())


class Bench:
    """A made slide, its tiles, and the encoders on a device."""

    def __init__(self, size: Size, folder: Path, device: torch.device):
        self.size, self.folder, self.device = size, folder, device
        self.threads = usable_cores()
        self.encoder = cache(self._encoder)
        self.tiles = cache(self._tiles)

    @cached_property
    def slide(self) -> Path:
        return write_slide(self.folder / "made.svs", self.size.side_blocks, made_texture())

    def measure(self, name: str, batch_size: int, mpp: float) -> Row:
        """Return medians over rounds, the first of which warms up where there are several."""
        forget_peak(self.device)
        shrunk = Shrunk()
        logging.getLogger("wsi_mil").addHandler(shrunk)
        try:
            rounds, n_tiles = self._rounds(self.encoder(name), batch_size, mpp)
        finally:
            logging.getLogger("wsi_mil").removeHandler(shrunk)
            if shrunk.said:
                self.encoder.cache_clear()  # its batches stay small
        measured = rounds[1:] or rounds
        figures: Row = {"tiles": n_tiles, "rounds": len(measured), "peak_gb": round(peak_gb(self.device)[1], 2)}
        figures["tiles_per_s"] = round(median(stage for stage, _ in measured), 1)
        figures["encoder_tiles_per_s"] = round(median(alone for _, alone in measured), 1)
        figures["gpu_vs_encoder"] = round(median(stage / alone for stage, alone in measured), 3)
        return {**figures, "result": f"measured; {shrunk.said[-1].partition(': ')[2]}"} if shrunk.said else figures

    def _rounds(self, encoder: TileEncoder, batch_size: int, mpp: float) -> tuple[list[tuple[float, float]], int]:
        """Tiles per second of the stage and of the encoder alone, by round, and the number of tiles."""
        few = self.tiles(mpp, batch_size * LEAST_BATCHES)
        batch = first_batch(self.slide, few, batch_size)
        rate = encoder_rate(encoder, batch, LEAST_BATCHES * batch_size)
        tiles = self.tiles(mpp, self._n_tiles(rate, batch_size))
        n_tiles = int(read_receipt(tiles)["n_tiles"])
        rounds = []
        end = time.monotonic() + ROUNDS * self.size.seconds
        while not rounds or (len(rounds) <= ROUNDS and time.monotonic() < end):
            stage = stage_rate(tiles, self.slide, encoder, batch_size, self.threads, self.folder / "features")
            rounds.append((stage, encoder_rate(encoder, batch, n_tiles)))
        return rounds, n_tiles

    def _n_tiles(self, rate: float, batch_size: int) -> int:
        """A power of two times the batch, about as many tiles as the encoder does in the time of one run."""
        least = LEAST_BATCHES * batch_size
        return least << max(0, int(rate * self.size.seconds / least).bit_length() - 1)

    def _tiles(self, mpp: float, most: int) -> Path:
        return tiles_of(self.slide, self.folder / f"{mpp}-{most}", TileSettings(tiling=Tiling(max_tiles=most)), mpp)

    def _encoder(self, name: str) -> TileEncoder:
        dtype = fast_dtype("auto", self.device)
        return create_encoder(Encoder(encoder=self.size.encoders[name], weights="random"), device=self.device, dtype=dtype)

    def cases(self) -> Iterator[tuple[Row, Callable[[], Row]]]:
        """Yield what to measure: all at the slide's own scale, then the first batch size at others."""
        combinations = [(name, n, self.size.mpps[0]) for name, n in product(self.size.encoders, self.size.batch_sizes)]
        combinations += [(name, self.size.batch_sizes[0], mpp) for mpp in self.size.mpps[1:] for name in self.size.encoders]
        for name, batch_size, mpp in combinations:
            dtype = str(fast_dtype("auto", self.device)).removeprefix("torch.")
            identity = {"encoder": name, "batch_size": batch_size, "slide_mpp": mpp, "dtype": dtype, "threads": self.threads}
            yield identity, partial(self.measure, name, batch_size, mpp)


def main() -> int:
    args = parsed_arguments(__doc__ or "")
    logging.basicConfig(format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(TINY if args.tiny else FULL, Path(folder), torch_device(args.device))
        set_threads(1 if bench.device.type == "cpu" else bench.threads)
        return int(not measure_all(bench.cases(), args.seconds))


if __name__ == "__main__":
    sys.exit(main())
