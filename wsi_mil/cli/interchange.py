"""Features of other tools, and features for them: import-features, export-features."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wsi_mil.cli.options import Threads
from wsi_mil.errors import ConfigError, FeatureFileError
from wsi_mil.geometry import SANE_MPP
from wsi_mil.runtime.threads import limit_threads

if TYPE_CHECKING:
    from wsi_mil.records import SlideRow

commands = typer.Typer()

NOT_ALL = 1
"""Exit code where a slide that was asked for could not be exported."""

LEAST, MOST = SANE_MPP


@commands.command(name="import-features")
def import_features(
    files: Annotated[list[Path], typer.Argument(help="feature files, or folders that hold them")],
    encoder: Annotated[str, typer.Option(help="the encoder entry that they are for, with features: imported")],
    results: Annotated[Path, typer.Option(help="folder of results")] = Path("results"),
    slides: Annotated[Optional[Path], typer.Option(help="the cohort sheet; else each file is a slide of its name")] = None,
    layout: Annotated[str, typer.Option(help="auto (by content), clam, trident, stamp or pt")] = "auto",
    coords: Annotated[Optional[Path], typer.Option(help="HDF5 file or folder with the coords, where the files have none")] = None,
    tile_px_level0: Annotated[Optional[int], typer.Option(min=1, help="side of a tile, level-0 pixels")] = None,
    tile_px: Annotated[Optional[int], typer.Option(min=1, help="side of a tile as the encoder saw it, pixels")] = None,
    mpp: Annotated[Optional[float], typer.Option(min=LEAST, max=MOST, help="µm per pixel of the tiles, as meant")] = None,
    slide_mpp: Annotated[Optional[float], typer.Option(min=LEAST, max=MOST, help="µm per pixel of level 0")] = None,
    name: Annotated[str, typer.Option(help="what made the features, where the files do not say it")] = "",
    threads: Threads = 1,
) -> None:
    """Take over features that another tool extracted; the same content is not written again."""
    limit_threads(threads)
    from wsi_mil.interchange import ImportOptions, find_sources, import_slide

    _refuse_unknown(layout, encoder)
    found, notes = find_sources(files, _rows(slides), coords, layout)
    given, faults = ImportOptions(tile_px_level0, tile_px, mpp, slide_mpp, name), []
    for source in found:
        try:
            done = import_slide(source, results, encoder, given, layout)
        except FeatureFileError as error:
            faults.append(str(error))
            continue
        what = "" if done.is_new else ", the same as before"
        loss = f", rounded to float16 by up to {done.rounded:.2g} of a feature" if done.rounded else ""
        print(f"{done.slide_id}: {done.n_tiles} tiles × {done.dim} ({done.layout}{what}){loss}")
        for warning in done.warnings:
            print(f"warning: {done.slide_id}: {warning}", file=sys.stderr)
    for note in notes:
        print(f"left out: {note}", file=sys.stderr)
    if faults:
        raise ConfigError(faults)
    if not found:
        raise ConfigError([f"{slides}: no slide of the sheet has a file; files are found by slide_id or the slide file's name"])


@commands.command(name="export-features")
def export_features(
    source: Annotated[Path, typer.Argument(help="folder of results, or of the features of one encoder entry")],
    layout: Annotated[str, typer.Option(help="clam, trident, stamp or pt")],
    out: Annotated[Path, typer.Option(help="folder to write into")],
    encoder: Annotated[str, typer.Option(help="encoder entry, where SOURCE is a folder of results")] = "",
    slide: Annotated[Optional[list[str]], typer.Option(help="only these slides; can be given again")] = None,
    threads: Threads = 1,
) -> None:
    """Write features as files of another tool; exit code 1 where a slide is not finished."""
    limit_threads(threads)
    from wsi_mil.interchange import export_features as export

    if layout == "auto":
        raise ConfigError(["--layout: expected clam, trident, stamp or pt, got 'auto'"])
    _refuse_unknown(layout, encoder or "any")
    done = list(export(_features_folder(source, encoder), layout, out, slide or ()))
    for slide_done in done:
        if slide_done.reason:
            print(f"not exported: {slide_done.slide_id}: {slide_done.reason}", file=sys.stderr)
        else:
            print(f"{slide_done.slide_id}: {slide_done.n_tiles} tiles: {', '.join(map(str, slide_done.files))}")
    if any(slide_done.is_fault for slide_done in done) or not any(slide_done.files for slide_done in done):
        raise typer.Exit(NOT_ALL)


def _refuse_unknown(layout: str, encoder: str) -> None:
    """Raise ConfigError where there is no such layout, or a name that cannot be of an encoder entry."""
    import re

    from wsi_mil.config import ENTRY_PATTERN, nearest
    from wsi_mil.interchange import LAYOUTS

    faults = []
    if layout not in ("auto", *LAYOUTS):
        faults.append(f"--layout: no layout {layout!r}{nearest(layout, list(LAYOUTS))}")
    if not re.fullmatch(ENTRY_PATTERN, encoder):
        faults.append(f"--encoder: {encoder!r} must be small letters, digits, '_' and '-', as entries of `encoders` are")
    if faults:
        raise ConfigError(faults)


def _rows(sheet: Path | None) -> "tuple[SlideRow, ...] | None":
    """The slides of a sheet, whatever their labels. Raises ConfigError."""
    if sheet is None:
        return None
    from wsi_mil.cohort import read_sheet

    found = read_sheet(sheet, None, needs_path=False)
    if found.faults:
        raise ConfigError(list(found.faults))
    return found.rows


def _features_folder(source: Path, encoder: str) -> Path:
    from wsi_mil.results import Results

    results = Results(source)
    if encoder:
        return results.features(encoder)
    if results.encoders:
        entries = ", ".join(results.encoders)
        raise ConfigError([f"{source} is a folder of results: say whose features with --encoder (there are {entries})"])
    return source
