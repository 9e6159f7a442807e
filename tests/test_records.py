"""Records of models, explanations and readers: what they state is what their implementations are."""

import subprocess
import sys
from pkgutil import resolve_name
from typing import get_args

import pytest

from wsi_mil.config import (
    BEST,
    EXPLANATIONS,
    MODELS,
    READ_OFF,
    READERS,
    TEACHERS,
    BaseModelSettings,
    Explain,
    Method,
    ReadOff,
    SlideFile,
    parse_base,
    resolved,
    supports,
)
from wsi_mil.explain.base import Values
from wsi_mil.explain.registry import METHODS
from wsi_mil.models import EncodeClassifyModel, MILModel, create_model
from wsi_mil.records import InstanceScores
from wsi_mil.slides import Slide


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_implemented_where_its_record_says(name: str) -> None:
    settings = MODELS[name]
    module, _, kind = settings.implementation.partition(":")
    implementation = resolve_name(settings.implementation)
    assert module.startswith("wsi_mil.models.") and issubclass(implementation, MILModel) and implementation.__name__ == kind
    assert (name in TEACHERS) is issubclass(implementation, EncodeClassifyModel), "MHIM masks between encode and classify"


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"mhim"}))
def test_a_model_provides_what_its_record_says(name: str) -> None:
    settings = parse_base({"model": name})
    model = create_model(settings, feature_dim=6, n_classes=2)
    assert type(model) is resolve_name(settings.implementation) and model.provides == settings.provides


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_an_explanation_is_implemented_where_its_record_says(name: str) -> None:
    record = EXPLANATIONS[name]
    module, _, function = record.implementation.partition(":")
    assert module.startswith("wsi_mil.explain.") and resolve_name(record.implementation).__name__ == function
    if name == "sparse_inversion":  # it scores a refined bag by one of the others
        assert name not in METHODS and (record.kind, record.unit) == ("", "")
    else:
        assert METHODS[name].of_model.__annotations__["return"] is Values
        assert record.kind and f'"{record.unit}" (' in (InstanceScores.__doc__ or "")


def test_scores_that_may_be_compared_may_be_so_when_weighted() -> None:
    assert all(record.comparable_weighted for record in EXPLANATIONS.values() if record.comparable)
    assert EXPLANATIONS["evidence"].comparable and not EXPLANATIONS["attention"].comparable
    assert EXPLANATIONS["attention"].comparable_weighted and not EXPLANATIONS["standardised_sum"].comparable_weighted


def test_what_a_model_must_provide_for_a_method() -> None:
    assert supports(("attention_logits", "evidence"), "standardised_sum") and not supports(("evidence",), "standardised_sum")
    assert supports(("probability", "evidence"), "jacobian_map")
    assert not supports(("attention", "probability"), "jacobian_map"), "a pool of probabilities has no attention"
    assert supports((), "sparse_inversion") and supports((), "gradient_input") and not supports((), "attention")


def test_settings_take_the_names_of_the_records() -> None:
    assert get_args(Method) == tuple(EXPLANATIONS)
    assert get_args(ReadOff) == READ_OFF and set(READ_OFF) >= {"attention", "evidence"} and set(READ_OFF) <= set(METHODS)
    assert set(Explain().methods) <= {*EXPLANATIONS, BEST} and BEST not in EXPLANATIONS
    explained = [settings for settings in get_args(BaseModelSettings) if settings.best]
    assert all(supports(settings.provides, settings.best) for settings in explained) and len(explained) > 8
    assert resolved(("attention", BEST, "evidence"), "evidence") == ("attention", "evidence")
    assert get_args(SlideFile.model_fields["reader"].annotation) == ("auto", *READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_implemented_where_its_record_says(name: str) -> None:
    reader = resolve_name(READERS[name].implementation)
    assert READERS[name].implementation.startswith("wsi_mil.slides.")
    assert issubclass(reader, Slide) and reader.reader == name


def test_records_import_no_implementation() -> None:
    loaded = "import sys, wsi_mil.config; print([m for m in ('torch', 'openslide', 'wsi_mil.models') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.strip() == "[]"
