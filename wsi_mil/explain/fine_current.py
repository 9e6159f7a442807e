"""Where the receipts of a slide's finer scores are, and what the scores are made from; found without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.receipts import USUAL, file_hash, is_current, made_from, store_marker
from wsi_mil.shifts import Shift

STAGE_VERSION = 1


@dataclass(frozen=True)
class Fine:
    """Receipts from which the finer scores of one slide are made, and those to write.

    Attributes:
        usual: receipt of `explain`.
        tiles: receipt of `tile`.
        bag: receipts of `extract` of all slides of the slide's bag, in order.
        features: receipts of `extract` of the slide's shifted tilings.
        receipt: receipt of the finer scores, to write.
        cells: description of the finer grid in the form of a receipt of `tile`, to write.
    """

    usual: Path
    tiles: Path
    bag: Sequence[Path]
    features: Mapping[Shift, Path]
    receipt: Path
    cells: Path

    def outputs(self) -> list[Path]:
        """Return the files that the receipt stands for."""
        return [store_marker(self.receipt), self.cells, store_marker(self.cells)]


def fine_stamp(fine: Fine) -> dict[str, str]:
    """Return what the finer scores of a slide are made from, as an entry of their receipt.

    The usual scores' receipt stands for models, settings, splits and the features of the bag.
    """
    content: dict[str, object] = {
        "stage_version": STAGE_VERSION,
        "usual": file_hash(fine.usual),
        "tiles": file_hash(fine.tiles),
        "features": {shift.name: [file_hash(r), file_hash(store_marker(r))] for shift, r in fine.features.items()},
    }
    return {**made_from(content), USUAL: file_hash(fine.usual)}


def is_fine_current(fine: Fine, stamp: Mapping[str, str]) -> bool:
    """Return whether the finer scores of a slide are current."""
    return is_current(fine.receipt, stamp, fine.outputs())
