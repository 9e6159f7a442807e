"""What was measured of a model and its methods, as `wsi-mil trust` writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_mil.receipts import read_receipt

HELD_OUT, VALIDATION, CHOOSING = "held-out", "validation", "choosing"
"""Which slides a model was judged on: validation slides where no held-out slide has a label; with `protocol: as_published` the
test slides, which chose its epoch and threshold."""

AS_PUBLISHED = "as_published"
"""Protocol in which the test slides of each fold are its validation slides."""


@dataclass(frozen=True)
class Verdict:
    """Whether a model, or one of its labels, is better than chance.

    Attributes:
        figure: name of the main figure.
        value: the main figure; None if it cannot be computed.
        ci95: ends of its 95 % interval, None where it has none.
        chance: the figure at chance.
        on: which slides it is of, `HELD_OUT`, `VALIDATION` or `CHOOSING`.
        n_slides: number of bags that it is computed from.
        is_better: whether it is better than chance; None if that is not known.
        is_earlier: whether it is of the slides of the run that trained the model, since those of this run cannot tell.
        is_of_slides_alone: whether it is of predictions with covariates at their mean, since the model has some.
    """

    figure: str
    value: float | None
    ci95: tuple[float | None, float | None]
    chance: float
    on: str
    n_slides: int
    is_better: bool | None
    is_earlier: bool = False
    is_of_slides_alone: bool = False


@dataclass(frozen=True)
class Trust:
    """What is known of a model and of each of its methods.

    Attributes:
        model: whether the model is better than chance; None if there is no labelled slide to tell, or no file.
        outputs: of several labels, the same of each.
        beats_random: of each method that was tested on validation slides, whether it does better than random order.
        n_patients: of each method, the number of patients with a validation slide that it was tested on.
        randomised: of each method, the rank correlation of its map with that of a model of permuted weights.
        models: fingerprint of the models, as in receipts of `explain`; "" if there was no slide to test them on.
        is_known: whether there is a file of this version.
        protocol: of the models: `held_out`, or `as_published`.
    """

    model: Verdict | None = None
    outputs: Mapping[str, Verdict] = field(default_factory=dict)
    beats_random: Mapping[str, bool] = field(default_factory=dict)
    randomised: Mapping[str, float] = field(default_factory=dict)
    models: str = ""
    is_known: bool = False
    protocol: str = "held_out"
    n_patients: Mapping[str, int] = field(default_factory=dict)

    def of(self, receipt: Mapping[str, Any]) -> "Trust":
        """Return what is known of the models of a receipt of `explain`: nothing if they were trained again since."""
        models = receipt.get("models", self.models)
        return self if not self.models or models == self.models else UNTESTED

    def verdict_on(self, output: str) -> Verdict | None:
        """Return the verdict on an output: its own if it has one, else that on the model."""
        return self.outputs.get(output, self.model)


UNTESTED = Trust()
"""Of a model for which `wsi-mil trust` has not run."""


def read_trust(path: Path | None) -> Trust:
    """Read the output of `wsi-mil trust`; `UNTESTED` if there is none.

    Raises:
        StoreError: the file exists, but is not JSON.
    """
    return trust_of(read_receipt(path)) if path is not None and path.is_file() else UNTESTED


def trust_of(content: Mapping[str, Any]) -> Trust:
    """Return what a file of `wsi-mil trust` says."""
    methods = content["methods"]
    return Trust(
        model=_verdict(content["model"]),
        outputs={name: verdict for name, own in content["outputs"].items() if (verdict := _verdict(own))},
        beats_random={name: own["beats_random"] for name, own in methods.items() if own["beats_random"] is not None},
        randomised={name: own["randomised"] for name, own in methods.items() if own["randomised"] is not None},
        models=content.get("models", ""),
        is_known=True,
        protocol=content.get("protocol", "held_out"),
        n_patients={name: own.get("n_patients", 0) for name, own in methods.items()},
    )


def _verdict(content: Mapping[str, Any] | None) -> Verdict | None:
    if content is None:
        return None
    low, high = content["ci95"]
    return Verdict(**{**content, "ci95": (low, high)})
