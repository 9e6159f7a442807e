"""The command `encoders`."""

import json
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wsi_mil.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from wsi_mil.encoders import EncoderRecord

commands = typer.Typer()

WIDE = 10_000
"""Console width that no line reaches, so that lines are not wrapped."""

COLUMNS: "dict[str, JustifyMethod]" = {
    "encoder": "left",
    "features": "right",
    "input px": "right",
    "tiling": "left",
    "licence": "left",
    "gated": "left",
    "weights": "left",
}


@commands.command()
def encoders(
    name: Annotated[Optional[str], typer.Argument(help="show the details of this encoder")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    markdown: Annotated[bool, typer.Option(hidden=True, help="print the table of docs/encoders.md")] = False,
) -> None:
    """List the known encoders with licence, recommended tiling, and whether their weights are available; no download."""
    from wsi_mil.config import nearest
    from wsi_mil.encoders import RECORDS
    from wsi_mil.encoders.listing import markdown_table, rows

    if name is not None and name not in RECORDS:
        raise ConfigError([f"no known encoder {name!r}{nearest(name, list(RECORDS))}"])
    if markdown:
        print(markdown_table(), end="")
    elif as_json:
        records = [row for row in rows() if name in (None, row["encoder"])]
        print(json.dumps(records if name is None else records[0]))
    elif name is not None:
        _print_one(RECORDS[name])
    else:
        _print_all()


def _print_all() -> None:
    """Print one unwrapped line for each record."""
    from rich.console import Console
    from rich.table import Table

    from wsi_mil.encoders import RECORDS
    from wsi_mil.encoders.listing import availability, tiling_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in COLUMNS.items():
        table.add_column(column, justify=justify)
    for record in RECORDS.values():
        gated = "yes" if record.gated else ""
        cells = (f"{record.dim:,}", str(record.input_px), tiling_text(record), record.licence, gated, availability(record))
        table.add_row(record.name, *cells)
    wide = Console(markup=False, highlight=False, emoji=False, width=WIDE, no_color=True)
    with wide.capture() as capture:
        wide.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())
    print("\nAny timm model works by its name, too. Details, and which files to supply without a network: wsi-mil encoders NAME")


def _print_one(record: "EncoderRecord") -> None:
    from wsi_mil.encoders.listing import POOLINGS, availability, download_hint, tiling_text

    arguments = ", ".join(f"{key}={value}" for key, value in record.arguments.items())
    cropped = f", cropped from {record.resize_px} px" if record.resize_px != record.input_px else ""
    fields = [
        ("encoder", f"{record.name}: {record.title}"),
        ("features", f"{record.dim:,} ({POOLINGS[record.pooling]})"),
        ("network", f"{record.architecture} (timm), {record.million_parameters:,} million parameters"),
        ("arguments", arguments),
        ("images", f"{record.input_px} px{cropped}"),
        ("resized", f"{record.interpolation}, mean {record.mean}, std {record.std}"),
        ("tiling", tiling_text(record)),
        ("licence", record.licence + (f"; accept it at {record.hub.page}" if record.gated and record.hub else "")),
        ("weights", f"{record.hub.identity}, {availability(record)}" if record.hub else availability(record)),
        ("no network", download_hint(record)),
        ("note", record.note),
    ]
    for label, text in fields:
        if text:
            print(f"{label:<12}{text}")
