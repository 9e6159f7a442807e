"""Reader based on OpenSlide, which supports most formats. The only importer of openslide."""

import threading
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.config.readers import OPENSLIDE
from wsi_mil.errors import SlideFormatError, SlideReadError, UnknownFormatError
from wsi_mil.geometry import Mpp
from wsi_mil.slides.compression import tiff_compression
from wsi_mil.slides.hidden_content import channel_fault, unread_notes
from wsi_mil.slides.mislabelled_colours import mislabelled_colours
from wsi_mil.slides.mpp import MppGuess
from wsi_mil.slides.slide import WHITE, Slide, SlideSource, on_white

SAMPLES, SAMPLE_PX = 4, 64
"""Samples along each axis of a slide, and their side in level pixels."""

_FAULTS = (openslide.OpenSlideError, OSError)


class OpenSlideReader(Slide):
    """Reader based on OpenSlide."""

    reader = OPENSLIDE

    def __init__(self, path: SlideSource, mpp_override: Mpp | None = None, guess: MppGuess = MppGuess()):
        super().__init__(path, mpp_override, guess)
        self._lock = threading.Lock()
        self._handle = self._open()
        self.properties = dict(self._handle.properties)
        fault = channel_fault(self.properties)
        if fault:
            self._handle.close()
            raise SlideFormatError(self.path, fault)
        self._set_levels(self._handle.level_dimensions, self._handle.level_downsamples)
        self.notes += tuple(unread_notes(self.properties))
        self._ycbcr = self._ycbcr_levels()

    def _close_file(self) -> None:
        self._handle.close()

    @property
    def compression(self) -> str:
        return tiff_compression(self.file, self.dimensions)

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.file)
        except _FAULTS as error:
            self.require_readable_file()
            is_unknown = isinstance(error, openslide.OpenSlideUnsupportedFormatError)
            kind = UnknownFormatError if is_unknown else SlideFormatError
            raise kind(self.path, f"OpenSlide cannot open it ({error or type(error).__name__})") from error

    def _read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        handle = self._handle
        downsample = self.level_downsamples[level]
        location = (round(corner[0] * downsample), round(corner[1] * downsample))
        try:
            return self._coloured(handle.read_region(location, self._file_levels[level], size), level)
        except _FAULTS:
            self.require_readable_file()
        # After an error a handle fails for ever, in every thread; only a fresh handle tells whether this region is damaged.
        try:
            self._replace(handle)
            with self._open() as own:
                return self._coloured(own.read_region(location, self._file_levels[level], size), level)
        except (*_FAULTS, SlideFormatError) as error:
            self.require_readable_file()
            raise SlideReadError(self.path, f"cannot read {size} pixels at {location}, level {level} ({error})") from error

    def _coloured(self, image: Image.Image, level: int) -> NDArray[np.uint8]:
        """OpenSlide's RGBA on white, converted where OpenSlide took YCbCr for RGB."""
        return on_white(np.asarray(_from_ycbcr(image) if level in self._ycbcr else image))

    def _ycbcr_levels(self) -> frozenset[int]:
        """Levels that the file declares as RGB although their JPEG data are YCbCr."""
        wrong = mislabelled_colours(Path(self.file), self.properties)
        levels = [number for number, size in enumerate(self.level_dimensions) if size in wrong.as_rgb]
        mended = frozenset(number for number in levels if self._is_greyer_as_ycbcr(number))
        if mended:
            self.notes += ("its JPEG data are YCbCr though the file declares RGB: read as YCbCr",)
        if wrong.as_ycbcr:
            self.notes += (
                "its JPEG data are RGB though the file declares YCbCr: its colours are wrong, so export the slide again",
            )
        return mended

    def _is_greyer_as_ycbcr(self, level: int) -> bool:
        """Whether conversion brings samples of a level nearer to grey, as bright-field images are: JPEG markers can be wrong."""
        (width, height), downsample = self.level_dimensions[level], self.level_downsamples[level]
        before = after = 0.0
        for number in range(SAMPLES**2):
            x, y = (int((at + 0.5) / SAMPLES * side) for at, side in zip(divmod(number, SAMPLES), (width, height), strict=True))
            corner = round(x * downsample), round(y * downsample)
            try:
                image = self._handle.read_region(corner, self._file_levels[level], (SAMPLE_PX, SAMPLE_PX))
            except _FAULTS:  # other samples may be readable; damage is reported when the region is read
                self._replace(self._handle)
                continue
            before, after = before + _spread(image), after + _spread(_from_ycbcr(image))
        return after < before

    def _replace(self, broken: openslide.OpenSlide) -> None:
        with self._lock:
            if self._handle is broken:
                self._handle = self._open()


def _from_ycbcr(image: Image.Image) -> Image.Image:
    """RGBA from YCbCr with alpha that was taken for RGBA."""
    *channels, alpha = image.split()
    return Image.merge("RGBA", (*Image.merge("YCbCr", channels).convert("RGB").split(), alpha))


def _spread(image: Image.Image) -> float:
    """Mean difference between the brightest and the darkest channel of the opaque pixels of RGBA."""
    pixels = np.asarray(image, np.int16)
    opaque = pixels[pixels[..., 3] == WHITE][:, :3]
    return float((opaque.max(axis=1) - opaque.min(axis=1)).mean()) if len(opaque) else 0.0
