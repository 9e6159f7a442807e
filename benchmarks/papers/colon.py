"""Colon cancer images (Ilse, Tomczak, Welling 2018), with or without epithelial nuclei: patches of 27 px at nuclei."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.io import loadmat

from benchmarks.papers.histology import MODELS, Fold, Image
from benchmarks.papers.runs import Run
from wsi_mil.config import Split

SIDE_PX = 27
KINDS = ("epithelial", "fibroblast", "inflammatory", "others")
SPLIT = Split(folds=10, validation=0.1)
REPEATS = {**dict.fromkeys(MODELS, 1), "attention": 2}
"""Number of repeats of the cross-validation for each model; five in the paper."""


@cache
def read_colon(folder: Path, side_px: int = SIDE_PX) -> list[Image]:
    """Return all images of CRCHistoPhenotypes as bags, by number: `img7/img7.bmp`, `img7/img7_epithelial.mat` ….

    Args:
        folder: folder of the images.
        side_px: side of the patches, odd.

    Raises:
        FileNotFoundError: there is no image, or one without its four files of nuclei.
    """
    return [read_image(path, side_px) for path in image_paths(folder)]


def image_paths(folder: Path) -> list[Path]:
    """Return the images of the data set, by number. Raises FileNotFoundError if there is none."""
    numbers = sorted(int(path.stem.removeprefix("img")) for path in folder.glob("img*/img*.bmp"))
    if not numbers:
        raise FileNotFoundError(f"{folder}: expected images img1/img1.bmp and so on, as published; found none")
    return [folder / f"img{number}" / f"img{number}.bmp" for number in numbers]


def read_nuclei(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return (x, y) `(n, 2)` of an image's nuclei of each kind, as in the files: the top-left pixel is (1, 1)."""
    return {kind: loadmat(path.with_name(f"{path.stem}_{kind}.mat"))["detection"].reshape(-1, 2) for kind in KINDS}


def read_image(path: Path, side_px: int) -> Image:
    """Return one image as a bag of patches of a side, which is odd, at its nuclei."""
    pixels = np.asarray(Picture.open(path).convert("RGB"))
    nuclei = read_nuclei(path)
    centres = np.rint(np.concatenate([*nuclei.values()])).astype(np.int64) - 1
    patches, coords = patches_at(pixels, centres, side_px)
    positive = np.repeat(np.array(KINDS) == "epithelial", [len(n) for n in nuclei.values()])
    return Image(path.stem, int(positive.any()), patches, coords, positive)


def patches_at(
    pixels: NDArray[np.uint8], centres: NDArray[np.int64], side_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cut square patches around pixels; beyond its edges the image is mirrored.

    Args:
        pixels: `(height, width, 3)`.
        centres: `(n, 2)`, (x, y); those outside the image are moved to the nearest pixel.
        side_px: side of a patch, odd.

    Returns:
        Patches `(n, side_px, side_px, 3)`, and the (x, y) of their top-left corners in the image, which may be negative.
    """
    half, (height, width) = side_px // 2, pixels.shape[:2]
    centres = np.clip(centres, 0, (width - 1, height - 1))
    padded = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="reflect")
    patches = [padded[y : y + side_px, x : x + side_px] for x, y in centres]
    return np.stack(patches), centres - half


def fold_of(model: str, number: int) -> Fold:
    """Return a fold of a model; folds are numbered through all repeats, and each split has no more repeats than needed."""
    return Fold("colon", model, number, SPLIT.model_copy(update={"repeats": number // SPLIT.folds + 1}), SIDE_PX)


def runs(data: Path, *, fast: bool) -> list[Run]:
    """Return a run for each fold of each model, repeat by repeat."""
    numbers = [(model, number) for model in MODELS for number in range(SPLIT.folds * REPEATS[model])]
    pairs = [("attention", 0)] if fast else sorted(numbers, key=lambda pair: pair[1] // SPLIT.folds)
    folds = [fold_of(model, number) for model, number in pairs]
    return [Run(f.name, f.as_json(), f.number, lambda f=f: f.work(lambda: read_colon(data / "colon"))) for f in folds]
