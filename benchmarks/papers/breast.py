"""Breast cancer images (UCSB; Ilse, Tomczak, Welling 2018), malignant or benign: patches of 32 px on a grid, not white."""

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
"""(width, height) of each image of the data set."""
KINDS = ("benign", "malignant")
MIN_WHITE = 200
"""A pixel is white if all channels have at least this value; our choice."""
MAX_WHITE_SHARE = 0.75
"""Patches with at least this share of white pixels are left out."""
SPLIT = Split(folds=4, repeats=5, validation=0.1)


@cache
def read_breast(folder: Path) -> list[Image]:
    """Return all images of the data set, by name: `*_benign*.tif` and `*_malignant*.tif` in the folder and its subfolders.

    Raises:
        FileNotFoundError: there is no image of a kind.
        ValueError: an image of another size, or with white patches only.
    """
    return [read_image(path, label) for path, label in image_paths(folder)]


def image_paths(folder: Path) -> list[tuple[Path, int]]:
    """Return images with their labels, by name. Raises FileNotFoundError if there is no image of a kind."""
    images = [(path, label) for label, kind in enumerate(KINDS) for path in sorted(folder.rglob(f"*_{kind}*.tif"))]
    for label, kind in enumerate(KINDS):
        if label not in {own for _, own in images}:
            raise FileNotFoundError(f"{folder}: expected images *_{kind}*.tif of the UCSB data set, found none")
    return sorted(images, key=lambda pair: pair[0].name)


def read_image(path: Path, label: int) -> Image:
    """Return one image as a bag of patches. Raises ValueError: another size, or white patches only."""
    pixels = np.asarray(Picture.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    if (width, height) != SIZE:
        raise ValueError(f"{path}: expected {SIZE[0]}×{SIZE[1]} pixels, as in the UCSB data set, found {width}×{height}")
    patches, coords = grid(pixels, SIDE_PX)
    is_kept = (patches >= MIN_WHITE).all(axis=3).mean(axis=(1, 2)) < MAX_WHITE_SHARE
    if not is_kept.any():
        raise ValueError(f"{path}: all patches are white")
    return Image(path.stem, label, patches[is_kept], coords[is_kept])


def grid(pixels: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cut an image into adjacent patches, row by row; a remainder at the right and lower edges is dropped.

    Args:
        pixels: `(height, width, 3)`.
        side_px: side of a patch.

    Returns:
        Patches `(n, side_px, side_px, 3)`, and (x, y) of their top-left corners `(n, 2)`.
    """
    rows, columns = pixels.shape[0] // side_px, pixels.shape[1] // side_px
    cut = pixels[: rows * side_px, : columns * side_px].reshape(rows, side_px, columns, side_px, 3)
    y, x = np.divmod(np.arange(rows * columns), columns)
    return cut.swapaxes(1, 2).reshape(-1, side_px, side_px, 3), np.stack([x, y], axis=1) * side_px


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each fold of each model."""
    n_folds = SPLIT.folds * SPLIT.repeats
    pairs = [("attention", 0)] if fast else [(model, fold) for model in MODELS for fold in range(n_folds)]
    folds = [Fold("breast", model, fold, SPLIT, SIDE_PX) for model, fold in pairs]
    return [Run(f.name, f.as_json(), f.number, lambda f=f: f.work(lambda: read_breast(data / "breast"))) for f in folds]
