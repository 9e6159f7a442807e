"""List the built-in encoders for the terminal, for programs and for docs/encoders.md. Nothing is downloaded."""

from collections.abc import Iterable

from wsi_mil.encoders.catalogue import RECORDS
from wsi_mil.encoders.hub import is_offline, manual_download
from wsi_mil.encoders.presence import has_weights
from wsi_mil.encoders.record import EncoderRecord

POOLINGS = {"own": "the architecture's own", "cls": "class token", "mean": "mean of places", "cls+mean": "class token, mean"}


def rows() -> list[dict[str, object]]:
    """Return the built-in encoders with the availability of their weights, JSON-serialisable."""
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
    """Return where an encoder's weights are, or how to get them, in a few words."""
    if has_weights(record):
        return "in the cache" if record.hub else "packaged"
    if record.hub is None:
        return "package not installed"
    return f"download {record.files[0]}" if is_offline() else "on the Hub"


def download_hint(record: EncoderRecord) -> str:
    """Return how to get the weights without a network; "" for packaged weights."""
    return manual_download(record.hub) if record.hub else ""


def tiling_text(record: EncoderRecord) -> str:
    """Return the recommended tiling, µm per pixel × pixels, and the encoder's other training resolutions."""
    if not record.mpps:
        return "any"
    others = ", ".join(f"{mpp:g}" for mpp in record.mpps[1:])
    return f"{record.mpps[0]:g} µm × {record.tile_px} px" + (f" (also {others})" if others else "")


def markdown_table() -> str:
    """Return the table of docs/encoders.md."""
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
