"""Read tissue masks of other tools from label images: PNG, and TIFF of any size, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_mil.errors import MaskError
from wsi_mil.geometry import Window, windows
from wsi_mil.tissue import MaskPiece, TissueMask

PNG, TIFFS = b"\x89PNG\r\n\x1a\n", (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""Magic bytes of PNG, TIFF and BigTIFF."""

GREY_MODES = ("1", "L", "P", "LA", "PA", "I", "I;16", "I;16B", "I;16L")
COLOUR_MODES = ("RGB", "RGBA")
"""Pillow modes that are accepted if the pixels are grey."""

DEPTH_AND_COLOUR = slice(24, 26)
"""Bytes of a PNG's header (IHDR) with the bits per channel and the colour type."""
DEEP_CHANNELS = {b"\x10\x02": "RGB", b"\x10\x04": "grey and alpha", b"\x10\x06": "RGBA"}
"""PNGs of 16 bits of which Pillow keeps the high byte of each channel only; nothing in its mode says so."""

BLOCK_PX = 2048
MOST_BLOCK_PX = 1 << 28
"""Largest number of pixels decoded at once: a PNG, or a strip or tile of a TIFF."""

MANY = 12
"""Number of an image's values that messages list."""

WRITE_TILED = "save it as a tiled TIFF, or at a lower resolution"
WRITE_GREY = "save its labels as a grey image of 16 bits, or with 8 bits per channel if none is above 255"
ONE_CHANNEL = "expected one channel whose values are labels; export it so, or correct the sheet's `mask` column"

Block = tuple[Window, NDArray[Any]]
"""Window of a block in the image, and its labels [height, width]."""


@dataclass(frozen=True)
class LabelImage:
    """Tissue mask read from a label image.

    Attributes:
        mask: mask at the image's own resolution.
        values: values of the image, ascending.
    """

    mask: TissueMask
    values: tuple[int, ...]

    @property
    def dimensions(self) -> tuple[int, int]:
        """Return (width, height)."""
        return self.mask.shape[1], self.mask.shape[0]

    @property
    def values_in_words(self) -> str:
        """Return the values as text, or the first few of many."""
        named = ", ".join(str(value) for value in self.values[:MANY])
        return named if len(self.values) <= MANY else f"{named} and {len(self.values) - MANY} more"


def is_label_image(path: Path) -> bool:
    """Return whether a file is a PNG or TIFF by its magic bytes."""
    with path.open("rb") as file:
        start = file.read(len(PNG))
    return start == PNG or start[:4] in TIFFS


def read_label_image(path: Path, values: tuple[int, ...] | None) -> LabelImage:
    """Read a label image as tissue mask.

    Args:
        path: PNG or TIFF with one channel (or grey RGB) of integers. The labels of a palette image are its indices; of a
            pyramid the finest level is read, tile by tile.
        values: values of tissue; None: all but 0.

    Raises:
        MaskError: the file is no such image, or is damaged.
        OSError: the operating system cannot open the file.
    """
    with path.open("rb") as file:
        is_png = file.read(len(PNG)) == PNG
    all_values: set[int] = set()
    pieces: list[MaskPiece] = []
    shape = (0, 0)
    for window, labels in (_png_blocks if is_png else _tiff_blocks)(path):
        all_values.update(np.unique(labels).tolist())
        is_tissue = labels != 0 if values is None else np.isin(labels, values)
        pieces.append(MaskPiece.of(window, is_tissue))
        shape = max(shape[0], window.bottom), max(shape[1], window.right)
    return LabelImage(TissueMask.of(pieces, shape), tuple(sorted(int(value) for value in all_values)))


def _png_blocks(path: Path) -> Iterator[Block]:
    """Blocks of a PNG, which is decoded as a whole."""
    labels = _png_labels(path)
    for window in windows(labels.shape[:2], BLOCK_PX):
        part = labels[window.top : window.bottom, window.left : window.right]
        yield window, _one_channel(path, part)


