from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_mil.cohort.splits import Splits
from wsi_mil.errors import StoreMismatchError
from wsi_mil.receipts import read_receipt, write_receipt
from wsi_mil.records import Role, SlideRow
from wsi_mil.tasks import Classes, Multilabel, Regression, Task
from wsi_mil.trust import TrustSources, model_line, output_line, read_trust, write_trust

TASK = Classes(("normal", "tumour"))
DRAWS = 400


class Made:
    """Receipts of `explain` and `explain-validation` as they would be, one slide per patient."""

    def __init__(self, folder: Path, task: Task = TASK):
        self.folder, self.task, self.protocol = folder, task, "held_out"
        self.rows: list[SlideRow] = []
        self.folds: dict[int, dict[str, Any]] = {0: {}, 1: {}}

    def add(
        self,
        name: str,
        label: str,
        outputs: list[float],
        *,
        role: str = "test",
        patient: str = "",
        bag: str = "",
        covariates: dict[str, Any] | None = None,
    ) -> None:
        predicted = {} if self.task.kind == "regression" else {"predicted": [int(p >= 0.5) for p in outputs]}
        if self.task.kind == "classes":
            predicted = {"predicted": int(np.argmax(outputs))}
        receipt = {"role": role, "protocol": self.protocol, "bag": bag or name, "outputs": outputs, "methods": {}, **predicted}
        receipt |= {} if covariates is None else {"covariates": covariates}
        write_receipt(self.folder / "scores" / f"{name}.json", receipt)
        self.rows.append(SlideRow(name, Path("x"), label, patient or name))

    def validate(self, fold: int, name: str, prob: float, *, gain: float | None = None, randomised: float | None = None) -> None:
        entry: dict[str, object] = (
            {} if gain is None else {"curves": {"symmetric_gain": gain + 0.1, "random_symmetric_gain": 0.1}}
        )
        entry |= {} if randomised is None else {"randomised_correlation": randomised}
        about = {"bag": name, "outputs": [1 - prob, prob], "predicted": int(prob >= 0.5), "methods": {"evidence": entry}}
        self.folds[fold][name] = about

    def write(self, *, earlier: Path | None = None, **labels: str) -> dict[str, Any]:
        for fold, slides in self.folds.items():
            write_receipt(self.folder / "validation" / f"fold-{fold}.json", {"protocol": self.protocol, "slides": slides})
        names = {name for slides in self.folds.values() for name in slides}
        known = {name: labels.get(name, "tumour") for name in names}
        splits = Splits({name: name for name in names}, known, [{}, {}])
        sources = TrustSources(self.folder / "scores", self.folder / "validation", splits, self.task, earlier)
        write_trust(self.rows, sources, self.folder / "trust.json", draws=DRAWS)
        return read_receipt(self.folder / "trust.json")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def separated(made: Made, n: int) -> None:
    """`n` slides of each class, told apart perfectly."""
    for i in range(n):
        made.add(f"t{i}", "tumour", [0.2, 0.8])
        made.add(f"n{i}", "normal", [0.7, 0.3])


def test_a_model_that_tells_classes_apart_is_better_than_chance(made: Made) -> None:
    separated(made, 6)
    found = made.write()["model"]
    assert (found["value"], found["ci95"], found["is_better"], found["on"]) == (1.0, [1.0, 1.0], True, "held-out")
    assert read_trust(made.folder / "trust.json").model.is_better is True


def grouped(made: Made, *, knows_label: bool) -> None:
    """Two sites, one with mostly positive slides and one with few; the model knows the site, and of a slide the label or not."""
    for site, n_positive, prob in (("A", 10, 0.8), ("B", 2, 0.3)):
        for i in range(12):
            label = "tumour" if i < n_positive else "normal"
            own = prob + 0.01 * (i * 5 % 12) + (0.15 if knows_label and label == "tumour" else 0)
            made.add(f"{site}{i}", label, [1 - own, own])
            made.rows[-1] = replace(made.rows[-1], group=site)


def test_a_model_that_only_knows_the_group_is_at_chance_within_groups(made: Made) -> None:
    grouped(made, knows_label=False)
    within = made.write()["model"]
    assert within["is_better"] is False and within["figure"] == "mean AUROC over groups"
    made.rows = [replace(row, group="") for row in made.rows]
    pooled = made.write()["model"]
    assert pooled["is_better"] is True and pooled["figure"] == "AUROC" and pooled["value"] > within["value"]


