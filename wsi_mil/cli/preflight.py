"""Checks before and after a run: the commands `inspect`, `doctor` and `verify`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.cli.folders import Directory, configuration, paths_of
from wsi_mil.cli.options import Device, Threads, config_values, use_remote
from wsi_mil.errors import WsiMilError
from wsi_mil.runtime.threads import limit_threads, usable_cores
from wsi_mil.units import SANE_MPP

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
"""Exit code if something would fail; errors of the user have another one."""

WIDE = 10_000
"""Console width that no line reaches, so that lines are not wrapped."""


@commands.command()
def inspect(
    slide: Annotated[str, typer.Argument(help="the slide file, or its URL")],
    mpp: Annotated[
        Optional[float], typer.Option(min=SANE_MPP[0], max=SANE_MPP[1], help="µm per pixel of level 0; overrides the file")
    ] = None,
    reader: Annotated[Optional[str], typer.Option(help="as slide.reader: auto, or the name of a reader")] = None,
    annotation: Annotated[Optional[Path], typer.Option(help="annotation of the slide, if it decides which tiles are cut")] = None,
    mask: Annotated[Optional[Path], typer.Option(help="tissue mask of the slide, from another tool")] = None,
    configfile: Annotated[Optional[Path], typer.Option(help="configuration with the tilings to try; else the default")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    threads: Threads = 1,
) -> None:
    """Show the properties of a slide file and how many tiles to expect."""
    limit_threads(threads)
    from wsi_mil.inspection import inspect_slide
    from wsi_mil.tile.supplied import SuppliedFiles

    path = slide if "://" in slide else Path(slide)
    tilings = _tilings(configfile, reader)
    inspection = inspect_slide(path, tilings, mpp=mpp, supplied=SuppliedFiles(annotation, mask), threads=threads)
    if as_json:
        print(json.dumps(inspection.as_json()))  # ASCII, which every terminal and pipe accepts
    else:
        _console().print(_inspection_table(inspection))
    if any(expected.status in ("failed", "skipped") for expected in inspection.tilings.values()):
        raise typer.Exit(WOULD_FAIL)


@commands.command()
def doctor(
    configfile: Annotated[Optional[Path], typer.Option(help="the configuration; default: my.yaml, else config.yaml")] = None,
    threads: Annotated[Optional[int], typer.Option(min=1, help="slides checked in parallel; default: one per core")] = None,
    every: Annotated[bool, typer.Option("--all", help="also list slides without problems")] = False,
    device: Device = "auto",
    directory: Directory = None,
) -> None:
    """Check slides, encoder weights, disk space and GPU before a run; exit code 1 if something would fail."""
    limit_threads(1)
    file = configuration(configfile)
    values = config_values(file)
    use_remote(values)
    with paths_of(file, values, directory):
        _examine(values, threads, device, every=every)


def _examine(values: dict[str, Any], threads: int | None, device: str, *, every: bool) -> None:
    """Check everything, in the folder of the run, and print what was found."""
    from wsi_mil.check import check
    from wsi_mil.doctor import FAULTS, disk_need, examine, find_encoders
    from wsi_mil.runtime.progress import ProgressMeter

    plan = check(values, needs_slides=False)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with ProgressMeter("doctor", total=len(plan.rows), unit="slides") as meter:
        findings = examine(plan, threads=threads or usable_cores(), advance=meter.advance)
    _print_slides(plan, findings, every=every)
    weights = find_encoders(plan.config)
    disk = disk_need(plan.config, findings)
    device_text, has_device = _device(device)
    for entry in plan.config.imported:
        what = "vectors of slides" if plan.config.encoders[entry].is_of_slides else "features"
        _console().print(f"encoder {entry}: imported {what}", soft_wrap=True)
    _print_rest(weights, disk, device_text)
    would_fail = any(source.missing for source in weights.values()) or not disk.is_enough or not has_device
    if would_fail or any(finding.verdict in FAULTS for finding in findings):
        raise typer.Exit(WOULD_FAIL)


def _tilings(configfile: Path | None, reader: str | None) -> "dict[str, TileSettings]":
    """Settings of `tile` for each tiling of a configuration, or the default."""
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
    """Description of the device that would be used, and whether it is available."""
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


def _inspection_table(inspection: "Inspection") -> "Table":
    table = _plain_table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    size = inspection.size_mm and f", {inspection.size_mm[0]:.2f} × {inspection.size_mm[1]:.2f} mm"
    rows: list[tuple[str, Any]] = [
        ("slide", inspection.path),
        ("dimensions", f"{_by(inspection.dimensions)} px{size or ''}"),
        ("mpp", _mpp_text(inspection)),
        *(("", note) for note in inspection.notes),
        ("objective", f"{inspection.objective_power:g}×" if inspection.objective_power else "unknown"),
        ("levels", _level_table(inspection)),
        ("bounds", "{}, {}: {} × {} px".format(*inspection.bounds) if inspection.bounds else "none"),
        ("reader", inspection.reader),
        ("vendor", inspection.vendor or "unknown"),
        ("compression", inspection.compression or "unknown"),
        ("tissue", _tissue_text(inspection)),
        *((f"tiles, {name}", _expected_text(expected, inspection)) for name, expected in inspection.tilings.items()),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _mpp_text(inspection: "Inspection") -> str:
    if inspection.mpp is None:
        return inspection.reason.removeprefix(f"{inspection.path}: ")
    return f"{inspection.mpp.x:.4g} × {inspection.mpp.y:.4g} µm ({inspection.mpp_source})"


def _tissue_text(inspection: "Inspection") -> str:
    if inspection.tissue_share is None:
        return "not measured"
    cut = f"; {inspection.cut_area_um2 / 1e6:.2f} mm² cut out" if inspection.cut_area_um2 else ""
    return f"{inspection.tissue_share:.1%} of the slide{cut}"


def _level_table(inspection: "Inspection") -> "Table":
    table = _plain_table("level", "px", "downsample", "µm per pixel")
    for number, level in enumerate(inspection.levels):
        mpp = f"{level.mpp.x:.4g} × {level.mpp.y:.4g}" if level.mpp else "?"
        table.add_row(str(number), _by(level.dimensions), f"{level.downsample:.4g}", mpp)
    return table


@commands.command()
def verify(
    results: Annotated[Path, typer.Argument(help="results folder")] = Path("results"),
    discard: Annotated[bool, typer.Option(help="delete damaged stores; `snakemake tiles features` makes them again")] = False,
    threads: Threads = 1,
) -> None:
    """Check every store of tiles and features against its receipt."""
    limit_threads(threads)
    from collections import Counter

    from wsi_mil.verify import discard as discard_store
    from wsi_mil.verify import verify as check_stores

    verdicts: Counter[str] = Counter()
    n_bytes = 0
    for store in check_stores(results, threads=threads):
        verdicts[store.verdict] += 1
        n_bytes += store.n_bytes
        for fault in store.faults:
            print(f"{store.verdict}: {store.receipt}: {fault}")
        if discard and store.verdict == "damaged":
            discard_store(store)
            print(f"deleted: {store.receipt}")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    print(f"{verdicts.total()} stores and receipts, {_gb(n_bytes)}: {counts}")
    if verdicts["damaged"]:
        raise typer.Exit(WOULD_FAIL)


def _expected_text(expected: "ExpectedTiles", inspection: "Inspection") -> str:
    if expected.reason and expected.reason == inspection.reason:
        return f"none ({expected.status}, see mpp)"
    parts = [_count(expected), *([f"{expected.status}: {expected.reason}"] if expected.reason else [])]
    further_warnings = (text for text in expected.warnings if text not in inspection.notes)
    return "; ".join([*parts, *further_warnings])


def _count(expected: "ExpectedTiles") -> str:
    if expected.n_tiles is None:
        return "-"
    prefix = {"exact": "", "estimate": "about ", "at most": "at most "}[expected.accuracy]
    return f"{prefix}{expected.n_tiles:,}"


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} × {pair[1]:,}"


def _print_slides(plan: "Plan", findings: "list[Finding]", *, every: bool) -> None:
    """Print a table of the slides with problems (or all), the problems below each slide, and a summary line."""
    console = _console()
    tilings = list(dict.fromkeys(name for finding in findings for name in finding.tiles))
    shown = [(row.path, f) for row, f in zip(plan.rows, findings, strict=True) if every or f.has_problems]
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
    """Lines of a table, not wrapped."""
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
    space = f"feature stores need {_gb(disk.needed)}{unknown}, {disk.folder} has {_gb(disk.free)} free"
    for line in (*lines, f"disk: {verdict}{space}", f"device: {device}"):
        _console().print(line, soft_wrap=True)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
