"""What a user should know of an entry of `encoders` before the run, though it is no fault."""

from wsi_mil.config import Encoder as EncoderSettings
from wsi_mil.encoders.catalogue import RECORDS, record_of
from wsi_mil.encoders.names import HUB_PREFIXES
from wsi_mil.encoders.record import EncoderRecord

TOLERANCE = 1.5
"""How many times larger or smaller than it was made for an encoder may see tissue."""


def advice(entry: str, settings: EncoderSettings, *, mpp: float, tile_px: int) -> list[str]:
    """Warnings about an entry.

    Args:
        entry: its name.
        settings: the entry.
        mpp: µm per pixel of its tiles.
        tile_px: side of its tiles.
    """
    record = record_of(settings.encoder)
    found = _of_name(settings) if record is None else _of_scale(record, mpp, tile_px)
    return [f"encoders.{entry}: {text}" for text in found]


def _of_scale(record: EncoderRecord, mpp: float, tile_px: int) -> list[str]:
    """Whether tissue appears to the network about as large as it was trained on."""
    seen = record.mpp_of_input(mpp, tile_px)
    wanted = [record.mpp_of_input(each, record.tile_px) for each in record.mpps]
    if not wanted or any(each / TOLERANCE <= seen <= each * TOLERANCE for each in wanted):
        return []
    made_for = ", ".join(f"{each:.2g}" for each in wanted)
    return [
        f"{record.name} would see tissue at {seen:.2g} µm per pixel ({tile_px} px at {mpp:g} µm become {record.resize_px} px),"
        f" and was made for {made_for}: tile with mpp {record.mpps[0]:g} and tile_px {record.tile_px}"
    ]


def _of_name(settings: EncoderSettings) -> list[str]:
    """Whether a name of the Hub has a record, and whether its weights can change under it."""
    name = settings.encoder
    if not name.startswith(HUB_PREFIXES):
        return []
    repository, _, revision = name.partition(":")[2].partition("@")
    known = [r.name for r in RECORDS.values() if r.repository.lower() == repository.lower()]
    if known:
        return [f"{name} has a record: `encoder: {known[0]}` sets its arguments, pooling and scale as its authors do"]
    if not revision and settings.weights == "pretrained":
        return [f"{name} names no revision, so its weights may change under it: write {name}@COMMIT"]
    return []
