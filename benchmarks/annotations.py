#!/usr/bin/env python3
"""What does an annotation of many polygons cost? Seconds to read it, and to say how much of each tile it covers.

python benchmarks/annotations.py [--polygons 100000] [--corners 20]

Outlines of about the size of a gland are strewn over a slide, some of them over others. Files are made in a temporary folder.
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
FEWER = (4, 2, 1)
"""Parts of the polygons that are read to see whether time grows as they do."""

T = TypeVar("T")


def outlines(n: int, corners: int) -> NDArray[np.float64]:
    """`(n, corners, 2)`."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.round(rng.uniform(100, SIDE - 100, (n, 1, 2)) + rng.uniform(60, 80, (n, corners, 1)) * ray, 2)


def write_geojson(path: Path, rings: NDArray[np.float64]) -> None:
    about = {"objectType": "annotation", "classification": {"name": "Tumor"}}
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, "properties": about}
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
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def figures(folder: Path, n: int, corners: int) -> dict[str, float]:
    rings, found, frame = outlines(n, corners), {}, Frame((SIDE, SIDE))
    for name, suffix, write in (("geojson", ".geojson", write_geojson), ("asap", ".xml", write_asap)):
        path = folder / f"a{suffix}"
        for part in FEWER:
            write(path, rings[: n // part])
            found[f"{name}_{n // part}_s"], annotation = timed(lambda path=path: read_annotation(path, Truth(), frame))
        found[f"{name}_growth"] = found[f"{name}_{n}_s"] / found[f"{name}_{n // FEWER[0]}_s"] / FEWER[0]
    coords = np.random.default_rng(1).integers(0, SIDE - 512, (n, 2))
    found[f"fractions_{n}_tiles_s"], _ = timed(lambda: overlap_fractions(annotation.region, coords, box=(512, 512)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--polygons", type=int, default=100_000)
    parser.add_argument("--corners", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = figures(Path(folder), args.polygons, args.corners)
    found = {name: round(value, 3) for name, value in found.items()}
    for name, value in found.items():
        print(f"{name:32s} {value:10.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
