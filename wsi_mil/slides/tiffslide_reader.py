"""Reader based on tiffslide, for TIFFs that OpenSlide rejects and for URLs. The only importer of tiffslide."""

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config.readers import TIFFSLIDE
from wsi_mil.errors import SlideFormatError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.compression import tiff_compression
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.remote import RemoteFile
from wsi_mil.slides.resample import EXACT
from wsi_mil.slides.slide import Slide, SlideSource, on_white
from wsi_mil.slides.tiff_format import tiff_format

COLOURS = {("RGB", 3, 8), ("RGB", 4, 8), ("YCBCR", 3, 8), ("MINISBLACK", 1, 8)}
"""Photometric interpretation, samples and bits that tiffslide turns into correct colours."""

AXES = ("YXS", "YX")
"""Supported axis orders: rows, columns, interleaved samples."""


class TiffSlideReader(Slide):
    """Reader based on tiffslide, whose handles are not thread-safe, so that a lock guards the only one.

    Attributes:
        format: format of the file.
    """

    reader = TIFFSLIDE

    def __init__(self, path: SlideSource, mpp_override: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, mpp_override, guess)
        import tiffslide  # the import takes a third of a second, and most slides do not need it

        self._lock = threading.Lock()
        self._remote = RemoteFile(self.file) if isinstance(self.file, str) else None
        self.version = self._remote.remote.version if self._remote else self.version
        try:
            self._handle = tiffslide.TiffSlide(self._remote or self.file)
        except MemoryError:
            raise
        except Exception as error:  # tifffile and zarr raise anything from KeyError to struct.error on damaged files
            raise self._open_error(error) from error
        try:
            self._read_metadata()
        except (MemoryError, SlideFormatError):
            self._close_file()
            raise
        except Exception as error:  # as above
            self._close_file()
            raise self._open_error(error) from error

    def _open_error(self, error: Exception) -> SlideFormatError:
        self.require_readable_file()
        return SlideFormatError(self.path, f"tiffslide cannot open it ({error or type(error).__name__})")

    def _read_metadata(self) -> None:
        """Read levels, properties and format of the open file. Raises SlideFormatError if its samples are no colours."""
        dimensions = [(int(w), int(h)) for w, h in self._handle.level_dimensions]
        self._set_levels(dimensions, [float(d) for d in self._handle.level_downsamples])
        self.properties = {k: str(v) for k, v in self._handle.properties.items() if v is not None}
        self.format = tiff_format(self._handle.ts_tifffile)
        colours = _colours(self._handle.ts_tifffile.pages[0])
        axes = self.properties["tiffslide.series-axes"]
        if colours not in COLOURS or axes not in AXES:
            samples = "{} × {} of {} bits in the order {}".format(*colours, axes)
            raise SlideFormatError(
                self.path, f"tiffslide reads interleaved 8-bit RGB or grey samples, but the file has {samples}"
            )

    def _close_file(self) -> None:
        self._handle.close()
        if self._remote is not None:
            self._remote.close()

    def require_readable_file(self) -> None:
        super().require_readable_file()
        if self._remote is not None:
            self._remote.raise_fault()

    @property
    def compression(self) -> str:
        return tiff_compression(self.file, self.dimensions)

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        downsample = self.level_downsamples[level]
        # tiffslide rounds down to level pixels; rounding down here as well would shift by one pixel.
        location = math.ceil(corner[0] * downsample - EXACT), math.ceil(corner[1] * downsample - EXACT)
        try:
            with self._lock:
                image = self._handle.read_region(location, self._file_levels[level], size)
        except MemoryError:
            raise
        except Exception as error:  # as above
            self.require_readable_file()
            raise SlideReadError(self.path, f"cannot read {size} pixels at {location}, level {level} ({error})") from error
        return on_white(np.asarray(image.convert("RGBA")))


def _colours(page: Any) -> tuple[str, int, int]:
    """Photometric interpretation, samples and bits of a tifffile page."""
    return page.photometric.name, page.samplesperpixel, page.bitspersample
