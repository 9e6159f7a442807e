"""Warnings about entries of `encoders` that are valid but probably not intended."""

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import RECORDS, record_of
from wsi_mil.encoders.names import HUB_PREFIXES
from wsi_mil.encoders.record import EncoderRecord

TOLERANCE = 1.5
"""Largest ratio between the resolution of an encoder's input and that of its training."""


def advice(entry: str, settings: EncoderSettings, *, mpp: float, tile_px: int) -> list[str]:
    """Return warnings about an entry of `encoders`.

    Args:
        entry: name of the entry.
        settings: settings of the entry.
        mpp: µm per pixel of its tiles.
        tile_px: side of its tiles.
    """
    record = record_of(settings.encoder)
    warnings = _name_warnings(settings) if record is None else _scale_warnings(record, mpp, tile_px)
    return [f"encoders.{entry}: {text}" for text in warnings]


def _scale_warnings(record: EncoderRecord, mpp: float, tile_px: int) -> list[str]:
    """Warning about input at a resolution that the network was not trained on."""
    actual = record.mpp_of_input(mpp, tile_px)
    trained = [record.mpp_of_input(each, record.tile_px) for each in record.mpps]
    if not trained or any(each / TOLERANCE <= actual <= each * TOLERANCE for each in trained):
        return []
    expected = ", ".join(f"{each:.2g}" for each in trained)
    return [
        f"{record.name} was trained at {expected} µm per pixel, but would see {actual:.2g} ({tile_px} px at {mpp:g} µm,"
        f" resized to {record.resize_px} px): set mpp {record.mpps[0]:g} and tile_px {record.tile_px} in its tiling"
    ]


def _name_warnings(settings: EncoderSettings) -> list[str]:
    """Warnings about a Hub model that has a record, or whose weights may change."""
    name = settings.encoder
    if not name.startswith(HUB_PREFIXES):
        return []
    repository, _, revision = name.partition(":")[2].partition("@")
    built_in = [r.name for r in RECORDS.values() if r.repository.lower() == repository.lower()]
    if built_in:
        return [f"{name} is built in: `encoder: {built_in[0]}` uses its authors' arguments, pooling and scale"]
    if not revision and settings.weights == "pretrained":
        return [f"{name} names no revision, so its weights may change: write {name}@COMMIT"]
    return []
