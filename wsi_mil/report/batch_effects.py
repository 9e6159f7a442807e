"""Whether slides lie where they do because of their label, or of their scanner or fold."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.cohort.splits import Splits, read_splits
from wsi_mil.config import Config
from wsi_mil.files import write_table
from wsi_mil.metrics import holm
from wsi_mil.receipts import read_receipt
from wsi_mil.records import Role, SlideRow
from wsi_mil.report.scatter import Panel, Plane
from wsi_mil.results import Results
from wsi_mil.statistics import CohortProjections, GroupEffect, group_effect, read_projections

LABEL, FOLD, SPLIT, SCANNER = "label", "fold", "split", "scanner"
SIGNIFICANT = 0.05
COLUMNS = ["encoder", "grouping", "beside", "share", "by_chance", "p", "p_all", "component", "component_share", "p_component"]
COLUMNS += ["p_component_all", "n_patients", "n_units", "n_groups", "within_patients"]


@dataclass(frozen=True)
class Grouping:
    """A way to part slides.

    Attributes:
        name: what it is called.
        of: group by slide_id; slides that have none are left out.
        order: groups in the order of the legend, where there is one.
        rest: what slides without a group are called.
    """

    name: str
    of: dict[str, str]
    order: tuple[str, ...] = ()
    rest: str = "not known"

    @property
    def n_groups(self) -> int:
        """Different groups."""
        return len(set(self.of.values()))


@dataclass(frozen=True)
class Effect:
    """What a grouping explains.

    Attributes:
        name: of the grouping.
        beside: name of the grouping that is held constant, or "".
        found: figures.
        p_all: p-value adjusted for all questions that are asked of this encoder.
        p_component_all: the same of the single component that is explained best.
        can_be_shown: whether there are enough patients for any p-value below 0.05, all questions considered.
    """

    name: str
    beside: str
    found: GroupEffect
    p_all: float
    p_component_all: float
    can_be_shown: bool

    @property
    def is_significant(self) -> bool:
        """Whether it is unlikely to be chance at 5 %, all questions considered: of all components together, or of one."""
        return min(self.p_all, self.p_component_all) < SIGNIFICANT


@dataclass(frozen=True)
class BatchEffects:
    """What the page says about one encoder entry.

    Attributes:
        about: receipt of `statistics`.
        shares: of the total variance, of all components that are kept.
        panels: one for each grouping with two groups or more, in the first two components; then one for each that goes with
            another component most.
        left_out: why there is no panel of a grouping, in words.
        effects: one for each question that can be asked.
        sentences: what they mean.
        together: slides by scanner and label, where both differ.
    """

    encoder: str
    about: Mapping[str, Any]
    shares: tuple[float, ...]
    panels: tuple[Panel, ...]
    left_out: tuple[str, ...]
    effects: tuple[Effect, ...]
    sentences: tuple[str, ...]
    together: dict[str, Counter[str]]

    def warnings_on(self, grouping: str) -> list[str]:
        """The sentences on a grouping that slides cluster by, or that cannot be told from another."""
        pairs = zip(self.effects, self.sentences, strict=True)
        return [text for e, text in pairs if e.name == grouping and (e.is_significant or np.isnan(e.found.share))]


def batch_effects(rows: Iterable[SlideRow], labels: tuple[str, ...], config: Config) -> list[BatchEffects]:
    """Return the batch effects in the features of every encoder entry; `labels` in the order of the legend."""
    by_id = {row.slide_id: row for row in rows}
    splits = None if config.trained else read_splits(Results(config.results).splits)
    return [_of_encoder(encoder, by_id, splits, labels, config) for encoder in config.encoders]


def write_effects(effects: Iterable[BatchEffects], path: Path) -> None:
    """The figures as a table."""
    write_table(path, COLUMNS, [[of.encoder, *_cells(effect)] for of in effects for effect in of.effects])


def _of_encoder(
    encoder: str, rows: Mapping[str, SlideRow], splits: Splits | None, labels: tuple[str, ...], config: Config
) -> BatchEffects:
    found = read_projections(Results(config.results).statistics(encoder))
    shown = [rows[slide_id] for slide_id in found.slide_ids]
    tiles = Results(config.results).tiles(config.encoders[encoder].tiling)
    scanner = Grouping(SCANNER, _present({row.slide_id: _scanner(row, tiles) for row in shown}))
    label = Grouping(LABEL, _present({row.slide_id: row.label for row in shown}), labels, "no label")
    groupings = [label, _held_out(splits, found.slide_ids), scanner]
    effects = _effects(found, groupings, {row.slide_id: row.patient_id for row in shown}) if found.shares else []
    both = label.n_groups > 1 and scanner.n_groups > 1
    return BatchEffects(
        encoder=encoder,
        about=found.receipt,
        shares=found.shares,
        panels=tuple(_panels(found, groupings, effects)),
        left_out=tuple(_why_left_out(g, found, trained=splits is None) for g in groupings if g.n_groups < 2),
        effects=tuple(effects),
        sentences=tuple(_sentences(effects, len(found.shares))),
        together=_cross_table(scanner, label) if both else {},
    )


def _panels(found: CohortProjections, groupings: Iterable[Grouping], effects: Iterable[Effect]) -> list[Panel]:
    """All groupings in the first two components; where one goes with a later component most, that one too."""
    shown = [grouping for grouping in groupings if grouping.n_groups > 1] if found.shares else []
    strongest = {e.name: e.found.component for e in effects if e.is_significant and not e.beside}
    asked = [(g, 1) for g in shown] + [(g, strongest[g.name]) for g in shown if strongest.get(g.name, 0) > 1]
    planes = {y: _plane(found, (0, y)) for y in dict.fromkeys(y for _, y in asked)}
    return [planes[y].panel(g.name, g.of, g.order, rest=g.rest) for g, y in asked]


def _plane(found: CohortProjections, axes: tuple[int, int]) -> Plane:
    """Where there is one component, zeros stand for the other."""
    slides, tiles = (np.pad(p, ((0, 0), (0, 1)))[:, axes] for p in (found.slides, found.tiles))
    return Plane(axes, found.slide_ids, slides, found.tile_slides, tiles)


def _scanner(row: SlideRow, tiles: Path) -> str:
    """From the sheet, else as the file names it, else who made it; receipts of earlier versions hold the last alone."""
    about = read_receipt(tiles / f"{row.slide_id}.json")
    return row.scanner or about.get("scanner") or about.get("vendor") or ""


def _held_out(splits: Splits | None, slide_ids: Sequence[str]) -> Grouping:
    """The fold that holds a slide out; of several draws the first's. A fixed split has roles instead."""
    if splits is None:
        return Grouping(FOLD, {})
    if splits.n_folds == 1:
        roles = {s: str(splits.roles[0][s]) for s in slide_ids if s in splits.roles[0]}
        return Grouping(SPLIT, roles, tuple(Role), "not in the split")
    of = {}
    for slide_id in slide_ids:
        folds = (f"fold {k}" for k, roles in enumerate(splits.roles) if roles.get(slide_id) is Role.TEST)
        of[slide_id] = next(folds, "")
    return Grouping(FOLD, _present(of), tuple(f"fold {k}" for k in range(splits.n_folds)), "in no fold")


