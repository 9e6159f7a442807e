"""Finer scores of one slide: every shifted tiling is scored as a bag of its own by the same models, and cells get the mean."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags import rows_of
from wsi_mil.config import Explain, fine_name, method_of
from wsi_mil.ensemble import Ensemble
from wsi_mil.errors import StoreError
from wsi_mil.explain.fine_current import STAGE_VERSION, Fine
from wsi_mil.explain.registry import CONTROL, INVERSION, ExplainRequest, scores_of
from wsi_mil.receipts import CELLS, array_digest, extent_and_stride, read_receipt, read_tile_receipt, store_path, write_receipt
from wsi_mil.records import InstanceScores, SlideRow, Status
from wsi_mil.shifts import Cells, Shift
from wsi_mil.store import read_scores, read_thumbnail, write_scores, write_whole

Receipt = dict[str, Any]

SUMMED = ("share", "part")
"""Units of scores that have a sum over the bag, so that they are the smaller the more tiles it has."""


def explain_fine(row: SlideRow, fine: Fine, ensemble: Ensemble, settings: Explain, *, stamp: Mapping[str, str]) -> None:
    """Score the shifted tilings of a slide, and write the mean of all tilings, the usual one included, on the finer grid.

    Outputs are those that the usual scores explain, whatever the bag of a shifted tiling is predicted as. Scores with a sum over
    the bag are brought to the number of tiles of the usual bag, all to its neutral value: the mean reads as a score of it.
    A tiling without tiles, or one whose bag a method has no result for, takes no part; the receipt counts those that do.

    Args:
        row: the slide.
        fine: where the receipts of the slide are.
        ensemble: the models.
        settings: settings of `explain`, with the methods of the usual scores.
        stamp: what the scores are made from, see `fine_stamp`; kept in the receipt.

    Raises:
        StoreError: the usual scores or tiles cannot be read.
    """
    fine.receipt.unlink(missing_ok=True)  # it describes earlier scores
    usual, tiled = read_receipt(fine.usual), read_tile_receipt(fine.tiles)
    states = {shift: read_receipt(receipt) for shift, receipt in fine.features.items()}
    bags = [shift for shift, state in states.items() if state["status"] == Status.OK]
    why_not = next((f"its shifted tiles: {s['reason']}" for s in states.values() if s["status"] == Status.FAILED), "")
    asked = {name: m for name, m in usual["methods"].items() if not (m["reason"] or why_not)}
    tilings = [_Tiling.usual(fine, usual, asked)]
    tilings += [_shifted(row, fine, ensemble, settings, shift, asked) for shift in bags]
    cells = _cells(tiled, next(iter(fine.features)).steps)
    covered = cells.covered(tiling.coords for tiling in tilings)
    coords = cells.coords(covered)
    identity = {"coords_digest": array_digest(coords), "slide_hash": tiled["slide_hash"]}
    write_whole(store_path(fine.cells), {"coords": coords, **_thumbnail(fine.tiles)}, {"slide_id": row.slide_id})
    write_receipt(fine.cells, {**tiled, **_cells_content(cells), **identity, "n_tiles": len(coords)})
    values = {name: _mean(tilings, name, usual, cells)[covered] for name in usual["methods"]}
    write_scores(store_path(fine.receipt), coords, list(_named(values, usual)), {"slide_id": row.slide_id})
    methods = {fine_name(name): _method(m, name, why_not, tilings) for name, m in usual["methods"].items()}
    about = {"stage_version": STAGE_VERSION, "methods": methods, "n_instances": len(coords), "tiles": identity}
    write_receipt(fine.receipt, {**usual, **about, "fine": _fine_content(states, len(tilings)), **stamp})


@dataclass(frozen=True)
class _Tiling:
    """One tiling of a slide.

    Attributes:
        coords: corners (x, y) `(n, 2)` of its tiles, level-0 pixels.
        values: by name, scores `(n,)`; none of a method that has no result.
        zeros: by name, the neutral value.
        n: number of instances of its bag.
    """

    coords: NDArray[np.int64]
    values: dict[str, NDArray[np.float32]]
    zeros: dict[str, float]
    n: int

    @classmethod
    def usual(cls, fine: Fine, receipt: Receipt, asked: Iterable[str]) -> "_Tiling":
        store = store_path(fine.usual)
        coords = read_scores(store, next(iter(receipt["methods"])))[0]
        zeros = {name: float(m["zero"]) for name, m in receipt["methods"].items()}
        return cls(coords, {name: read_scores(store, name)[1] for name in asked}, zeros, receipt["bag_instances"])


def _shifted(
    row: SlideRow, fine: Fine, ensemble: Ensemble, settings: Explain, shift: Shift, asked: Mapping[str, Receipt]
) -> _Tiling:
    """A shifted tiling: its tiles take the place of the slide's usual ones in the bag."""
    own = fine.features[shift]
    receipts = [own if receipt.name == own.name else receipt for receipt in fine.bag]
    bag = ensemble.read_bag(row.patient_id if ensemble.unit == "patient" else row.slide_id, receipts)
    rows = rows_of(own, receipts)
    found: dict[str, InstanceScores] = {}
    if asked:
        placement = ensemble.splits.as_trained(ensemble.protocol).placement(row.slide_id, row.patient_id)
        prediction = ensemble.predict(bag, placement.folds)
        for suffix, output in _outputs(asked).items():
            scores = scores_of(ExplainRequest(ensemble, bag, prediction, output), _without_curves(settings, asked))
            found |= {s.method + suffix: s.of_rows(rows) for s in scores if s.method + suffix in asked and not s.reason}
    values, zeros = {name: s.values for name, s in found.items()}, {name: s.zero for name, s in found.items()}
    return _Tiling(bag.coords[rows], values, zeros, len(bag.coords))


