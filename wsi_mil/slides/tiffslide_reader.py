"""tiffslide: reads TIFFs that OpenSlide refuses, and those behind a URL. The only importer of tiffslide."""

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
from wsi_mil.slides.slide import Slide, Source, on_white
from wsi_mil.slides.tiff_format import tiff_format

COLOURS = {("RGB", 3, 8), ("RGB", 4, 8), ("YCBCR", 3, 8), ("MINISBLACK", 1, 8)}
"""Photometric interpretation, samples and bits of what becomes the right colours."""

AXES = ("YXS", "YX")
"""Rows, columns, samples of a pixel side by side."""


class TiffSlideReader(Slide):
    """A slide through tiffslide. Its handles are not safe in threads: one stands under a lock.

    Attributes:
        format: what the file is.
    """

    reader = TIFFSLIDE

    def __init__(self, path: Source, given: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, given, guess)
        import tiffslide  # takes a third of a second, and most slides are read otherwise

        self._lock = threading.Lock()
        self._remote = RemoteFile(self.file) if isinstance(self.file, str) else None
        self.version = self._remote.about.version if self._remote else self.version
        try:
            self._handle = tiffslide.TiffSlide(self._remote or self.file)
        except MemoryError:
            raise
        except Exception as error:  # tifffile and zarr raise anything from KeyError to struct.error on damaged files
            raise self._refused(error) from error
        try:
            self._describe()
        except (MemoryError, SlideFormatError):
            self._let_go()
            raise
        except Exception as error:  # as above
            self._let_go()
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> SlideFormatError:
        self.refuse_machine_faults()
        return SlideFormatError(self.path, f"tiffslide cannot open it ({error or type(error).__name__})")

    def _describe(self) -> None:
        """Levels, properties and format of the open file. Raises SlideFormatError where its samples are no colours."""
        dimensions = [(int(w), int(h)) for w, h in self._handle.level_dimensions]
        self._take_levels(dimensions, [float(d) for d in self._handle.level_downsamples])
        self.properties = {k: str(v) for k, v in self._handle.properties.items() if v is not None}
        self.format = tiff_format(self._handle.ts_tifffile)
        colours, axes = _colours(self._handle.ts_tifffile.pages[0]), self.properties["tiffslide.series-axes"]
        if colours not in COLOURS or axes not in AXES:
            samples = "{} × {} of {} bits in the order {}".format(*colours, axes)
            raise SlideFormatError(self.path, f"tiffslide gives raw samples: {samples}, no RGB or grey of 8 pixel by pixel")

    def _let_go(self) -> None:
        self._handle.close()
        if self._remote is not None:
            self._remote.close()

    def refuse_machine_faults(self) -> None:
        super().refuse_machine_faults()
        if self._remote is not None:
            self._remote.refuse_faults()

    @property
    def compression(self) -> str:
        return tiff_compression(self.file, self.dimensions)

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        downsample = self.level_downsamples[level]
        # It rounds down to pixels of the level: what is rounded down before would lie one pixel off.
        location = math.ceil(corner[0] * downsample - EXACT), math.ceil(corner[1] * downsample - EXACT)
        try:
            with self._lock:
                image = self._handle.read_region(location, self._file_levels[level], size)
        except MemoryError:
            raise
        except Exception as error:  # as above
            self.refuse_machine_faults()
            raise SlideReadError(self.path, f"cannot read {size} pixels at {location}, level {level} ({error})") from error
        return on_white(np.asarray(image.convert("RGBA")))


def _colours(page: Any) -> tuple[str, int, int]:
    """Photometric interpretation, samples and bits of a page of tifffile's."""
    return page.photometric.name, page.samplesperpixel, page.bitspersample
