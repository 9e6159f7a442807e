"""Read the covariates of targets from the cells of a sheet."""

from collections.abc import Iterable, Mapping

from wsi_mil.cohort.labels import AMBIGUOUS, WITH_THOUSANDS, CellFault
from wsi_mil.config import Target
from wsi_mil.covariates import number_of
from wsi_mil.records import SlideRow


def covariate_columns(targets: Mapping[str, Target]) -> dict[str, str]:
    """Return the columns of covariates, with the key of the first target that names them."""
    columns: dict[str, str] = {}
    for name, target in targets.items():
        for column in target.covariates.columns if target.covariates else ():
            columns.setdefault(column, f"targets.{name}.covariates")
    return columns


def number_columns(targets: Mapping[str, Target]) -> list[str]:
    """Return the columns of covariates that are numbers for some target."""
    return list(dict.fromkeys(column for t in targets.values() if t.covariates for column in t.covariates.numbers))


def category_columns(targets: Mapping[str, Target]) -> list[str]:
    """Return the columns of covariates that are categories for some target."""
    return list(dict.fromkeys(column for t in targets.values() if t.covariates for column in t.covariates.categories))


def covariate_cells(targets: Mapping[str, Target], cells: Mapping[str, str]) -> dict[str, str]:
    """Return the cells of a row that are covariates of some target, without empty ones and missing columns."""
    return {column: cells[column] for column in covariate_columns(targets) if cells.get(column)}


def covariate_faults(targets: Mapping[str, Target], cells: Mapping[str, str]) -> list[CellFault]:
    """Return the faults of cells of a row that should be numbers; empty cells have none."""
    faults: dict[str, CellFault] = {}
    for name, target in targets.items():
        for column in target.covariates.numbers if target.covariates else ():
            expected = _number_fault(cells.get(column, ""), f"targets.{name}.covariates.numbers")
            if expected:
                faults.setdefault(column, CellFault(column, cells[column], expected))
    return list(faults.values())


def covariates_of(rows: Iterable[SlideRow]) -> dict[str, dict[str, str]]:
    """Return the covariates of slides by slide_id."""
    return {row.slide_id: row.covariates for row in rows}


def _number_fault(text: str, key: str) -> str:
    if WITH_THOUSANDS.fullmatch(text):
        return AMBIGUOUS
    try:
        if text and "_" not in text:
            number_of(text)
        return "" if "_" not in text else f"expected a number ({key})"
    except ValueError:
        return f"expected a number ({key}); a column of categories goes under categories, and a missing value is an empty cell"