def _outputs(asked: Mapping[str, Receipt]) -> dict[str, int]:
    """Index of the explained output, by what follows the method in the names of its scores."""
    return {name.removeprefix(method_of(name)): m["output"] for name, m in asked.items()}


def _without_curves(settings: Explain, asked: Iterable[str]) -> Explain:
    """Settings with the methods that are asked for, without curves: those of the usual scores hold."""
    wanted = {INVERSION if method_of(name) == CONTROL else method_of(name) for name in asked}
    methods = tuple(method for method in settings.methods if method in wanted)
    return settings.model_copy(update={"methods": methods, "curve_points": 0})


def _mean(tilings: Sequence[_Tiling], name: str, usual: Receipt, cells: Cells) -> NDArray[np.float64]:
    """Mean of the scores of a name over all tilings that have them, by cell, on the scale of the usual bag."""
    own = [tiling for tiling in tilings if name in tiling.values]
    is_summed = usual["methods"][name]["unit"] in SUMMED
    return cells.mean([(tiling.coords, _on_scale(tiling, name, tilings[0], is_summed=is_summed)) for tiling in own])


def _on_scale(tiling: _Tiling, name: str, usual: _Tiling, *, is_summed: bool) -> NDArray[np.float64]:
    """Scores relative to the neutral value of the usual bag, and parts of a sum as in a bag with as many instances as it."""
    difference = tiling.values[name].astype(np.float64) - tiling.zeros[name]
    return difference * (tiling.n / usual.n if is_summed else 1.0) + usual.zeros[name]


def _cells(tiled: Receipt, steps: int) -> Cells:
    extent, stride = extent_and_stride(tiled)
    width, height = tiled["dimensions"]
    return Cells((stride[0] / steps, stride[1] / steps), extent, (width, height))


def _cells_content(cells: Cells) -> Receipt:
    """What the finer grid has other than the usual one."""
    return {"tile_px_level0": list(cells.box), CELLS: {"extent": list(cells.side), "stride": list(cells.side)}}


def _method(usual: Receipt, name: str, why_not: str, tilings: Sequence[_Tiling]) -> Receipt:
    """Entry of a method in the receipt: as the usual one, with what differs."""
    n_tilings = sum(name in tiling.values for tiling in tilings)
    kind = f"mean over the tiles of {n_tilings} shifted tilings: {usual['kind']}" if n_tilings else usual["kind"]
    return {**usual, "kind": kind, "reason": usual["reason"] or why_not, "tilings": n_tilings}


def _thumbnail(tiles: Path) -> dict[str, NDArray[np.uint8]]:
    """The slide's thumbnail, over which pictures are drawn; {} if the store of `tile` is gone."""
    try:
        return {"thumbnail": read_thumbnail(store_path(tiles))}
    except StoreError:
        return {}


def _named(values: Mapping[str, NDArray[np.float64]], usual: Receipt) -> Iterator[InstanceScores]:
    for name, scores in values.items():
        m = usual["methods"][name]
        yield InstanceScores(fine_name(name), scores.astype(np.float32), m["kind"], m["unit"], m["comparable"])


def _fine_content(states: Mapping[Shift, Receipt], n_tilings: int) -> Receipt:
    """Steps, number of tilings that were scored, and of each shifted one the number of its tiles, or why it has none."""
    tiles = {shift.name: s["n_tiles"] if s["status"] == Status.OK else s["reason"] for shift, s in states.items()}
    return {"steps": next(iter(states)).steps, "tilings": n_tilings, "tiles": tiles}