def _effects(found: CohortProjections, groupings: Sequence[Grouping], patients: Mapping[str, str]) -> list[Effect]:
    """Each grouping by itself; then label and scanner, each with the other held constant."""
    label, scanner = groupings[0], groupings[-1]
    asked: list[tuple[Grouping, Grouping | None]] = [(g, None) for g in groupings if g.n_groups > 1]
    if label.n_groups > 1 and scanner.n_groups > 1:
        asked += [(scanner, label), (label, scanner)]
    figures = [_explained(found, patients, grouping, beside) for grouping, beside in asked]
    p = np.array([[f.p, f.p_component] for f in figures]).reshape(len(figures), 2)
    adjusted = np.full(p.shape, np.nan)
    adjusted[~np.isnan(p)] = holm(p[~np.isnan(p)])
    n_questions = int((~np.isnan(p)).sum())
    return [
        Effect(g.name, beside.name if beside else "", f, whole, one, f.least_p * n_questions < SIGNIFICANT)
        for (g, beside), f, (whole, one) in zip(asked, figures, adjusted.tolist(), strict=True)
    ]


def _explained(found: CohortProjections, patients: Mapping[str, str], grouping: Grouping, beside: Grouping | None) -> GroupEffect:
    kept = [i for i, s in enumerate(found.slide_ids) if s in grouping.of and (beside is None or s in beside.of)]
    ids = [found.slide_ids[i] for i in kept]
    strata = [beside.of[s] for s in ids] if beside else None
    return group_effect(found.slides[kept], [grouping.of[s] for s in ids], [patients[s] for s in ids], strata=strata)


