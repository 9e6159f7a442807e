"""What is known of a patient besides the slides, as numbers for a model: the coding, fitted on the training part. No I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import Covariates

Cells = Mapping[str, str | float]
"""Covariates of a bag by column: numbers or their text, and categories; "" or no entry where a value is missing."""

WITH_COMMA = re.compile(r"[+-]?\d+,\d+")
WHOLE = re.compile(r"(-?\d+)\.0+")
"""A whole number as programs write it if the column has empty cells."""


@dataclass(frozen=True)
class SlideCovariates:
    """Covariates of the slides of a cohort.

    Attributes:
        settings: the columns.
        of_slide: their cells, by slide_id.
    """

    settings: Covariates
    of_slide: Mapping[str, Cells]

    def of(self, slide_id: str) -> Cells:
        """Return the covariates of a slide; without an entry, all are missing."""
        cells = self.of_slide.get(slide_id, {})
        return {column: cells[column] for column in self.settings.columns if column in cells}


@dataclass(frozen=True)
class NumberCode:
    """How a column of numbers is coded: (x - mean) / sd, and 0 where x is missing.

    Attributes:
        column: name of the column.
        mean: of the training part.
        sd: of the training part; 1 if its values are all the same.
        n_missing: bags of the training part without a value; if there are any, an indicator follows.
    """

    column: str
    mean: float
    sd: float
    n_missing: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coded columns."""
        return (self.column, *_indicator(self.column, self.n_missing))

    def encode(self, cell: str | float) -> list[float]:
        """Return the coded columns of a cell."""
        is_missing = cell == ""
        value = 0.0 if is_missing else (number_of(cell) - self.mean) / self.sd
        return [value, *([float(is_missing)] if self.n_missing else [])]

    def is_unseen(self, cell: str | float) -> bool:
        """Return False: every number can be coded."""
        return False


@dataclass(frozen=True)
class CategoryCode:
    """How a column of categories is coded: a 0 or 1 for each value of the training part.

    Attributes:
        column: name of the column.
        values: values of the training part, sorted; any other is coded as zeros.
        n_missing: bags of the training part without a value; if there are any, an indicator follows.
    """

    column: str
    values: tuple[str, ...]
    n_missing: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coded columns."""
        return (*(f"{self.column}={value}" for value in self.values), *_indicator(self.column, self.n_missing))

    def encode(self, cell: str | float) -> list[float]:
        """Return the coded columns of a cell."""
        category = category_of(cell)
        codes = [float(category == value) for value in self.values]
        return [*codes, *([float(category == "")] if self.n_missing else [])]

    def is_unseen(self, cell: str | float) -> bool:
        """Return whether a cell has a value that the training part has not."""
        return category_of(cell) not in ("", *self.values)


@dataclass(frozen=True)
class Coding:
    """How covariates become numbers. Its constants are of the training part of a fold, and of nothing else.

    Attributes:
        numbers: columns of numbers.
        categories: columns of categories, whose codes follow.
        mean: mean of the coded columns over the bags of the training part.
    """

    numbers: tuple[NumberCode, ...]
    categories: tuple[CategoryCode, ...]
    mean: tuple[float, ...]

    @classmethod
    def fitted(cls, settings: Covariates, bags: Sequence[Cells]) -> "Coding":
        """Return the coding that has its constants from the bags of a training part."""
        numbers = tuple(_number_code(column, [_cell(cells, column) for cells in bags]) for column in settings.numbers)
        categories = tuple(_category_code(column, [_cell(cells, column) for cells in bags]) for column in settings.categories)
        coding = cls(numbers, categories, ())
        return replace(coding, mean=tuple(coding.design(bags).mean(axis=0).tolist()))

    @classmethod
    def of_settings(cls, content: Mapping[str, Any]) -> "Coding":
        """Return the coding of `settings`, as a model card has it."""
        numbers = tuple(NumberCode(**code) for code in content["numbers"])
        categories = tuple(CategoryCode(**{**code, "values": tuple(code["values"])}) for code in content["categories"])
        return cls(numbers, categories, tuple(content["mean"]))

    def settings(self) -> dict[str, Any]:
        """Return the coding as values for JSON."""
        codes = {"numbers": [asdict(code) for code in self.numbers], "categories": [asdict(code) for code in self.categories]}
        return {**codes, "mean": list(self.mean)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sheet that it codes."""
        return tuple(code.column for code in self._codes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coded columns."""
        return tuple(name for code in self._codes for name in code.names)

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Return the covariates of a bag `(k,)`; zeros are the mean of each number, and no category.

        Raises:
            ValueError: the cell of a number is no number.
        """
        coded = [value for code in self._codes for value in code.encode(_cell(cells, code.column))]
        return np.array(coded, np.float32)

    def design(self, bags: Iterable[Cells]) -> NDArray[np.float64]:
        """Return the covariates of bags `(n, k)`."""
        rows = [self.encode(cells) for cells in bags]
        return np.array(rows, np.float64).reshape(len(rows), len(self.names))

    def missing(self, bags: Iterable[Cells]) -> dict[str, int]:
        """Return the number of bags without a value, of each column that has any."""
        bags = list(bags)
        counts = {code.column: sum(_cell(cells, code.column) == "" for cells in bags) for code in self._codes}
        return {column: n for column, n in counts.items() if n}

    def unseen(self, cells: Cells) -> dict[str, str]:
        """Return by column the values of a bag that the training part has not, which are coded as zeros."""
        found = {code.column: _cell(cells, code.column) for code in self._codes if code.is_unseen(_cell(cells, code.column))}
        return {column: category_of(cell) for column, cell in found.items()}

    @property
    def _codes(self) -> tuple[NumberCode | CategoryCode, ...]:
        return (*self.numbers, *self.categories)


def number_of(cell: str | float) -> float:
    """Return the number of a cell; a comma may stand for the decimal point.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(cell, str) and WITH_COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    value = float(cell)
    if not np.isfinite(value):
        raise ValueError(f"expected a number, got {cell!r}")
    return value


def category_of(cell: str | float) -> str:
    """Return the category of a cell; 1.0 is 1."""
    if not isinstance(cell, str):
        return str(int(cell)) if float(cell).is_integer() else str(cell)
    whole = WHOLE.fullmatch(cell)
    return whole[1] if whole else cell


def _number_code(column: str, cells: Sequence[str | float]) -> NumberCode:
    values = np.array([number_of(cell) for cell in cells if cell != ""])
    n_missing = len(cells) - len(values)
    if not len(values):
        return NumberCode(column, 0.0, 1.0, n_missing)
    return NumberCode(column, float(values.mean()), float(values.std()) if np.ptp(values) else 1.0, n_missing)


def _category_code(column: str, cells: Sequence[str | float]) -> CategoryCode:
    categories = [category_of(cell) for cell in cells]
    return CategoryCode(column, tuple(sorted(set(categories) - {""})), categories.count(""))


def _cell(cells: Cells, column: str) -> str | float:
    return cells.get(column, "")


def _indicator(column: str, n_missing: int) -> tuple[str, ...]:
    return (f"{column} is missing",) if n_missing else ()
