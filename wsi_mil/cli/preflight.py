"""What is looked at before a run or after it: inspect, doctor, verify."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.cli.options import Device, Threads, config_values, use_remote
from wsi_mil.errors import WsiMilError
from wsi_mil.geometry import SANE_MPP
from wsi_mil.runtime.threads import limit_threads, usable_cores

if TYPE_CHECKING:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    from wsi_mil.check import Plan
    from wsi_mil.config import TileSettings
    from wsi_mil.doctor import DiskNeed, Finding
    from wsi_mil.encoders import Weights
    from wsi_mil.inspection import ExpectedTiles, Inspection

commands = typer.Typer()

WOULD_FAIL = 1
"""Exit code where something would fail; faults of the user have their own."""

WIDE = 10_000
"""Columns that no line reaches."""


@commands.command()
def inspect(
    slide: Annotated[str, typer.Argument(help="the slide file, or its URL")],
    mpp: Annotated[
        Optional[float], typer.Option(min=SANE_MPP[0], max=SANE_MPP[1], help="µm per pixel of level 0, over the file's")
    ] = None,
    reader: Annotated[Optional[str], typer.Option(help="as slide.reader: auto, or the name of a reader")] = None,
    annotation: Annotated[Optional[Path], typer.Option(help="its annotation, where tissue or tiles follow it")] = None,
    mask: Annotated[Optional[Path], typer.Option(help="its tissue mask, made by another tool")] = None,
    configfile: Annotated[Optional[Path], typer.Option(help="configuration whose tilings are tried; else the defaults")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    threads: Threads = 1,
) -> None:
    """Show what a slide file is, and how many tiles to expect."""
    limit_threads(threads)
    from wsi_mil.inspection import inspect_slide
    from wsi_mil.tile.supplied import SuppliedFiles

    path = slide if "://" in slide else Path(slide)
    tilings = _tilings(configfile, reader)
    found = inspect_slide(path, tilings, mpp=mpp, supplied=SuppliedFiles(annotation, mask), threads=threads)
    if as_json:
        print(json.dumps(found.as_json()))  # in ASCII, which every terminal and pipe can take
    else:
        _console().print(_inspection_table(found))
    if any(expected.status in ("failed", "skipped") for expected in found.tilings.values()):
        raise typer.Exit(WOULD_FAIL)


@commands.command()
def doctor(
    configfile: Annotated[Path, typer.Option(help="the configuration")] = Path("config.yaml"),
    threads: Annotated[Optional[int], typer.Option(min=1, help="slides looked at at once; else one for each core")] = None,
    every: Annotated[bool, typer.Option("--all", help="list slides that are fine, too")] = False,
    device: Device = "auto",
) -> None:
    """Try every slide, the encoders, disk and GPU before a run; exit code 1 where something would fail."""
    limit_threads(1)
    from wsi_mil.check import check
    from wsi_mil.doctor import FAULTS, disk_need, examine, find_encoders
    from wsi_mil.runtime.progress import ProgressMeter

    values = config_values(configfile)
    use_remote(values)
    plan = check(values, needs_slides=False)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with ProgressMeter("doctor", total=len(plan.rows), unit="slides") as meter:
        findings = examine(plan, threads=threads or usable_cores(), advance=meter.advance)
    _print_slides(plan, findings, every=every)
    weights, disk, (where, has_device) = find_encoders(plan.config), disk_need(plan.config, findings), _device(device)
    for entry in plan.config.imported:
        _console().print(f"encoder {entry}: imported features", soft_wrap=True)
    _print_rest(weights, disk, where)
    lacks = any(found.missing for found in weights.values()) or not disk.is_enough or not has_device
    if lacks or any(finding.verdict in FAULTS for finding in findings):
        raise typer.Exit(WOULD_FAIL)


def _tilings(configfile: Path | None, reader: str | None) -> "dict[str, TileSettings]":
    """What `tile` reads by tiling, of a configuration or by default."""
    from wsi_mil.config import Config, TileSettings, parse_settings

    if configfile is None:
        tilings: dict[str, dict[str, Any]] = {"default": {}}
    else:
        values = config_values(configfile)
        use_remote(values)
        config = parse_settings(Config, values)
        shared = {"slide": config.slide.model_dump(), "tissue": config.tissue.model_dump(), "origin": config.truth.origin}
        tilings = {name: {**shared, "tiling": tiling.model_dump()} for name, tiling in config.tilings.items()}
    if reader is not None:
        tilings = {name: {**values, "slide": {**values.get("slide", {}), "reader": reader}} for name, values in tilings.items()}
    return {name: parse_settings(TileSettings, values) for name, values in tilings.items()}


def _device(name: str) -> tuple[str, bool]:
    """The device that would compute, in words, and whether it is there."""
    from wsi_mil.devices import describe, find_device

    try:
        return describe(find_device(name)), True
    except WsiMilError as error:
        return f"FAILS: {error}", False


def _console() -> "Console":
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def _plain_table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=bool(columns), header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _inspection_table(found: "Inspection") -> "Table":
    table = _plain_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    size = found.size_mm and f", {found.size_mm[0]:.2f} × {found.size_mm[1]:.2f} mm"
    rows: list[tuple[str, Any]] = [
        ("slide", found.path),
        ("dimensions", f"{_by(found.dimensions)} px{size or ''}"),
        ("mpp", _mpp_text(found)),
        *(("", note) for note in found.notes),
        ("objective", f"{found.objective_power:g}×" if found.objective_power else "not said"),
        ("levels", _level_table(found)),
        ("bounds", "{}, {}: {} × {} px".format(*found.bounds) if found.bounds else "none"),
        ("reader", found.reader),
        ("vendor", found.vendor or "not said"),
        ("compression", found.compression or "not said"),
        ("tissue", _tissue_text(found)),
        *((f"tiles, {name}", _expected_text(expected, found)) for name, expected in found.tilings.items()),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _mpp_text(found: "Inspection") -> str:
    if found.mpp is None:
        return found.reason.removeprefix(f"{found.path}: ")
    return f"{found.mpp.x:.4g} × {found.mpp.y:.4g} µm ({found.mpp_source})"


def _tissue_text(found: "Inspection") -> str:
    if found.tissue_share is None:
        return "not looked for"
    cut = f"; {found.cut_area_um2 / 1e6:.2f} mm² cut out" if found.cut_area_um2 else ""
    return f"{found.tissue_share:.1%} of the slide{cut}"


def _level_table(found: "Inspection") -> "Table":
    table = _plain_table("level", "px", "downsample", "µm per pixel")
    for number, level in enumerate(found.levels):
        mpp = f"{level.mpp.x:.4g} × {level.mpp.y:.4g}" if level.mpp else "?"
        table.add_row(str(number), _by(level.dimensions), f"{level.downsample:.4g}", mpp)
    return table


@commands.command()
def verify(
    results: Annotated[Path, typer.Argument(help="results folder")] = Path("results"),
    discard: Annotated[bool, typer.Option(help="take damaged stores away, which `snakemake tiles features` makes anew")] = False,
    threads: Threads = 1,
) -> None:
    """Read every store of tiles and features, and hold it against its receipt."""
    limit_threads(threads)
    from collections import Counter

    from wsi_mil.verify import discard as take_away
    from wsi_mil.verify import verify as verified

    verdicts: Counter[str] = Counter()
    n_bytes = 0
    for found in verified(results, threads=threads):
        verdicts[found.verdict] += 1
        n_bytes += found.n_bytes
        for fault in found.faults:
            print(f"{found.verdict}: {found.receipt}: {fault}")
        if discard and found.verdict == "damaged":
            take_away(found)
            print(f"taken away: {found.receipt}")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    print(f"{verdicts.total()} stores and receipts, {_gb(n_bytes)}: {counts}")
    if verdicts["damaged"]:
        raise typer.Exit(WOULD_FAIL)


def _expected_text(expected: "ExpectedTiles", found: "Inspection") -> str:
    if expected.reason and expected.reason == found.reason:
        return f"none ({expected.status}, see mpp)"
    parts = [_count(expected), *([f"{expected.status}: {expected.reason}"] if expected.reason else [])]
    own = (text for text in expected.warnings if text not in found.notes)
    return "; ".join([*parts, *own])


def _count(expected: "ExpectedTiles") -> str:
    if expected.n_tiles is None:
        return "-"
    prefix = {"exact": "", "estimate": "about ", "at most": "at most "}[expected.accuracy]
    return f"{prefix}{expected.n_tiles:,}"


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} × {pair[1]:,}"


def _print_slides(plan: "Plan", findings: "list[Finding]", *, every: bool) -> None:
    """One table of the slides that there is something to say about, what to know below each, and a line about all."""
    console, tilings = _console(), list(dict.fromkeys(name for finding in findings for name in finding.tiles))
    shown = [(row.path, f) for row, f in zip(plan.rows, findings, strict=True) if every or f.needs_a_look]
    table = _plain_table("slide_id", "status", "mpp", "reader", *(f"tiles {name}" for name in tilings))
    for _, finding in shown:
        table.add_row(*_finding_cells(finding, tilings))
    header, *lines = _lines(table)
    if shown:
        console.print(header, soft_wrap=True)
    for line, (path, finding) in zip(lines, shown, strict=True):
        console.print(line, soft_wrap=True)
        for text in filter(None, (finding.reason, *finding.warnings)):
            console.print(_indented(text.replace(str(path), Path(path).name)))
    console.print(_summary(findings))
    cut = [area for f in findings if f.slide and (area := f.slide.cut_area_um2)]
    if cut:
        slides = "slide" if len(cut) == 1 else "slides"
        console.print(f"tissue.exclude_classes cuts {sum(cut) / 1e6:.2f} mm² out of the tissue of {len(cut)} {slides}")


def _lines(table: "Table") -> list[str]:
    """A table as lines that are as long as they must be."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False, width=WIDE, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _indented(text: str) -> "Padding":
    from rich.padding import Padding

    return Padding(text, (0, 0, 0, 4), expand=False)


