"""tiffslide: reads TIFFs that OpenSlide refuses, and those behind a URL. The only importer of tiffslide."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import SlideFormatError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.compression import tiff_compression
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.slide import Slide, on_white


class TiffSlideReader(Slide):
    """A slide through tiffslide. Its handles are not safe in threads: one stands under a lock."""

    reader = "tiffslide"

    def __init__(self, path: Path | str, given: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, given, guess)
        import tiffslide  # takes a third of a second, and most slides are read otherwise

        self._lock = threading.Lock()
        try:
            self._handle = tiffslide.TiffSlide(path)
            self.level_dimensions = tuple((int(w), int(h)) for w, h in self._handle.level_dimensions)
            self.level_downsamples = tuple(float(d) for d in self._handle.level_downsamples)
            self.properties = {k: str(v) for k, v in self._handle.properties.items() if v is not None}
        except MemoryError:
            raise
        except Exception as error:  # tifffile and zarr raise anything from KeyError to struct.error on damaged files
            raise SlideFormatError(path, f"tiffslide cannot open it ({error or type(error).__name__})") from error

    def close(self) -> None:
        self._handle.close()

    @property
    def compression(self) -> str:
        return tiff_compression(self.path, self.dimensions)

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        downsample = self.level_downsamples[level]
        location = (round(corner[0] * downsample), round(corner[1] * downsample))
        try:
            with self._lock:
                image = self._handle.read_region(location, level, size)
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise SlideReadError(self.path, f"cannot read {size} pixels at {location}, level {level} ({error})") from error
        return on_white(np.asarray(image.convert("RGBA")))
