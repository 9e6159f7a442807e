#!/usr/bin/env python3
"""How fast is the encoder, by number format and memory layout? Tiles per second, as ratios of one run.

python benchmarks/extract.py [--threads 2] [--tiles 256] [--device cpu]
"""

import argparse
import json
import time

import numpy as np
import torch

from wsi_mil.config import Encoder
from wsi_mil.devices import create_device, set_threads
from wsi_mil.encoders.encoder import create_encoder


def rate(dtype: torch.dtype, tiles: np.ndarray, device: torch.device, batch_size: int) -> float:
    """Tiles per second after a warm-up."""
    encoder = create_encoder(Encoder(), device=device, dtype=dtype)
    encoder.encode(tiles[:batch_size])
    start = time.perf_counter()
    for first in range(0, len(tiles), batch_size):
        encoder.encode(tiles[first : first + batch_size])
    return len(tiles) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(args.threads)
    device = create_device(args.device)
    tiles = np.random.default_rng(0).integers(0, 255, (args.tiles, 224, 224, 3), dtype=np.uint8)
    rates = {str(d).removeprefix("torch."): rate(d, tiles, device, args.batch_size) for d in (torch.float32, torch.bfloat16)}
    for name, value in rates.items():
        print(f"{name:10s} {value:8.1f} tiles/s, {value / rates['float32']:.2f} of float32")
    print(json.dumps({f"{name} tiles_per_s": round(value, 1) for name, value in rates.items()}))


if __name__ == "__main__":
    main()