def _finding_cells(finding: "Finding", tilings: list[str]) -> list[str]:
    slide = finding.slide
    source = slide.mpp_source.split(", ")[0].removesuffix(".mpp-x") if slide else ""
    mpp = f"{slide.mpp.x:.4g} ({source})" if slide and slide.mpp else "?"
    counts = [_count(finding.tiles[name]) if name in finding.tiles else "-" for name in tilings]
    return [finding.slide_id, finding.verdict, mpp, slide.reader if slide else "-", *counts]


def _summary(findings: "list[Finding]") -> str:
    from collections import Counter

    verdicts = Counter(str(finding.verdict) for finding in findings)
    tiles: Counter[str] = Counter()
    for finding in findings:
        tiles.update({name: expected.n_tiles or 0 for name, expected in finding.tiles.items() if expected.status == "ok"})
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items(), key=lambda pair: -pair[1]))
    return f"{len(findings)} slides: {counts}; tiles: " + (", ".join(f"{n:,} {name}" for name, n in tiles.items()) or "none")


def _print_rest(weights: "dict[str, Weights]", disk: "DiskNeed", device: str) -> None:
    lines = [
        f"encoder {entry}: " + (f"FAILS: {w.source}; {w.missing}" if w.missing else w.source) for entry, w in weights.items()
    ]
    unknown = f" (unknown for {', '.join(disk.unknown)})" if disk.unknown else ""
    verdict = "" if disk.is_enough else "FAILS: "
    room = f"feature stores need {_gb(disk.needed)}{unknown}, {disk.folder} has {_gb(disk.free)} free"
    for line in (*lines, f"disk: {verdict}{room}", f"device: {device}"):
        _console().print(line, soft_wrap=True)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
