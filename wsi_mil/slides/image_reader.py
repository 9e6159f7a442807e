"""Plain images: PNG, JPEG, BMP, TIFF. Their resolution tags are not reliable, so the sheet must give it (TIFF excepted)."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_mil.config.readers import IMAGE
from wsi_mil.errors import SlideFormatError, UnknownFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.format import counted, orientation_note
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.slide import Slide, SlideSource, on_white

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow modes of at most 8 bits per channel; deeper ones would be clipped, not scaled, on conversion."""

PNG_DEPTH = 24
"""Place of the bits per channel in a PNG's header (IHDR): of 16 in colour Pillow keeps 8, and its mode does not say so."""

ORIENTATION = 274

STRIP_PX = 512
"""Height of the strips in which an image is converted."""

RESOLUTION_TAGS = {270: "tiff.ImageDescription", 282: "tiff.XResolution", 283: "tiff.YResolution", 296: "tiff.ResolutionUnit"}


class ImageReader(Slide):
    """Reader of a plain image: a slide of one level, held in memory."""

    reader = IMAGE

    def __init__(self, path: SlideSource, mpp_override: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, mpp_override, guess)
        self._pixels, self._format, self.properties = self._read()
        self.level_dimensions = ((self._pixels.shape[1], self._pixels.shape[0]),)
        self.level_downsamples = (1.0,)

    @property
    def resident_pixels(self) -> int:
        return self._pixels.size // 3

    def _close_file(self) -> None:
        self._pixels = np.zeros((0, 0, 3), np.uint8)

    @property
    def compression(self) -> str:
        return self._format

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        (x, y), (width, height) = corner, size
        return self._pixels[y : y + height, x : x + width]

    def _read(self) -> tuple[NDArray[np.uint8], str, dict[str, str]]:
        try:
            with (
                warnings.catch_warnings(action="ignore", category=UserWarning),  # about damaged tags
                warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
                Image.open(self.file, formats=FORMATS) as image,
            ):
                self._require_8_bits(image)
                self.notes = () if image.format == "TIFF" else tuple(_notes(image))
                return _rgb_on_white(image), image.format or "", _resolution_tags(image)
        except Image.DecompressionBombError as error:
            raise SlideFormatError(self.path, f"too large for a plain image ({error}); write it as a tiled TIFF") from error
        except UnidentifiedImageError as error:
            raise UnknownFormatError(self.path, f"no image of the formats {', '.join(FORMATS)}") from error
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a fault of the machine, not of the file
            raise SlideFormatError(self.path, f"cannot read the image ({error})") from error

    def _require_8_bits(self, image: Image.Image) -> None:
        found = "" if image.mode in MODES else f"its mode is {image.mode}"
        if image.format == "PNG" and _png_depth(Path(self.file)) > 8:
            found = "it has 16"
        if found:
            raise SlideFormatError(self.path, f"must have 8 bits per channel, but {found}; convert it to 8-bit RGB")


def _png_depth(file: Path) -> int:
    with file.open("rb") as opened:
        return opened.read(PNG_DEPTH + 1)[PNG_DEPTH]


def _rgb_on_white(image: Image.Image) -> NDArray[np.uint8]:
    """[height, width, 3] on white, converted strip by strip so that memory holds only Pillow's image and the result."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP_PX):
        bottom = min(top + STRIP_PX, image.height)
        pixels[top:bottom] = on_white(np.asarray(image.crop((0, top, image.width, bottom)).convert("RGBA")))
    return pixels


def _notes(image: Image.Image) -> Iterator[str]:
    """Notes on formats other than TIFF, whose tags tell more."""
    n_images = getattr(image, "n_frames", 1)
    orientation = image.getexif().get(ORIENTATION, 1)
    if n_images > 1:
        yield f"{counted(n_images - 1, 'further image')} in the file not read"
    if orientation != 1:
        yield orientation_note(orientation)


def _resolution_tags(image: Image.Image) -> dict[str, str]:
    """Resolution and description of a TIFF, named as by OpenSlide."""
    tags = getattr(image, "tag_v2", {})
    return {name: str(tags[number]) for number, name in RESOLUTION_TAGS.items() if number in tags}
