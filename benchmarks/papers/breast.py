"""Breast cancer (UCSB; Ilse, Tomczak, Welling 2018): malignant or benign? Patches of 32 px on a grid, without white ones."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.papers.histology import MODELS, Fold, Image
from benchmarks.papers.runs import Run
from wsi_mil.config import Split

SIDE_PX = 32
SIZE = (896, 768)
"""(width, height) of every image of the set."""
KINDS = ("benign", "malignant")
WHITE_FROM, MOST_WHITE = 200, 0.75
"""A pixel is white from this value on in every channel (ours); a patch is left out from this share of white pixels on."""
SPLIT = Split(folds=4, repeats=5, validation=0.1)


@cache
def read_breast(folder: Path) -> list[Image]:
    """Every image of the set as a bag, ordered by name: `*_benign*.tif` and `*_malignant*.tif`, anywhere below the folder.

    Raises:
        FileNotFoundError: a kind of which there is no image.
        ValueError: an image of another size, or without a patch that is not white.
    """
    return [read_image(path, label) for path, label in image_paths(folder)]


def image_paths(folder: Path) -> list[tuple[Path, int]]:
    """Images with their labels, ordered by name. Raises FileNotFoundError where a kind has none."""
    found = [(path, label) for label, kind in enumerate(KINDS) for path in sorted(folder.rglob(f"*_{kind}*.tif"))]
    for label, kind in enumerate(KINDS):
        if label not in {have for _, have in found}:
            raise FileNotFoundError(f"{folder}: no image of the name *_{kind}*.tif, as the UCSB set has them")
    return sorted(found, key=lambda pair: pair[0].name)


def read_image(path: Path, label: int) -> Image:
    """One image."""
    pixels = np.asarray(Picture.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    if (width, height) != SIZE:
        raise ValueError(f"{path}: expected {SIZE[0]}×{SIZE[1]} pixels, as the UCSB set has, got {width}×{height}")
    patches, coords = grid(pixels, SIDE_PX)
    kept = (patches >= WHITE_FROM).all(axis=3).mean(axis=(1, 2)) < MOST_WHITE
    if not kept.any():
        raise ValueError(f"{path}: every patch is white")
    return Image(path.stem, label, patches[kept], coords[kept])


def grid(pixels: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Patches side by side, row by row; what is left at the right and lower edge is not used.

    Args:
        pixels: `(height, width, 3)`.
        side_px: of a patch.

    Returns:
        Patches `(n, side_px, side_px, 3)`, and (x, y) of their top-left corners `(n, 2)`.
    """
    rows, columns = pixels.shape[0] // side_px, pixels.shape[1] // side_px
    cut = pixels[: rows * side_px, : columns * side_px].reshape(rows, side_px, columns, side_px, 3)
    y, x = np.divmod(np.arange(rows * columns), columns)
    return cut.swapaxes(1, 2).reshape(-1, side_px, side_px, 3), np.stack([x, y], axis=1) * side_px


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Each fold of each model is a run."""
    n_folds = SPLIT.folds * SPLIT.repeats
    wanted = [("attention", 0)] if fast else [(model, fold) for model in MODELS for fold in range(n_folds)]
    found = [Fold("breast", model, fold, SPLIT, SIDE_PX) for model, fold in wanted]
    return [Run(f.name, f.plain(), f.number, lambda f=f: f.work(lambda: read_breast(data / "breast"))) for f in found]
