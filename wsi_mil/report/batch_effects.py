"""Batch effects: how much of the variance between slides label, scanner and fold explain."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.cohort.splits import Splits
from wsi_mil.config import Config
from wsi_mil.files import write_table
from wsi_mil.metrics import holm
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Role, SlideRow
from wsi_mil.report.scatter import Plane, ScatterPlot
from wsi_mil.report.task_report import TaskReport
from wsi_mil.results import Results
from wsi_mil.statistics import CohortProjections, GroupEffect, group_effect, read_projections

FOLD, SPLIT, SCANNER = "fold", "split", "scanner"
SIGNIFICANT = 0.05
COLUMNS = ["encoder", "grouping", "beside", "share", "by_chance", "p", "p_all", "component", "component_share", "p_component"]
COLUMNS += ["p_component_all", "n_patients", "n_units", "n_groups", "within_patients"]


@dataclass(frozen=True)
class Grouping:
    """A grouping of slides.

    Attributes:
        name: name of the grouping.
        group_of: group by slide_id, without slides that have no group.
        order: groups that come first in the legend.
        rest: legend entry of slides without a group.
    """

    name: str
    group_of: dict[str, str]
    order: tuple[str, ...] = ()
    rest: str = "unknown"

    @property
    def n_groups(self) -> int:
        """Number of different groups."""
        return len(set(self.group_of.values()))


@dataclass(frozen=True)
class Effect:
    """Effect of a grouping.

    Attributes:
        name: name of the grouping.
        constant: name of the grouping that is held constant, or "".
        result: explained shares and p-values.
        p_all: p-value of all components together, adjusted for all tests of this encoder.
        p_component_all: adjusted p-value of the component that is explained best.
        has_power: whether there are enough patients for any adjusted p-value below 0.05.
    """

    name: str
    constant: str
    result: GroupEffect
    p_all: float
    p_component_all: float
    has_power: bool

    @property
    def is_significant(self) -> bool:
        """Whether the effect is significant at 5 %, on all components together or on one, corrected for all tests."""
        return min(self.p_all, self.p_component_all) < SIGNIFICANT


@dataclass(frozen=True)
class BatchEffects:
    """Batch effects in the features of one encoder entry.

    Attributes:
        encoder: name of the entry.
        receipt: receipt of `statistics`.
        shares: share of the total variance of each component.
        plots: one for each grouping with at least two groups, of the first two components; then one for each grouping that
            is associated most with a later component.
        left_out: groupings without a plot, with the reason.
        effects: one for each test.
        sentences: conclusion of each effect.
        label_groups: groups of labels, in order.
        cross_table: number of slides by scanner and group of labels, if both differ.
    """

    encoder: str
    receipt: Mapping[str, Any]
    shares: tuple[float, ...]
    plots: tuple[ScatterPlot, ...]
    left_out: tuple[str, ...]
    effects: tuple[Effect, ...]
    sentences: tuple[str, ...]
    label_groups: tuple[str, ...]
    cross_table: dict[str, Counter[str]]

    def warnings_on(self, grouping: str) -> list[str]:
        """Return the sentences on a grouping that slides cluster by, or whose effect cannot be determined."""
        pairs = zip(self.effects, self.sentences, strict=True)
        return [text for e, text in pairs if e.name == grouping and (e.is_significant or np.isnan(e.result.share))]


@dataclass(frozen=True)
class EncoderFeatures:
    """Features of one encoder entry, with what is the same for all targets.

    Attributes:
        encoder: name of the entry.
        projections: its slides and tiles on the principal components.
        scanner: scanner of each slide.
        scanner_effect: what scanners explain if nothing is held constant; None if there are not two of them.
    """

    encoder: str
    projections: CohortProjections
    scanner: Grouping
    scanner_effect: GroupEffect | None


def read_features(rows: Iterable[SlideRow], config: Config) -> list[EncoderFeatures]:
    """Read what `statistics` and `tile` found, for every encoder entry."""
    by_id = {row.slide_id: row for row in rows}
    return [_read_encoder(encoder, by_id, config) for encoder in config.encoders]


def batch_effects(
    rows: Iterable[SlideRow], report: TaskReport, features: Iterable[EncoderFeatures], splits: Splits | None
) -> list[BatchEffects]:
    """Return the batch effects in the features of every encoder entry, beside the groups of labels of a report.

    Args:
        rows: with the labels of the target.
        report: of the target.
        features: of all encoder entries.
        splits: folds of the target; None if its models were trained in another run.
    """
    by_id = {row.slide_id: row for row in rows}
    return [_encoder_effects(of_encoder, by_id, splits, report) for of_encoder in features]


def write_effects(effects: Iterable[BatchEffects], path: Path) -> None:
    """Write the figures of all effects as a table."""
    write_table(path, COLUMNS, [[entry.encoder, *_cells(effect)] for entry in effects for effect in entry.effects])


def _read_encoder(encoder: str, rows: Mapping[str, SlideRow], config: Config) -> EncoderFeatures:
    projections = read_projections(Results(config.results).statistics(encoder))
    slides = [rows[slide_id] for slide_id in projections.slide_ids]
    scanner = Grouping(SCANNER, _present({row.slide_id: _scanner(row, _tiles_of(encoder, config)) for row in slides}))
    can_be_tested = bool(projections.shares) and scanner.n_groups > 1
    patients = {row.slide_id: row.patient_id for row in slides}
    effect = _explained(projections, patients, scanner, None) if can_be_tested else None
    return EncoderFeatures(encoder, projections, scanner, effect)


def _encoder_effects(
    features: EncoderFeatures, rows: Mapping[str, SlideRow], splits: Splits | None, report: TaskReport
) -> BatchEffects:
    projections, scanner = features.projections, features.scanner
    slides = [rows[slide_id] for slide_id in projections.slide_ids]
    groups = report.label_groups({row.label for row in slides if row.label})
    group_of = {row.slide_id: groups[row.label] for row in slides if row.label}
    label = Grouping(report.answer, group_of, tuple(dict.fromkeys(groups.values())), report.unknown)
    groupings = [label, _held_out(splits, projections.slide_ids), scanner]
    patients = {row.slide_id: row.patient_id for row in slides}
    effects = _effects(features, groupings, patients) if projections.shares else []
    return BatchEffects(
        encoder=features.encoder,
        receipt=projections.receipt,
        shares=projections.shares,
        plots=tuple(_plots(projections, groupings, effects)),
        left_out=tuple(_why_left_out(g, projections, trained=splits is None) for g in groupings if g.n_groups < 2),
        effects=tuple(effects),
        sentences=tuple(_sentences(effects, len(projections.shares))),
        label_groups=label.order,
        cross_table=_cross_table(scanner, label) if label.n_groups > 1 and scanner.n_groups > 1 else {},
    )


def _plots(projections: CohortProjections, groupings: Iterable[Grouping], effects: Iterable[Effect]) -> list[ScatterPlot]:
    """Plots of all groupings in the first two components, and of those associated most with a later component in that one."""
    plotted = [grouping for grouping in groupings if grouping.n_groups > 1] if projections.shares else []
    strongest = {e.name: e.result.component for e in effects if e.is_significant and not e.constant}
    pairs = [(g, 1) for g in plotted] + [(g, strongest[g.name]) for g in plotted if strongest.get(g.name, 0) > 1]
    planes = {y: _plane(projections, (0, y)) for y in dict.fromkeys(y for _, y in pairs)}
    return [planes[y].plot(g.name, g.group_of, g.order, rest=g.rest) for g, y in pairs]


def _plane(projections: CohortProjections, axes: tuple[int, int]) -> Plane:
    """Two components; if there is only one, zeros replace the other."""
    slides, tiles = (np.pad(p, ((0, 0), (0, 1)))[:, axes] for p in (projections.slides, projections.tiles))
    return Plane(axes, projections.slide_ids, slides, projections.tile_slides, tiles)


def _tiles_of(encoder: str, config: Config) -> Path | None:
    """Folder with the tiles of an entry; for vectors of slides, those of another entry, whose slides are the same."""
    name = encoder if encoder in config.of_tiles else next(iter(config.of_tiles), "")
    return Results(config.results).tiles(config.encoders[name].tiling) if name else None


def _scanner(row: SlideRow, tiles: Path | None) -> str:
    """Scanner in the sheet, else in the slide file, else the vendor, the only one in receipts of earlier versions."""
    metadata = read_receipt(tiles / f"{row.slide_id}.json") if tiles else {}
    return row.scanner or metadata.get("scanner") or metadata.get("vendor") or ""


def _held_out(splits: Splits | None, slide_ids: Sequence[str]) -> Grouping:
    """Fold that holds each slide out, the first one if folds are repeated; roles if there is a fixed split."""
    if splits is None:
        return Grouping(FOLD, {})
    if splits.n_folds == 1:
        roles = {s: str(splits.roles[0][s]) for s in slide_ids if s in splits.roles[0]}
        return Grouping(SPLIT, roles, tuple(Role), "not in the split")
    fold_of = {}
    for slide_id in slide_ids:
        folds = (f"fold {k}" for k, roles in enumerate(splits.roles) if roles.get(slide_id) is Role.TEST)
        fold_of[slide_id] = next(folds, "")
    return Grouping(FOLD, _present(fold_of), tuple(f"fold {k}" for k in range(splits.n_folds)), "in no fold")


def _effects(features: EncoderFeatures, groupings: Sequence[Grouping], patients: Mapping[str, str]) -> list[Effect]:
    """Effect of each grouping alone; then of label and scanner, each with the other held constant."""
    label, scanner = groupings[0], groupings[-1]
    tests: list[tuple[Grouping, Grouping | None]] = [(g, None) for g in groupings if g.n_groups > 1]
    if label.n_groups > 1 and scanner.n_groups > 1:
        tests += [(scanner, label), (label, scanner)]
    alone = {SCANNER: features.scanner_effect}
    results = [
        (alone.get(grouping.name) if constant is None else None) or _explained(features.projections, patients, grouping, constant)
        for grouping, constant in tests
    ]
    p = np.array([[r.p, r.p_component] for r in results]).reshape(len(results), 2)
    adjusted = np.full(p.shape, np.nan)
    adjusted[~np.isnan(p)] = holm(p[~np.isnan(p)])
    n_tests = int((~np.isnan(p)).sum())
    return [
        Effect(g.name, constant.name if constant else "", r, p_all, p_component, r.least_p * n_tests < SIGNIFICANT)
        for (g, constant), r, (p_all, p_component) in zip(tests, results, adjusted.tolist(), strict=True)
    ]


def _explained(
    projections: CohortProjections, patients: Mapping[str, str], grouping: Grouping, constant: Grouping | None
) -> GroupEffect:
    rows = [
        i for i, s in enumerate(projections.slide_ids) if s in grouping.group_of and (constant is None or s in constant.group_of)
    ]
    ids = [projections.slide_ids[i] for i in rows]
    strata = [constant.group_of[s] for s in ids] if constant else None
    groups = [grouping.group_of[s] for s in ids]
    return group_effect(projections.slides[rows], groups, [patients[s] for s in ids], strata=strata)


def _sentences(effects: Iterable[Effect], n_components: int) -> list[str]:
    """Conclusion of each effect, no stronger than its figures."""
    return [_undefined(e) if np.isnan(e.result.share) else _conclusion(e, n_components) for e in effects]


def _conclusion(effect: Effect, n_components: int) -> str:
    result = effect.result
    within = f" among slides of the same {effect.constant}" if effect.constant else ""
    subsets = f"{result.n_units} subsets of " if result.n_units != result.n_patients else ""
    sample = f"{subsets}{result.n_patients} patients" + (", compared within patients" if result.is_paired else "")
    figures = f"{_percent(result.share)} of the variance between slides, {_percent(result.chance)} by chance"
    figures += f", adjusted p = {effect.p_all:.3f}"
    if n_components > 1:
        figures += f"; {_percent(result.component_share)} of component {result.component + 1}"
        figures += f", adjusted p = {effect.p_component_all:.3f}"
    figures = f"({figures}; {sample})"
    if effect.is_significant:
        return f"Slides cluster by {effect.name}{within} {figures}."
    if not effect.has_power:
        return f"There are too few patients to test whether slides cluster by {effect.name}{within} {figures}."
    return f"There is no evidence that slides cluster by {effect.name}{within} {figures}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _undefined(effect: Effect) -> str:
    if effect.constant:
        return (
            f"The effect of the {effect.name} cannot be separated from that of the {effect.constant}: no {effect.constant} has"
            f" enough slides of two {effect.name}s."
        )
    return f"Clustering by {effect.name} cannot be tested: there are hardly more patients than {effect.name}s."


def _why_left_out(grouping: Grouping, projections: CohortProjections, *, trained: bool) -> str:
    if grouping.name == FOLD and trained:
        return "by fold: the models were trained in another run, so these slides are in no fold"
    if not grouping.group_of:
        return f"by {grouping.name}: unknown for all slides"
    name = next(iter(grouping.group_of.values()))
    n_rest = len(projections.slide_ids) - len(grouping.group_of)
    rest = f", and {n_rest} {'slide' if n_rest == 1 else 'slides'} ({grouping.rest})" if n_rest else ""
    return f"by {grouping.name}: there is only one ({name}){rest}"


def _cross_table(scanner: Grouping, label: Grouping) -> dict[str, Counter[str]]:
    """Number of slides by scanner and label."""
    table = {name: Counter[str]() for name in sorted(set(scanner.group_of.values()))}
    for slide_id, name in scanner.group_of.items():
        if slide_id in label.group_of:
            table[name][label.group_of[slide_id]] += 1
    return table


def _present(cells: Mapping[str, str]) -> dict[str, str]:
    return {slide_id: text for slide_id, text in cells.items() if text}


def _cells(effect: Effect) -> list[object]:
    result = effect.result
    together = (_cell(v) for v in (result.share, result.chance, result.p, effect.p_all))
    if np.isnan(result.share):
        strongest = ["", "", "", ""]
    else:
        strongest = [str(result.component + 1), *map(_cell, (result.component_share, result.p_component, effect.p_component_all))]
    sample = [result.n_patients, result.n_units, result.n_groups, result.is_paired]
    return [effect.name, effect.constant, *together, *strongest, *sample]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