def test_a_model_that_knows_the_label_is_better_than_chance_within_groups(made: Made) -> None:
    grouped(made, knows_label=True)
    found = made.write()["model"]
    assert (found["value"], found["is_better"]) == (1.0, True)


def test_a_good_model_is_better_than_chance_over_many_small_groups(made: Made) -> None:
    """In most draws some of the groups have lost their only positive patient."""
    for site in range(25):
        for i in range(5):
            made.add(f"{site}-{i}", "normal" if i else "tumour", [0.7, 0.3] if i else [0.2, 0.8])
            made.rows[-1] = replace(made.rows[-1], group=f"site {site}")
    found = made.write()["model"]
    assert found["figure"] == "mean AUROC over groups" and found["is_better"] is True
    assert (found["value"], found["ci95"]) == (1.0, [1.0, 1.0])


def test_a_model_that_only_knows_the_group_is_at_chance_on_validation_slides_too(made: Made) -> None:
    labels = {}
    for site, n_positive, prob in (("A", 10, 0.8), ("B", 2, 0.3)):
        for i in range(12):
            labels[f"{site}{i}"] = "tumour" if i < n_positive else "normal"
            made.validate(i % 2, f"{site}{i}", prob + 0.01 * (i * 5 % 12))
            made.add(f"{site}{i}", labels[f"{site}{i}"], [0.5, 0.5], role="val")
            made.rows[-1] = replace(made.rows[-1], group=site)
    found = made.write(**labels)["model"]
    assert (found["on"], found["figure"], found["is_better"]) == ("validation", "mean AUROC over groups", False)


def test_four_slides_that_are_told_apart_are_no_proof(made: Made) -> None:
    separated(made, 2)
    found = made.write()["model"]
    assert found["ci95"] == [1.0, 1.0] and found["is_better"] is False, "one in six permutations does as well"


def test_slides_of_a_patient_change_places_together(made: Made) -> None:
    for i in range(6):
        made.add(f"t{i}", "tumour", [0.2, 0.8], patient=f"p{i // 3}")
        made.add(f"n{i}", "normal", [0.7, 0.3], patient=f"q{i // 3}")
    assert made.write()["model"]["is_better"] is False, "twelve slides of four patients"


def test_permutations_without_a_figure_are_no_proof(made: Made) -> None:
    """The only normal slide is the second of its patient: unless that patient keeps it, one time in 60, no slide is normal."""
    for i in range(59):
        made.add(f"t{i}", "tumour", [0.2, 0.8])
    made.add("u1", "tumour", [0.2, 0.8], patient="u")
    made.add("u2", "normal", [0.9, 0.1], patient="u")
    found = made.write()["model"]
    assert found["value"] == 1.0 and found["is_better"] is False, "every permutation that has a figure reaches that of the model"


def test_a_model_at_chance_is_not_better(made: Made) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        prob = float(rng.random())
        made.add(f"s{i}", ("normal", "tumour")[i % 2], [1 - prob, prob])
    found = made.write()["model"]
    assert found["is_better"] is False and found["ci95"][0] < 0.5


def test_training_slides_and_a_bag_given_twice_do_not_count(made: Made) -> None:
    separated(made, 6)
    made.add("again", "normal", [0.2, 0.8], patient="t0", bag="t0")
    made.add("seen", "normal", [0.1, 0.9], role=Role.TRAIN)
    assert made.write()["model"]["n_slides"] == 12


def test_without_a_held_out_slide_validation_slides_decide(made: Made) -> None:
    for i in range(6):
        made.validate(0, f"t{i}", 0.9)
        made.validate(1, f"n{i}", 0.2)
    found = made.write(**{f"n{i}": "normal" for i in range(6)})["model"]
    assert (found["on"], found["is_better"], found["n_slides"]) == ("validation", True, 12)


