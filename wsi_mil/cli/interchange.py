"""The commands `import-features` and `export-features`, which exchange features with other tools."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeVar

import typer

from wsi_mil.cli.options import Threads
from wsi_mil.errors import ConfigError, FeatureFileError
from wsi_mil.runtime.threads import limit_threads
from wsi_mil.units import SANE_MPP

if TYPE_CHECKING:
    from wsi_mil.interchange import ImportOptions, ImportResult, TableOptions
    from wsi_mil.records import SlideRow

T = TypeVar("T")

commands = typer.Typer()

NOT_ALL = 1
"""Exit code if a requested slide could not be exported."""

LEAST, MOST = SANE_MPP


@commands.command(name="import-features")
def import_features(
    files: Annotated[list[Path], typer.Argument(help="feature files, or folders that contain them")],
    encoder: Annotated[str, typer.Option(help="encoder entry with `features: imported` that they belong to")],
    results: Annotated[Path, typer.Option(help="results folder")] = Path("results"),
    slides: Annotated[Optional[Path], typer.Option(help="cohort sheet; without it the file names are the slide_ids")] = None,
    of: Annotated[str, typer.Option(help="tile, or slide: one vector for each slide, from .h5, .pt, .npy or a table")] = "tile",
    layout: Annotated[str, typer.Option(help="auto (detected from the content), clam, trident, stamp or pt")] = "auto",
    coords: Annotated[Optional[Path], typer.Option(help="HDF5 file or folder with tile coords, if the files lack them")] = None,
    tile_px_level0: Annotated[Optional[int], typer.Option(min=1, help="side of a tile, level-0 pixels")] = None,
    tile_px: Annotated[Optional[int], typer.Option(min=1, help="side of a tile as given to the encoder, pixels")] = None,
    mpp: Annotated[Optional[float], typer.Option(min=LEAST, max=MOST, help="nominal µm per pixel of the tiles")] = None,
    slide_mpp: Annotated[Optional[float], typer.Option(min=LEAST, max=MOST, help="µm per pixel of level 0")] = None,
    name: Annotated[str, typer.Option(help="name of the encoder that made the features, if the files do not name it")] = "",
    threads: Threads = 1,
) -> None:
    """Import features that another tool extracted, of tiles or of slides; unchanged features are not written again."""
    limit_threads(threads)
    from wsi_mil.interchange import LAYOUTS, ImportOptions, find_sources, import_slide

    _require_known(layout, encoder, ("auto", *LAYOUTS))
    given = ImportOptions(tile_px_level0, tile_px, mpp, slide_mpp, name)
    _require_fit_of(of, layout, coords, given)
    if of == "slide":
        _import_vectors(files, _rows(slides), (results, encoder), name, slides)
        return
    sources, notes = find_sources(files, _rows(slides), coords, layout)
    _import_all(sources, lambda source: import_slide(source, results, encoder, given, layout), notes, [], slides)


def _import_vectors(
    files: list[Path], rows: "tuple[SlideRow, ...] | None", to: tuple[Path, str], name: str, sheet: Path | None
) -> None:
    """Import vectors of slides to an entry of a results folder."""
    from wsi_mil.interchange import import_vector, match_vectors, of_one_length, vectors_of

    vectors, faults = vectors_of(files)
    sources, notes = match_vectors(vectors, rows)
    fitting, unfit = of_one_length(sources, *to)
    faults += unfit
    _import_all(fitting, lambda source: import_vector(source, *to, name), notes, faults, sheet)


def _import_all(
    sources: Sequence[T], run: "Callable[[T], ImportResult]", notes: list[str], faults: list[str], sheet: Path | None
) -> None:
    """Import each source and say so; raise ConfigError with all faults at the end."""
    for source in sources:
        try:
            done = run(source)
        except FeatureFileError as error:
            faults.append(str(error))
            continue
        unchanged = "" if done.is_new else ", unchanged"
        loss = f", rounded to float16 with a relative error of up to {done.rounded:.2g}" if done.rounded else ""
        print(f"{done.slide_id}: {done.size} ({done.layout}{unchanged}){loss}")
        for warning in done.warnings:
            print(f"warning: {done.slide_id}: {warning}", file=sys.stderr)
    for note in notes:
        print(f"skipped: {note}", file=sys.stderr)
    if faults:
        raise ConfigError(faults)
    if not sources:
        raise ConfigError([f"{sheet}: no slide of the sheet has a file; files are matched by slide_id or the slide file's name"])


def _require_fit_of(of: str, layout: str, coords: Path | None, given: "ImportOptions") -> None:
    """Raise ConfigError if options of tiles are given for vectors of slides."""
    from wsi_mil.config import nearest

    if of not in ("tile", "slide"):
        raise ConfigError([f"--of: expected tile or slide, got {of!r}{nearest(of, ['tile', 'slide'])}"])
    options: dict[str, object] = {
        "--coords": coords,
        "--tile-px-level0": given.tile_px_level0,
        "--tile-px": given.tile_px,
        "--mpp": given.mpp,
    }
    options |= {"--slide-mpp": given.slide_mpp, "--layout": None if layout == "auto" else layout}
    unfit = [name for name, value in options.items() if value is not None]
    if of == "slide" and unfit:
        raise ConfigError([f"{', '.join(unfit)}: a vector of a slide has no tiles; leave out what describes them, or --of slide"])


@commands.command(name="export-features")
def export_features(
    source: Annotated[Path, typer.Argument(help="results folder, or the features folder of one encoder entry")],
    layout: Annotated[str, typer.Option(help="clam, trident, stamp, pt, anndata or spatialdata")],
    out: Annotated[Path, typer.Option(help="output folder")],
    encoder: Annotated[str, typer.Option(help="encoder entry, if SOURCE is a results folder")] = "",
    slide: Annotated[Optional[list[str]], typer.Option(help="export only this slide; may be repeated")] = None,
    scores: Annotated[
        Optional[Path], typer.Option(help="anndata, spatialdata: scores of a model, results/scores/TARGET/ENCODER/MODEL")
    ] = None,
    together: Annotated[bool, typer.Option(help="anndata: one file for all slides, cohort.h5ad")] = False,
    image: Annotated[bool, typer.Option(help="anndata, spatialdata: with the thumbnail of each slide")] = True,
    threads: Threads = 1,
) -> None:
    """Export features in the file format of another tool, or with scores as tables; exit code 1 if a slide is unfinished."""
    limit_threads(threads)
    from wsi_mil.interchange import LAYOUTS, TABLES, TableOptions, export_tables
    from wsi_mil.interchange import export_features as export

    _require_known(layout, encoder or "any", (*LAYOUTS, *TABLES))
    options = TableOptions(scores, together, image)
    _require_fit(layout, options, out)
    features = _features_folder(source, encoder)
    if layout in TABLES:
        outcomes = export_tables(features, layout, out, options, slide or ())
    else:
        outcomes = export(features, layout, out, slide or ())
    exported = []
    for done in outcomes:
        exported.append(done)
        for warning in done.warnings:
            print(f"warning: {done.slide_id}: {warning}", file=sys.stderr)
        if done.reason:
            print(f"not exported: {done.slide_id}: {done.reason}", file=sys.stderr)
        else:
            print(f"{done.slide_id}: {done.n_tiles} tiles: {', '.join(map(str, done.files))}")
    if any(done.is_fault for done in exported) or not any(done.files for done in exported):
        raise typer.Exit(NOT_ALL)


def _require_fit(layout: str, options: "TableOptions", out: Path) -> None:
    """Raise ConfigError if there are options that a layout does not have, or the output folder is none."""
    from wsi_mil.interchange import TABLES

    faults = []
    if options.scores is not None and layout not in TABLES:
        faults.append(f"--scores: layout {layout} has features only; take --layout anndata or spatialdata")
    if options.together and layout != "anndata":
        faults.append(f"--together: layout {layout} has a file for each slide; take --layout anndata, or leave --together out")
    if out.exists() and not out.is_dir():
        faults.append(f"--out {out}: expected a folder, found a file")
    if faults:
        raise ConfigError(faults)


def _require_known(layout: str, encoder: str, layouts: tuple[str, ...]) -> None:
    """Raise ConfigError if the layout is unknown or the name is not valid for an encoder entry."""
    import re

    from wsi_mil.config import ENTRY_PATTERN, nearest

    faults = []
    if layout not in layouts:
        faults.append(f"--layout: no layout {layout!r}{nearest(layout, list(layouts))}; expected {', '.join(layouts)}")
    if not re.fullmatch(ENTRY_PATTERN, encoder):
        faults.append(f"--encoder: {encoder!r} must be lower-case letters, digits, '_' and '-', like an entry of `encoders`")
    if faults:
        raise ConfigError(faults)


def _rows(sheet: Path | None) -> "tuple[SlideRow, ...] | None":
    """Rows of a sheet, labels unchecked. Raises ConfigError."""
    if sheet is None:
        return None
    from wsi_mil.cohort import read_sheet

    read = read_sheet(sheet, {}, needs_path=False)
    if read.faults:
        raise ConfigError(list(read.faults))
    return read.rows


def _features_folder(source: Path, encoder: str) -> Path:
    from wsi_mil.results import Results

    results = Results(source)
    if encoder:
        return results.features(encoder)
    if results.encoders:
        entries = ", ".join(results.encoders)
        raise ConfigError([f"{source} is a results folder: choose the encoder entry with --encoder (there are {entries})"])
    return source
