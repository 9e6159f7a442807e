"""The commands `import-splits` and `export-splits`, which share splits with other tools."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from wsi_mil.cli.folders import Directory, configuration, paths_of
from wsi_mil.cli.options import config_values
from wsi_mil.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from wsi_mil.config import Config
    from wsi_mil.records import SlideRow
    from wsi_mil.tasks import Task

commands = typer.Typer()


@commands.command(name="import-splits")
def import_splits(
    source: Annotated[
        Path, typer.Argument(help="folder of CLAM's splits_{k}.csv, STAMP's splits.json or Patho-Bench's k=all.tsv")
    ],
    configfile: Annotated[Optional[Path], typer.Option(help="the configuration; default: my.yaml, else config.yaml")] = None,
    target: Annotated[str, typer.Option(help="the target whose slides are split, if the configuration has several")] = "",
    out: Annotated[Optional[Path], typer.Option(help="file to write; default: splits_{target}.csv beside the sheet")] = None,
    layout: Annotated[str, typer.Option(help="auto (by the names of the files), clam, stamp or patho-bench")] = "auto",
    subset: Annotated[bool, typer.Option(help="leave out slides that only the files or only the sheet has")] = False,
    directory: Directory = None,
) -> None:
    """Turn the splits of another tool into a file for `splits` in the configuration."""
    from wsi_mil.cohort.split_exchange import import_splits as imported
    from wsi_mil.cohort.split_layouts import SPLIT_LAYOUTS, read_shared
    from wsi_mil.cohort.splits import write_splits

    _require_layout(layout, ("auto", *SPLIT_LAYOUTS))
    file = configuration(configfile)
    values = config_values(file)
    shared = read_shared(source, layout)
    given, written = source.absolute(), out and out.absolute()
    with paths_of(file, values, directory):
        config, rows, name = _rows_of_target(values, target)
        place = written or config.cohort.absolute().parent / f"splits_{name}.csv"
        _require_new(place, given)
        splits, notes = imported(shared, rows, _task(config, name), config.split, subset=subset)
        write_splits(place, splits)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    folds = "1 fold" if splits.n_folds == 1 else f"{splits.n_folds} folds"
    print(f"{place}: {len(splits.labels)} slides of {len(set(splits.patients.values()))} patients in {folds} ({shared.layout})")
    print(f"in {file}: splits: {{{name}: {place}}}")


@commands.command(name="export-splits")
def export_splits(
    splits: Annotated[Path, typer.Argument(help="splits of a run, results/splits/{target}.csv")],
    layout: Annotated[str, typer.Option(help="clam, stamp or patho-bench")],
    out: Annotated[Path, typer.Option(help="output folder")],
) -> None:
    """Write the splits of a run in the files of another tool."""
    from wsi_mil.cohort.split_layouts import OMITTED, PARTS, SPLIT_LAYOUTS, SPLIT_WRITERS
    from wsi_mil.cohort.splits import read_splits

    _require_layout(layout, SPLIT_LAYOUTS)
    if out.exists() and not out.is_dir():
        raise ConfigError([f"--out {out}: expected a folder, found a file"])
    try:
        read = read_splits(splits)
    except StoreError as error:
        raise ConfigError([str(error)]) from error
    outside = sorted(s for s in read.labels if all(roles[s] not in PARTS for roles in read.roles))
    for file in SPLIT_WRITERS[layout](out, read, splits.stem):
        print(file)
    rest = f"; nor {len(outside)} slides that are in no part" if outside else ""
    print(f"note: the files do not say {OMITTED[layout]}{rest}", file=sys.stderr)


def _require_layout(layout: str, layouts: tuple[str, ...]) -> None:
    from wsi_mil.config import nearest

    if layout not in layouts:
        raise ConfigError([f"--layout: no layout {layout!r}{nearest(layout, list(layouts))}; expected {', '.join(layouts)}"])


def _require_new(place: Path, source: Path) -> None:
    if place == source or place.is_dir():
        raise ConfigError([f"--out {place}: is what is read, or a folder; give the splits.csv to write"])


def _rows_of_target(values: "dict[str, Any]", target: str) -> "tuple[Config, list[SlideRow], str]":
    """Configuration, rows of its sheet with the labels of a target, and the target's name. Raises ConfigError."""
    from wsi_mil.cohort import SheetColumns, read_sheet
    from wsi_mil.config import Config, nearest, parse_settings

    config = parse_settings(Config, values)
    names = list(config.targets)
    if not target and len(names) > 1:
        raise ConfigError([f"--target: the configuration has {', '.join(names)}; name the one whose slides are split"])
    name = target or names[0]
    if name not in names:
        raise ConfigError([f"--target: no target {name!r}{nearest(name, names)}"])
    sheet = read_sheet(config.cohort, config.targets, needs_path=False, columns=SheetColumns.of(config.split, None))
    if sheet.faults:
        raise ConfigError(list(sheet.faults))
    return config, [row.for_target(name) for row in sheet.rows], name


def _task(config: "Config", target: str) -> "Task":
    from wsi_mil.tasks import task_of

    return task_of(config.targets[target])
