#!/usr/bin/env python3
"""Time reading annotations with many polygons, and computing how much of each tile they cover.

python benchmarks/annotations.py [--polygons 100000] [--corners 20]

Polygons of about the size of a gland are scattered over a slide; some overlap. Files are written to a temporary folder.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.annotations import Frame, overlap_fractions, read_annotation
from wsi_mil.config import Truth

SIDE = 120_000
TINY = {"polygons": 400, "corners": 6}
DIVISORS = (4, 2, 1)
"""A quarter, half and all of the polygons are read, to see whether time grows in proportion."""

T = TypeVar("T")


def random_rings(n: int, corners: int) -> NDArray[np.float64]:
    """Return the corners of random polygons, `(n, corners, 2)`, (x, y), level-0 pixels."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.round(rng.uniform(100, SIDE - 100, (n, 1, 2)) + rng.uniform(60, 80, (n, corners, 1)) * ray, 2)


def write_geojson(path: Path, rings: NDArray[np.float64]) -> None:
    properties = {"objectType": "annotation", "classification": {"name": "Tumor"}}
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, "properties": properties}
        for ring in rings.tolist()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def write_asap(path: Path, rings: NDArray[np.float64]) -> None:
    with path.open("w") as file:
        file.write("<ASAP_Annotations><Annotations>")
        for ring in rings.tolist():
            corners = "".join(f'<Coordinate Order="{k}" X="{x}" Y="{y}"/>' for k, (x, y) in enumerate(ring))
            file.write(f'<Annotation Type="Polygon" PartOfGroup="Tumor"><Coordinates>{corners}</Coordinates></Annotation>')
        file.write("</Annotations></ASAP_Annotations>")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure(folder: Path, n: int, corners: int) -> dict[str, float]:
    """Return seconds by format and number of polygons, and how they grow: 1 is in proportion."""
    rings = random_rings(n, corners)
    frame = Frame((SIDE, SIDE))
    figures = {}
    for name, suffix, write in (("geojson", ".geojson", write_geojson), ("asap", ".xml", write_asap)):
        path = folder / f"a{suffix}"
        for divisor in DIVISORS:
            write(path, rings[: n // divisor])
            figures[f"{name}_{n // divisor}_s"], annotation = timed(lambda path=path: read_annotation(path, Truth(), frame))
        figures[f"{name}_growth"] = figures[f"{name}_{n}_s"] / figures[f"{name}_{n // DIVISORS[0]}_s"] / DIVISORS[0]
    coords = np.random.default_rng(1).integers(0, SIDE - 512, (n, 2))
    figures[f"fractions_{n}_tiles_s"], _ = timed(lambda: overlap_fractions(annotation.region, coords, box=(512, 512)))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--polygons", type=int, default=100_000, help="number of polygons")
    parser.add_argument("--corners", type=int, default=20, help="corners per polygon")
    parser.add_argument("--tiny", action="store_true", help="the smallest size, to see that it runs; its figures mean nothing")
    args = parser.parse_args()
    vars(args).update(TINY if args.tiny else {})
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.polygons, args.corners)
    figures = {name: round(value, 3) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:32s} {value:10.3f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
