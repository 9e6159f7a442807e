"""The command `init`."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wsi_mil.units import SANE_MPP
from wsi_mil.wording import named

if TYPE_CHECKING:
    from wsi_mil.init.draft import Draft
    from wsi_mil.init.guessing import Candidate

commands = typer.Typer()

MOST_LISTED = 5
EVERYTHING = 1_000_000


@commands.command()
def init(
    slides: Annotated[list[Path], typer.Argument(help="slide files, and folders that are searched for slides")],
    table: Annotated[Optional[Path], typer.Option(help="clinical table: CSV, TSV or .xlsx, a row per patient or slide")] = None,
    out: Annotated[Path, typer.Option(help="folder for cohort.csv and my.yaml")] = Path(),
    sheet: Annotated[
        Optional[str], typer.Option(help="sheet of the workbook; default: the one that fits the slides best")
    ] = None,
    slide_column: Annotated[Optional[str], typer.Option(help="column of the table with names of slides or files")] = None,
    patient_column: Annotated[Optional[str], typer.Option(help="column of the table with patients")] = None,
    target: Annotated[Optional[list[str]], typer.Option(help="column to learn, once per column; default: guessed")] = None,
    encoder: Annotated[Optional[str], typer.Option(help="a name from `wsi-mil encoders`; its tiling is used")] = None,
    mpp: Annotated[
        Optional[float], typer.Option(min=SANE_MPP[0], max=SANE_MPP[1], help="µm per pixel of slides whose files have none")
    ] = None,
    images: Annotated[
        Optional[bool],
        typer.Option("--images/--no-images", help="take PNG, JPEG and BMP as slides; default: if there are no others"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    every: Annotated[bool, typer.Option("--all", help="list all names, not only the first of each kind")] = False,
) -> None:
    """Write cohort.csv and my.yaml from a folder of slides and a clinical table; nothing is overwritten."""
    from wsi_mil.encoders import DEFAULT_ENCODER
    from wsi_mil.init.draft import Request, draft, require_writable, write
    from wsi_mil.init.matching import Asked

    require_writable(out)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # files that cannot be read are listed, with the reason
    asked = Asked(slide_column, patient_column)
    request = Request(
        tuple(slides), table, out, sheet, asked, tuple(target or ()), encoder or DEFAULT_ENCODER, mpp=mpp, images=images
    )
    made = draft(request)
    _print_found(made, most=EVERYTHING if every else MOST_LISTED)
    _print_targets(made, most=EVERYTHING if every else MOST_LISTED)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm("Write these files? (--target COLUMN chooses others)", default=True, abort=True)
    write(request, made)
    _print_next(made, out)


def _print_found(made: "Draft", *, most: int) -> None:
    found, matched = made.found, made.matched
    _line("slides", f"{len(found.slides)}")
    for note in found.notes:
        _line("", note)
    if found.refused:
        texts = [f"{path}: {reason}" for path, reason in found.refused]
        _line("", f"{_counted(len(texts), 'file')} with the name or content of a slide cannot be used:")
        for text in texts[:most]:
            _line("", f"  {text}")
        if len(texts) > most:
            _line("", f"  and {len(texts) - most} more (--all)")
    _print_matched(made, most=most)
    n_patients = len(set(matched.patients.values()))
    source = (
        f"from {matched.patient_source}"
        if matched.patient_source
        else "every slide is a patient of its own; if that is wrong, correct the column patient_id"
    )
    _line("patients", f"{n_patients}, {source}")
    _line("resolution", _resolution(made))
    for note in made.notes:
        _line("", note)


def _print_matched(made: "Draft", *, most: int) -> None:
    matched, table = made.matched, made.matched.table
    if table is None or matched.key is None:
        for note in matched.notes:
            _line("", note)
        return
    _line("table", f"{table.title}: {len(table.rows)} rows, {len(table.columns)} columns")
    for note in (*table.notes, *matched.notes):
        _line("", note)
    n = sum(map(bool, matched.rows.values()))
    how = "names of slides" if matched.key.how == "slide" else "patients"
    used = len(table.rows) - len(matched.unused_rows)
    _line(
        "matched",
        f"{n} of {len(matched.rows)} slides, {used} of {len(table.rows)} rows, by column {matched.key.column!r} ({how})",
    )
    without = [slide_id for slide_id, rows in matched.rows.items() if not rows]
    if without:
        _line("", f"{_counted(len(without), 'slide')} without a certain row, predicted only: {named(without, most=most)}")
    if matched.unused_rows:
        rows = [f"{table.rows[at][1][matched.key.column] or '(empty)'} (row {table.rows[at][0]})" for at in matched.unused_rows]
        _line("", f"{_counted(len(rows), 'row')} without a slide, left out: {named(rows, most=most)}")


def _resolution(made: "Draft") -> str:
    values = sorted({round(slide.mpp.x, 3) for slide in made.found.slides if slide.mpp})
    missing = [slide.slide_id for slide in made.found.slides if slide.mpp is None]
    span = f"{values[0]:g}" + (f" to {values[-1]:g}" if len(values) > 1 else "") + " µm per pixel" if values else ""
    if not missing:
        return span
    lacking = f"none in the file of {_counted(len(missing), 'slide')}: {named(missing)}"
    given = "" if made.setup.missing_mpp else "; filled in the column mpp"
    return f"{span + '; ' if span else ''}{lacking}{given or '; write it in the column mpp of cohort.csv, or give --mpp'}"


def _print_targets(made: "Draft", *, most: int) -> None:
    for number, candidate in enumerate(made.active):
        _line("targets" if number == 0 else "", _target_text(candidate))
    if not made.active and made.offered:
        _line("targets", "none that is sure: check those in my.yaml, correct cohort.csv if needed, and remove the '# ' of one")
    elif not made.active:
        where = " in the table: correct it and start again, or" if made.matched.table else ":"
        _line("targets", f"none found{where} fill the column 'label' of cohort.csv, and write its values in my.yaml")
    if made.offered:
        names = [f"{candidate.entry} ({candidate.kind})" for candidate in made.offered]
        _line("", f"{len(names)}{' more' if made.active else ''} in my.yaml as comments: {named(names, most=most)}")
    for number, (name, reason) in enumerate(made.failed[:most]):
        _line("" if number else "not targets", f"{name}: {reason}")
    if made.refused:
        is_whole = most == EVERYTHING or not (made.active or made.offered)
        names = [f"{name} ({reason})" if is_whole else name for name, reason in made.refused]
        hint = "" if is_whole else " (--all says why)"
        _line("" if made.failed else "not targets", named(names, most=most) + hint)


def _target_text(candidate: "Candidate") -> str:
    columns = " and ".join(candidate.source)
    return f"{candidate.entry}: {candidate.kind} from {columns}: {candidate.remark}"


def _print_next(made: "Draft", out: Path) -> None:
    from wsi_mil.init.writing import CONFIG, SHEET

    config = shlex.quote(str(out / CONFIG))
    _line("written", f"{out / SHEET} ({len(made.found.slides)} rows), {out / CONFIG}")
    print(f"\nNext{'' if made.active else ', when the labels are filled in or a target is chosen'}:")
    commands = {
        f"wsi-mil check {config}": "errors in sheet and configuration",
        f"wsi-mil doctor --configfile {config}": "reads every slide, counts tiles, checks disk and GPU",
        f"wsi-mil run {config}": "the run, up to the report",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        print(f"  {command:<{width}}  # {purpose}")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _line(label: str, text: str) -> None:
    print(f"{label:<12}{text}")