def _sentences(effects: Iterable[Effect], k: int) -> list[str]:
    """What the figures mean, no more than they bear."""
    return [_undefined(e) if np.isnan(e.found.share) else _defined(e, k) for e in effects]


def _defined(effect: Effect, k: int) -> str:
    found, beyond = effect.found, f" among slides of the same {effect.beside}" if effect.beside else ""
    parts = f"{found.n_units} parts of " if found.n_units != found.n_patients else ""
    units = f"{parts}{found.n_patients} patients"
    units += ", each compared with itself" if found.is_paired else ""
    whole = f"{_percent(found.share)} of the spread between slides, {_percent(found.chance)} by chance, p = {effect.p_all:.3f}"
    one = f"of component {found.component + 1} alone {_percent(found.component_share)}, p = {effect.p_component_all:.3f}"
    figures = f"({f'{whole}; {one}' if k > 1 else whole}; {units})"
    if effect.is_significant:
        return f"Slides cluster by {effect.name}{beyond} {figures}."
    if not effect.can_be_shown:
        return f"There are too few patients to show whether slides cluster by {effect.name}{beyond} {figures}."
    return f"It is not shown that slides cluster by {effect.name}{beyond} {figures}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _undefined(effect: Effect) -> str:
    if effect.beside:
        return (
            f"What goes with the {effect.name} cannot be told from what goes with the {effect.beside}: no {effect.beside} has"
            f" enough slides of two {effect.name}s."
        )
    return f"Whether slides cluster by {effect.name} cannot be told: there are hardly more patients than {effect.name}s."


def _why_left_out(grouping: Grouping, found: CohortProjections, *, trained: bool) -> str:
    if grouping.name == FOLD and trained:
        return "by fold: the models were trained elsewhere, so these slides are in no fold"
    if not grouping.of:
        return f"by {grouping.name}: not known of any slide"
    name = next(iter(grouping.of.values()))
    without = len(found.slide_ids) - len(grouping.of)
    others = f" and {without} {'slide' if without == 1 else 'slides'} beside it: {grouping.rest}" if without else ""
    return f"by {grouping.name}: there is one only ({name}){others}"


def _cross_table(scanner: Grouping, label: Grouping) -> dict[str, Counter[str]]:
    """Number of slides by scanner, then label."""
    table = {name: Counter[str]() for name in sorted(set(scanner.of.values()))}
    for slide_id, name in scanner.of.items():
        if slide_id in label.of:
            table[name][label.of[slide_id]] += 1
    return table


def _present(cells: Mapping[str, str]) -> dict[str, str]:
    return {slide_id: text for slide_id, text in cells.items() if text}


def _cells(effect: Effect) -> list[object]:
    found = effect.found
    whole = (_cell(v) for v in (found.share, found.chance, found.p, effect.p_all))
    if np.isnan(found.share):
        one = ["", "", "", ""]
    else:
        one = [str(found.component + 1), *map(_cell, (found.component_share, found.p_component, effect.p_component_all))]
    return [effect.name, effect.beside, *whole, *one, found.n_patients, found.n_units, found.n_groups, found.is_paired]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
