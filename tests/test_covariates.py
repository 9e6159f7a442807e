"""Covariates as numbers, by hand."""

import json

import numpy as np
import pytest

from wsi_mil.config import Covariates
from wsi_mil.covariates import Coding, SlideCovariates, category_of, number_of

SETTINGS = Covariates(numbers=("age",), categories=("sex", "grade"))
TRAIN = [
    {"age": "40", "sex": "f", "grade": "1"},
    {"age": "50,0", "sex": "m", "grade": "2.0"},
    {"sex": "f", "grade": "2"},
    {"age": 70, "sex": "f"},
]
"""Mean age 160/3; its standard deviation √(155.56) = 12.4722; one age and one grade are missing."""


def test_numbers_are_standardised_and_categories_coded_by_the_training_part_with_indicators_of_what_is_missing() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN)
    assert coding.names == ("age", "age is missing", "sex=f", "sex=m", "grade=1", "grade=2", "grade is missing")
    first, second, third, fourth = coding.design(TRAIN)
    sd = np.std([40, 50, 70])
    assert first == pytest.approx([(40 - 160 / 3) / sd, 0, 1, 0, 1, 0, 0])
    assert second == pytest.approx([(50 - 160 / 3) / sd, 0, 0, 1, 0, 1, 0])
    assert third == pytest.approx([0, 1, 1, 0, 0, 1, 0]), "a missing number is the mean"
    assert fourth == pytest.approx([(70 - 160 / 3) / sd, 0, 1, 0, 0, 0, 1])
    assert coding.missing(TRAIN) == {"age": 1, "grade": 1}


def test_the_mean_of_the_training_part_has_the_share_of_each_category_and_of_what_is_missing() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN)
    assert coding.mean == pytest.approx([0, 1 / 4, 3 / 4, 1 / 4, 1 / 4, 2 / 4, 1 / 4], abs=1e-6)


def test_without_missing_values_in_the_training_part_there_is_no_indicator_and_a_missing_value_is_the_mean() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN[:2])
    assert coding.names == ("age", "sex=f", "sex=m", "grade=1", "grade=2")
    assert coding.encode({}) == pytest.approx(np.zeros(5))


def test_a_category_that_the_training_part_has_not_is_none_of_them_and_is_told() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN)
    cells = {"age": "50", "sex": "m", "grade": "4"}
    assert coding.encode(cells)[4:] == pytest.approx([0, 0, 0])
    assert coding.unseen(cells) == {"grade": "4"} and coding.unseen({"grade": "2.0"}) == {}


def test_a_number_that_is_constant_in_the_training_part_is_centred_only() -> None:
    coding = Coding.fitted(Covariates(numbers=("age",)), [{"age": "50"}, {"age": 50.0}])
    assert coding.encode({"age": "53"}) == pytest.approx([3])
    empty = Coding.fitted(Covariates(numbers=("age",)), [{}, {}])
    assert empty.names == ("age", "age is missing") and empty.encode({}) == pytest.approx([0, 1])


def test_a_coding_survives_json() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN)
    assert Coding.of_settings(json.loads(json.dumps(coding.settings()))) == coding


def test_the_order_of_columns_in_a_bag_changes_nothing_and_other_columns_are_ignored() -> None:
    coding = Coding.fitted(SETTINGS, TRAIN)
    turned = {"site": "x", "grade": "1", "sex": "f", "age": "40"}
    assert coding.encode(turned) == pytest.approx(coding.encode(TRAIN[0]))


@pytest.mark.parametrize(("cell", "number"), [("3", 3), ("-2,5", -2.5), (4, 4), (" 1e3", 1000)])
def test_numbers_may_have_a_decimal_comma(cell: str | float, number: float) -> None:
    assert number_of(cell) == number


@pytest.mark.parametrize("cell", ["old", "nan", "inf", "1,234,5", ""])
def test_text_is_no_number(cell: str) -> None:
    with pytest.raises(ValueError):
        number_of(cell)


def test_whole_numbers_are_the_same_category_however_they_are_written() -> None:
    assert category_of("3.0") == category_of("3") == category_of(3) == category_of(3.0) == "3"
    assert category_of("3.5") == category_of(3.5) == "3.5"
    assert category_of("-1.0") == category_of(-1) == category_of(-1.0) == "-1"


def test_numbers_that_differ_are_different_categories_however_long_they_are() -> None:
    assert (category_of(1234567.0), category_of(1234568), category_of("1234567")) == ("1234567", "1234568", "1234567")
    assert category_of(1234567.25) == "1234567.25" and category_of(1e16) == "10000000000000000"
    assert category_of(np.float64(1234567)) == category_of(np.int64(1234567)) == "1234567"


def test_covariates_of_a_slide_are_its_own_columns_only() -> None:
    covariates = SlideCovariates(SETTINGS, {"a": {"age": "40", "site": "x"}})
    assert covariates.of("a") == {"age": "40"} and covariates.of("b") == {}
