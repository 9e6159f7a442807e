"""OpenSlide: the reader that knows most formats. The only importer of openslide."""

import threading

import numpy as np
import openslide
from numpy.typing import NDArray

from wsi_mil.errors import SlideFormatError, SlideReadError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.compression import tiff_compression
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.slide import Slide, Source, on_white

_FAULTS = (openslide.OpenSlideError, OSError)


class OpenSlideReader(Slide):
    """A slide through OpenSlide."""

    reader = "openslide"

    def __init__(self, path: Source, given: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, given, guess)
        self._lock = threading.Lock()
        self._handle = self._open()
        self.level_dimensions = tuple(self._handle.level_dimensions)
        self.level_downsamples = tuple(self._handle.level_downsamples)
        self.properties = dict(self._handle.properties)

    def _let_go(self) -> None:
        self._handle.close()

    @property
    def compression(self) -> str:
        return tiff_compression(self.file, self.dimensions)

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.file)
        except _FAULTS as error:
            self.refuse_machine_faults()
            raise SlideFormatError(self.path, f"OpenSlide cannot open it ({error or type(error).__name__})") from error

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        handle = self._handle
        downsample = self.level_downsamples[level]
        location = (round(corner[0] * downsample), round(corner[1] * downsample))
        try:
            return on_white(np.asarray(handle.read_region(location, level, size)))
        except _FAULTS:
            self.refuse_machine_faults()
        # After an error a handle fails for ever, in every thread: only a handle of one's own tells whose fault it was.
        try:
            self._replace(handle)
            with self._open() as own:
                return on_white(np.asarray(own.read_region(location, level, size)))
        except (*_FAULTS, SlideFormatError) as error:
            self.refuse_machine_faults()
            raise SlideReadError(self.path, f"cannot read {size} pixels at {location}, level {level} ({error})") from error

    def _replace(self, broken: openslide.OpenSlide) -> None:
        with self._lock:
            if self._handle is broken:
                self._handle = self._open()