def test_as_published_no_line_speaks_of_validation_slides_or_of_held_out_ones(made: Made) -> None:
    made.protocol = "as_published"
    for i in range(6):
        made.validate(i % 2, f"v{i}", 0.9, gain=-0.1 - i / 100)
    for n, is_better in ((0, None), (6, True)):
        separated(made, n)
        found = made.write()
        assert (found["protocol"], found["model"]["on"], found["model"]["is_better"]) == ("as_published", "choosing", is_better)
    line = output_line(read_trust(made.folder / "trust.json"), "tumour", "evidence")
    expected = "not to be interpreted: on test slides that chose the epoch this method does no better than random order"
    assert line.text == expected


def test_new_slides_of_a_model_as_published_are_held_out(made: Made) -> None:
    made.protocol = "as_published"
    for i in range(6):
        made.add(f"t{i}", "tumour", [0.2, 0.8], role="")
        made.add(f"n{i}", "normal", [0.7, 0.3], role="")
    assert made.write()["model"]["on"] == "held-out"
    made.add("t", "tumour", [0.1, 0.9])
    assert made.write()["model"]["on"] == "choosing", "one of them chose the epoch"


def test_without_any_labelled_slide_nothing_is_known(made: Made) -> None:
    found = made.write()
    assert found["model"] is None and read_trust(made.folder / "trust.json").model is None
    made.add("t", "tumour", [0.2, 0.8])
    found = made.write()["model"]
    assert found["value"] is None and found["is_better"] is None, "AUROC of one class"


def test_each_label_has_a_verdict(tmp_path: Path) -> None:
    made = Made(tmp_path, Multilabel(("er", "pr")))
    rng = np.random.default_rng(1)
    for i in range(20):
        made.add(f"s{i}", f"{i % 2} {i // 2 % 2}", [0.9 if i % 2 else 0.1, float(rng.random())])
    found = read_trust(made.folder / "trust.json") if made.write() else None
    assert found.outputs["er"].is_better is True and found.outputs["pr"].is_better is False


def test_numbers_are_better_than_chance_above_zero(tmp_path: Path) -> None:
    for noise, expected in ((0.1, True), (50.0, False)):
        made = Made(tmp_path / str(noise), Regression())
        rng = np.random.default_rng(2)
        for i in range(15):
            value = i + float(rng.normal()) * noise
            made.add(f"s{i}", str(i), [value, value])
        assert made.write()["model"]["is_better"] is expected


def test_a_method_beats_random_order_if_its_interval_lies_above_zero(made: Made) -> None:
    for i, gain in enumerate((0.3, 0.2, 0.4, 0.1, 0.35)):
        made.validate(i % 2, f"v{i}", 0.9, gain=gain, randomised=0.1 * i)
    made.validate(0, "negative", 0.2, randomised=0.5)
    found = made.write()["methods"]["evidence"]
    assert found["symmetric_gain"] == pytest.approx(0.27) and found["beats_random"] is True
    assert 0 < found["symmetric_gain_ci95"][0] < 0.27 and (found["n_slides"], found["n_patients"]) == (5, 5)
    assert found["randomised"] == pytest.approx((0 + 0.1 + 0.2 + 0.3 + 0.4 + 0.5) / 6)


def test_a_method_that_helps_on_some_slides_and_harms_on_others_does_not(made: Made) -> None:
    for i, gain in enumerate((0.3, -0.2, 0.4, -0.3, 0.05)):
        made.validate(i % 2, f"v{i}", 0.9, gain=gain)
    assert made.write()["methods"]["evidence"]["beats_random"] is False


@pytest.mark.parametrize(("gains", "expected"), [((0.3, -0.1), None), ((0.3,) * 4, None), ((-0.3, 0.1), False), ((), None)])
def test_too_few_patients_can_only_tell_that_a_method_is_no_better(
    made: Made, gains: tuple[float, ...], expected: bool | None
) -> None:
    made.validate(1, "w", 0.1)
    for i, gain in enumerate(gains):
        made.validate(0, f"v{i}", 0.9, gain=gain)
    found = made.write()["methods"]["evidence"]
    assert found["beats_random"] is expected and found["symmetric_gain_ci95"] == [None, None]
    trust = read_trust(made.folder / "trust.json")
    assert ("evidence" in trust.beats_random) == (expected is not None)
    too_few = "too few validation slides to tell whether the method does better than random order"
    none = "the method is not tested on validation slides"
    line = output_line(trust, "tumour", "evidence")
    if expected is None:
        assert line.text.startswith(too_few if gains else none) and not line.is_warning
    else:
        assert line.is_warning


