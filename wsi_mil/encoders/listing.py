"""The encoders with a record as a list: for the terminal, for programs and for docs/encoders.md. Nothing is fetched."""

from collections.abc import Iterable

from wsi_mil.encoders.catalogue import RECORDS
from wsi_mil.encoders.hub import bring, is_offline
from wsi_mil.encoders.presence import has_weights
from wsi_mil.encoders.record import EncoderRecord

POOLINGS = {"own": "the architecture's own", "cls": "class token", "mean": "mean of places", "cls+mean": "class token, mean"}


def rows() -> list[dict[str, object]]:
    """Each record's facts, and whether its weights are on this machine, as JSON holds them."""
    return [
        {
            "encoder": record.name,
            "title": record.title,
            "features": record.dim,
            "input_px": record.input_px,
            "mpp": list(record.mpps),
            "tile_px": record.tile_px,
            "pooling": record.pooling,
            "million_parameters": record.million_parameters,
            "licence": record.licence,
            "gated": record.gated,
            "repository": record.repository or None,
            "revision": record.hub and (record.revision or "main"),
            "file": record.files[0] if record.hub else None,
            "on_this_machine": has_weights(record),
            "weights": availability(record),
        }
        for record in RECORDS.values()
    ]


def availability(record: EncoderRecord) -> str:
    """Where its weights are, or how they come here, in a few words."""
    if has_weights(record):
        return "in the cache" if record.hub else "packaged"
    if record.hub is None:
        return "package not installed"
    return f"bring {record.files[0]}" if is_offline() else "on the Hub"


def how_to_bring(record: EncoderRecord) -> str:
    """What to do on a machine without network; "" for packaged weights."""
    return bring(record.hub) if record.hub else ""


def tiling_text(record: EncoderRecord) -> str:
    """The recommended tiling: µm per pixel × pixels, and the other scales it was trained on."""
    if not record.mpps:
        return "any"
    others = ", ".join(f"{mpp:g}" for mpp in record.mpps[1:])
    return f"{record.mpps[0]:g} µm × {record.tile_px} px" + (f" (also {others})" if others else "")


def markdown_table() -> str:
    """The table of docs/encoders.md."""
    head = (
        "`encoder:`",
        "model",
        "features",
        "pooling",
        "input px",
        "tiling",
        "parameters",
        "licence",
        "gated",
        "weights on the Hub",
    )
    lines = [_line(head), _line("---" for _ in head)]
    lines += [_line(_cells(record)) for record in RECORDS.values()]
    notes = [f"- `{record.name}`: {record.note}." for record in RECORDS.values() if record.note]
    return "\n".join([*lines, "", *notes, ""])


def _cells(record: EncoderRecord) -> list[str]:
    where = f"[{record.repository}]({record.hub.page}) @ {(record.revision or 'main')[:8]}" if record.hub else "Python package"
    px = f"{record.input_px}" + (f" of {record.resize_px}" if record.resize_px != record.input_px else "")
    return [
        f"`{record.name}`",
        record.title,
        f"{record.dim:,}",
        POOLINGS[record.pooling],
        px,
        tiling_text(record),
        f"{record.million_parameters:,} M",
        record.licence,
        "yes" if record.gated else "no",
        where,
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
