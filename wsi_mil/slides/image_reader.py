"""Plain images: PNG, JPEG, BMP, TIFF. They say no resolution that could be trusted: it stands in the sheet."""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_mil.config.readers import IMAGE
from wsi_mil.errors import SlideFormatError, UnknownFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.format import counted, orientation_note
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.slide import Slide, Source, on_white

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
"""Of eight bits or fewer: others would be cut off, not scaled."""

ORIENTATION = 274

STRIP_PX = 512
"""Height of the strips in which it is brought into its final form."""

RESOLUTION_TAGS = {270: "tiff.ImageDescription", 282: "tiff.XResolution", 283: "tiff.YResolution", 296: "tiff.ResolutionUnit"}


class ImageReader(Slide):
    """A plain image as a slide of one level, held in memory."""

    reader = IMAGE

    def __init__(self, path: Source, given: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, given, guess)
        self._pixels, self._format, self.properties = self._read()
        self.level_dimensions = ((self._pixels.shape[1], self._pixels.shape[0]),)
        self.level_downsamples = (1.0,)

    @property
    def held_px(self) -> int:
        return self._pixels.size // 3

    def _let_go(self) -> None:
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
                warnings.catch_warnings(action="ignore", category=UserWarning),  # of damaged tags
                warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
                Image.open(self.file, formats=FORMATS) as image,
            ):
                self._refuse_deep(image)
                self.notes = () if image.format == "TIFF" else tuple(_notes(image))
                return _pixels_of(image), image.format or "", _resolution_tags(image)
        except Image.DecompressionBombError as error:
            raise SlideFormatError(self.path, f"too large for a plain image ({error}); write it as a tiled TIFF") from error
        except UnidentifiedImageError as error:
            raise UnknownFormatError(self.path, f"no image of the formats {', '.join(FORMATS)}") from error
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the machine's fault, not the file's
            raise SlideFormatError(self.path, f"cannot read the image ({error})") from error

    def _refuse_deep(self, image: Image.Image) -> None:
        if image.mode not in MODES:
            raise SlideFormatError(self.path, f"images of 8 bits per channel are read, this one has mode {image.mode}")


def _pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """[height, width, 3] on white. Strip by strip: beside what Pillow holds (4 bytes per pixel) there is the result alone."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP_PX):
        bottom = min(top + STRIP_PX, image.height)
        pixels[top:bottom] = on_white(np.asarray(image.crop((0, top, image.width, bottom)).convert("RGBA")))
    return pixels


def _notes(image: Image.Image) -> Iterator[str]:
    """Of what is no TIFF, whose tags say more."""
    n, orientation = getattr(image, "n_frames", 1), image.getexif().get(ORIENTATION, 1)
    if n > 1:
        yield f"{counted(n - 1, 'further image')} in the file not read"
    if orientation != 1:
        yield orientation_note(orientation)


def _resolution_tags(image: Image.Image) -> dict[str, str]:
    """Resolution and description of a TIFF under the names that OpenSlide gives them."""
    tags = getattr(image, "tag_v2", {})
    return {name: str(tags[number]) for number, name in RESOLUTION_TAGS.items() if number in tags}