def _png_labels(path: Path) -> NDArray[Any]:
    try:
        with (
            catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path, formats=("PNG",)) as image,
        ):
            if image.mode not in GREY_MODES + COLOUR_MODES:
                raise MaskError(path, f"is a PNG of mode {image.mode}; {ONE_CHANNEL}")
            if channels := _deep_channels(path):
                raise MaskError(path, f"is a PNG of 16 bits per channel ({channels}), which would be cut to 8; {WRITE_GREY}")
            labels = np.asarray(image)
    except Image.DecompressionBombError as error:
        raise MaskError(path, f"too large for a PNG ({error}); {WRITE_TILED}") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of the machine, not of the file
        raise MaskError(path, f"cannot read the PNG ({error}); export it again") from error
    return labels[..., :1] if image.mode in ("LA", "PA") else labels


def _deep_channels(path: Path) -> str:
    """Channels of a PNG that Pillow would cut to 8 bits, or ""."""
    with path.open("rb") as file:
        return DEEP_CHANNELS.get(file.read(DEPTH_AND_COLOUR.stop)[DEPTH_AND_COLOUR], "")


def _one_channel(path: Path, part: NDArray[Any]) -> NDArray[Any]:
    """Labels [height, width] of an image that may have several equal channels and an alpha channel."""
    if part.ndim == 2:
        return part
    colours = part[..., :3] if part.shape[-1] > 2 else part[..., :1]
    if (colours != colours[..., :1]).any():
        raise MaskError(path, f"is a colour image; {ONE_CHANNEL}")
    return colours[..., 0]


def _tiff_blocks(path: Path) -> Iterator[Block]:
    """Blocks of a TIFF: its tiles or strips."""
    blocks = _decoded(path)
    while True:
        try:
            yield next(blocks)
        except StopIteration:
            return
        except (MaskError, MemoryError):
            raise
        except Exception as error:  # tifffile raises anything from KeyError to struct.error on damaged files
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise MaskError(path, f"cannot read the TIFF ({error}); export it again") from error


def _decoded(path: Path) -> Iterator[Block]:
    with tifffile.TiffFile(path) as tif:
        page = _only_page(path, tif)
        size = page.imagelength, page.imagewidth
        height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, size[0]), size[1])
        if height * width > MOST_BLOCK_PX:
            raise MaskError(path, f"is stored in blocks of {width} × {height} pixels, too large to decode at once; {WRITE_TILED}")
        as_shown = _shown_values(page)
        for decoded, (_, _, top, left, _), _ in page.segments(maxworkers=1):
            window = Window(left, top, min(width, size[1] - left), min(height, size[0] - top))
            if decoded is None:  # a block without data in the file
                yield window, np.zeros((window.height, window.width), page.dtype)
            else:
                yield window, as_shown(_one_channel(path, decoded[0, : window.height, : window.width]))


def _only_page(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPage:
    """Finest level of the only image in the file.

    Raises:
        MaskError: other images are as large, or the pixels are no labels.
    """
    first, *others = tif.series
    page = _first_page(first.levels[0])
    n_pages = len(first.levels[0].pages) + sum(len(s.pages) for s in others if _area(_first_page(s)) >= _area(page))
    if n_pages > 1:
        raise MaskError(path, f"holds {n_pages} images of one size; expected one image, with or without smaller levels")
    if page.dtype is None or page.dtype.kind not in "bui":
        raise MaskError(path, f"has pixels of type {page.dtype}; expected integer labels")
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        raise MaskError(path, f"has {page.samplesperpixel} channels; {ONE_CHANNEL}")
    return page


def _first_page(series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    page = series.pages[0]
    if page is None:
        raise ValueError("a series without pages")
    return page.aspage()


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth * page.imagelength)


def _shown_values(page: tifffile.TiffPage) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Function from stored to displayed values: in some TIFFs 0 is white."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return lambda labels: labels
    return lambda labels: np.asarray((1 << page.bitspersample) - 1 - labels.astype(np.int64))