def earlier_run(folder: Path, *, is_better: bool) -> Path:
    """What the run that trained the models knows of them."""
    made = Made(folder)
    separated(made, 6)
    for i in range(6):
        made.validate(0, f"v{i}", 0.9, gain=0.2 + i / 100)
    content = made.write()
    changed = {**content, "model": {**content["model"], "is_better": is_better, "value": 0.875}}
    write_receipt(folder / "trust.json", changed)
    return folder / "trust.json"


@pytest.mark.parametrize("earlier", [True, False])
def test_labels_of_this_run_judge_models_of_an_earlier_run_anew(made: Made, tmp_path: Path, earlier: bool) -> None:
    file = earlier_run(tmp_path / "earlier", is_better=earlier)
    for n, expected in ((6, True), (0, False)):
        separated(made, n)
        for i in range(20 if not n else 0):
            made.add(f"r{i}", ("tumour", "normal")[i % 2], [1.0, 0.0] if i % 3 else [0.0, 1.0])
        found = made.write(earlier=file)
        assert found["model"]["is_better"] is expected and not found["model"]["is_earlier"]
        assert found["methods"]["evidence"]["beats_random"] is True, "of the validation slides of the earlier run"
        assert read_trust(made.folder / "trust.json").model.is_earlier is False


@pytest.mark.parametrize("earlier", [True, False])
def test_without_labels_that_can_tell_the_earlier_run_is_named(made: Made, tmp_path: Path, earlier: bool) -> None:
    file = earlier_run(tmp_path / "earlier", is_better=earlier)
    for label in ("", "tumour"):
        if label:
            made.add("one", label, [0.2, 0.8])
        made.write(earlier=file)
        trust = read_trust(made.folder / "trust.json")
        assert (trust.model.is_better, trust.model.value, trust.model.is_earlier) == (earlier, 0.875, True)
        assert trust.beats_random == {"evidence": True}
        marked = "not to be interpreted: the model is no better than chance in the run that trained it (AUROC 0.88"
        assert model_line(trust).text.startswith(marked) is not earlier
        line = output_line(trust, "tumour", "evidence")
        assert line.is_warning or line.text == "the model was tested in the run that trained it, not on slides of this run"
    assert made.write(earlier=tmp_path / "missing.json")["model"]["is_better"] is None


def test_an_earlier_run_says_nothing_of_models_that_were_trained_again(made: Made, tmp_path: Path) -> None:
    file = earlier_run(tmp_path / "earlier", is_better=True)
    write_receipt(file, {**read_receipt(file), "models": "a"})
    made.add("one", "tumour", [0.2, 0.8])
    path = made.folder / "scores" / "one.json"
    for models, is_better in (("a", True), ("b", None)):
        write_receipt(path, {**read_receipt(path), "models": models})
        assert made.write(earlier=file)["model"]["is_better"] is is_better


@pytest.mark.parametrize("slides_tell", [False, True])
def test_of_a_model_with_covariates_the_slides_alone_are_judged(made: Made, slides_tell: bool) -> None:
    for index in range(24):
        label = index % 2
        told, untold = 0.1 + 0.8 * label, 0.4 + 0.01 * (index // 2)
        alone = told if slides_tell else untold
        slides_alone = {"outputs": [1 - alone, alone], "predicted": int(alone >= 0.5)}
        made.add(f"s{index}", TASK.names[label], [1 - told, told], covariates={"slides_alone": slides_alone})
    found = made.write()["model"]
    assert found["is_of_slides_alone"] and found["is_better"] is slides_tell
    assert found["value"] == (1.0 if slides_tell else 0.5), "both predict perfectly with covariates"


def test_scores_without_what_the_slides_alone_predict_are_a_fault(made: Made) -> None:
    made.add("a", "tumour", [0.2, 0.8], covariates={"share": 0.3})
    with pytest.raises(StoreMismatchError, match="was written by an earlier version"):
        made.write()


def test_scores_of_an_earlier_version_are_a_fault(made: Made) -> None:
    separated(made, 6)
    path = made.folder / "scores" / "t0.json"
    write_receipt(path, {name: value for name, value in read_receipt(path).items() if name != "outputs"})
    with pytest.raises(StoreMismatchError, match=r"t0\.json.*earlier version; run `explain` and `explain-validation` again"):
        made.write()
