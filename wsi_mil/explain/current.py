"""What the scores of a slide are made from, found without loading a model or torch."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from wsi_mil.cohort.splits import Splits
from wsi_mil.config import BagUnit, Explain
from wsi_mil.covariates import Cells
from wsi_mil.receipts import file_hash, fingerprint, is_current, made_from, store_marker
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Task

STAGE_VERSION = 10


def explain_stamp(
    row: SlideRow,
    bag_receipts: Sequence[Path],
    models: Path,
    splits: Splits,
    task: Task,
    settings: Explain,
    unit: BagUnit,
    covariates: Cells | None = None,
) -> dict[str, str]:
    """Return what the scores of a slide are made from, as an entry of their receipt.

    Args:
        row: the slide.
        bag_receipts: receipts of `extract` of all slides of its bag; they and their stores hold fingerprints of the features.
        models: folder with the checkpoints of the folds; their cards hold the hashes of the weights.
        splits: the splits of the models.
        task: the task of the models.
        settings: settings of `explain`.
        unit: what a bag is.
        covariates: of the bag, if the models were trained with covariates.
    """
    placement = splits.placement(row.slide_id, row.patient_id)
    content: Mapping[str, object] = {
        "stage_version": STAGE_VERSION,
        "settings": settings.model_dump(mode="json"),
        "slide_id": row.slide_id,
        "bag": row.patient_id if unit == "patient" else row.slide_id,
        "features": [(r.name, file_hash(r), file_hash(store_marker(r))) for r in bag_receipts],
        "models": _cards(models, splits.n_folds),
        "placement": [placement.role, *placement.folds],
        "task": task.stamp(),
        **({} if covariates is None else {"covariates": dict(covariates)}),
    }
    return made_from(content)


def outputs(receipt: Path) -> list[Path]:
    """Return the files that a receipt of `explain` stands for."""
    return [store_marker(receipt)]


def is_explained(receipt: Path, stamp: Mapping[str, str]) -> bool:
    """Return whether the scores of a slide are current."""
    return is_current(receipt, stamp, outputs(receipt))


def models_fingerprint(models: Path, n_folds: int) -> str:
    """Return what tells the models of all folds from those of another training, for receipts."""
    return fingerprint({"models": _cards(models, n_folds)})


@lru_cache(maxsize=1)
def _cards(models: Path, n_folds: int) -> list[str]:
    """Hashes of the cards of all folds."""
    return [file_hash(models / f"fold-{fold}" / "config.json") for fold in range(n_folds)]
