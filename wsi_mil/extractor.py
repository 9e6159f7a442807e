"""Extraction of slides by one encoder on one device; torch is imported when the first slide has tiles left to encode."""

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_mil.config import Encoder
from wsi_mil.extract import extract_slide, is_extracted
from wsi_mil.records import SlideRow, Status
from wsi_mil.runtime.hardware import fast_format

if TYPE_CHECKING:
    import torch

    from wsi_mil.encoders.encoder import TileEncoder

log = logging.getLogger(__name__)


class Extractor:
    """Extracts slides by an entry of `encoders`; the encoder is created for the first slide that needs it.

    Attributes:
        settings: the entry of `encoders`.
        device: name of the device.
        threads: number of threads.
    """

    def __init__(self, settings: Encoder, *, device: str, threads: int):
        self.settings = settings
        self.device = device
        self.threads = threads

    def extract(self, tiles_receipt: Path, row: SlideRow, receipt: Path) -> Status:
        """Extract one slide. Raises as `extract_slide` does, and WsiMilError if it needs a device that does not exist.

        What the machine says of its number format decides only that features are finished. Anything else asks torch.
        """
        slide = (tiles_receipt, row, self.settings, receipt)
        likely = self._likely_dtype
        if likely and is_extracted(tiles_receipt, row, self.settings, receipt, dtype=likely):
            return extract_slide(*slide, dtype=likely, encoder=self._encoder, threads=1)
        return extract_slide(*slide, dtype=self._dtype_name, encoder=self._encoder, threads=self._reading_threads)

    @cached_property
    def _likely_dtype(self) -> str | None:
        return fast_format(self.device) if self.settings.dtype == "auto" else self.settings.dtype

    @cached_property
    def _kind(self) -> "torch.device":
        from wsi_mil.devices import find_device, set_threads

        set_threads(self.threads)
        return find_device(self.device)

    @cached_property
    def _dtype(self) -> "torch.dtype":
        from wsi_mil.devices import fast_dtype

        return fast_dtype(self.settings.dtype, self._kind)

    @property
    def _dtype_name(self) -> str:
        return str(self._dtype).removeprefix("torch.")

    @property
    def _reading_threads(self) -> int:
        from wsi_mil.devices import reading_threads

        return reading_threads(self._kind, self.threads)

    def _encoder(self) -> "TileEncoder":
        return self._created

    @cached_property
    def _created(self) -> "TileEncoder":
        from wsi_mil.devices import create_device, keep_freed_memory
        from wsi_mil.encoders.encoder import create_encoder

        log.info("loading the encoder %s", self.settings.encoder)
        device = create_device(self.device)
        if device.type == "cpu":
            keep_freed_memory()
        log.info("encoding on %s in %s", device, self._dtype_name)
        return create_encoder(self.settings, device=device, dtype=self._dtype)
