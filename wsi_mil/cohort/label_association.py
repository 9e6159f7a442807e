"""Whether groups of patients, such as sites, go together with what is learned of them, in words. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsi_mil.cohort.association import Association, association, permuted_share
from wsi_mil.records import SlideRow
from wsi_mil.tasks import Task

MIN_DRAWS, DRAWS_PER_LABEL = 1000, 100
"""Permutations of each label, of which enough are needed to correct for the number of labels."""

MAX_P = 0.05
"""The strongest of several labels goes together with groups if fewer permutations do as much, times the number of labels."""

PARTS = {
    "regression": ("value", "values in {n} parts from low to high"),
    "survival": ("follow-up", "follow-up in {n} parts by event and time"),
}
"""By the kind of task, what goes together with groups if there are no labels, and the parts in place of them."""

Labels = Mapping[str, Sequence[str]]
"""Labels of the slides of each patient."""


@dataclass(frozen=True)
class LabelAssociation:
    """Association of groups with what is learned.

    Attributes:
        found: the association; of several labels, that of the strongest.
        what: what goes together with the group, such as "label".
        told: what the group alone predicts.
        detail: what Cramér's V and the AUROC are of, or "".
        is_by_chance: whether the strongest of several labels can be as strong by chance.
    """

    found: Association
    what: str = "label"
    told: str = "the label"
    detail: str = ""
    is_by_chance: bool = False

    @property
    def is_above_chance(self) -> bool:
        """Whether the group alone predicts better than chance, also after correction for the number of labels."""
        return self.found.is_above_chance and not self.is_by_chance

    def reaches(self, figure: float) -> bool:
        """Return whether the group alone predicts as well as a model with this AUROC, as far as can be told."""
        return self.is_above_chance and self.found.reaches(figure)


def label_association(rows: Sequence[SlideRow], task: Task) -> LabelAssociation | None:
    """Return the association of the groups of labelled slides with their labels; None if it cannot be measured.

    Of several labels it is that of the label that goes together with the groups most, over the patients of whom it is known.
    Numbers and times are measured in the parts that folds are stratified by.
    """
    group_of = {row.patient_id: row.group for row in rows if row.label and row.group}
    labels = dict[str, list[str]]()
    for row in rows:
        if row.patient_id in group_of and row.label:
            labels.setdefault(row.patient_id, []).append(row.label)
    if len(set(group_of.values())) < 2:
        return None
    if task.is_independent:
        return _of_strongest(group_of, labels, task)
    strata = _equal_together(task.strata(labels, least=2), labels, task)
    found = association(group_of, strata)
    if found is None or task.kind not in PARTS:
        return LabelAssociation(found) if found else None
    what, parts = PARTS[task.kind]
    return LabelAssociation(found, what, "the part", parts.format(n=len(set(strata.values()))))


def learned_word(task: Task) -> str:
    """Return what is learned of a patient, in one word."""
    return PARTS[task.kind][0] if task.kind in PARTS else "label"


def association_text(of: LabelAssociation, column: str) -> str:
    """Return the warning that what is learned follows from the group to some extent."""
    (low, high), detail = of.found.ci95, f", {of.detail}" if of.detail else ""
    return (
        f"{column} and {of.what} go together (Cramér's V {of.found.cramers_v:.2f}{detail}): the {column} alone predicts {of.told}"
        f" with AUROC {of.found.auroc:.2f} ({low:.2f} to {high:.2f}), so a model can seem good by telling the {column}; look at"
        f" the figures of each {column}"
    )


def _of_strongest(group_of: Mapping[str, str], labels: Labels, task: Task) -> LabelAssociation | None:
    """Association of the label with the largest Cramér's V of those that are not so by chance, or else of all."""
    names = task.explainable
    measured = []
    for index, name in enumerate(names):
        values = _values_of(labels, task, index)
        found = association(group_of, values)
        if found is not None:
            p = permuted_share(group_of, values, draws=max(MIN_DRAWS, DRAWS_PER_LABEL * len(names)))
            measured.append((p * len(names) >= MAX_P, name, found))
    if not measured:
        return None
    is_by_chance, name, found = min(measured, key=lambda entry: (entry[0], -entry[2].cramers_v))
    detail = f"the strongest of {len(names)} labels" if len(names) > 1 else ""
    return LabelAssociation(found, f"label {name!r}", "this label", detail, is_by_chance)


def _values_of(labels: Labels, task: Task, index: int) -> dict[str, int]:
    """Of each patient of whom a label is known, 1 if a slide is positive, else 0."""
    known = {patient: [text for text in own if task.is_known(text, index)] for patient, own in labels.items()}
    return {patient: int(any(task.is_of(text, index) for text in own)) for patient, own in known.items() if own}


def _equal_together(strata: Mapping[str, int], labels: Labels, task: Task) -> dict[str, int]:
    """Strata in which patients of equal labels are together, in the lowest of theirs.

    Parts of equal size divide equal values by the names of patients, which may say the group.
    """
    last_of = {patient: task.in_order(own)[-1] for patient, own in labels.items()}
    lowest = dict[str, int]()
    for patient, last in last_of.items():
        lowest[last] = min(strata[patient], lowest.get(last, strata[patient]))
    return {patient: lowest[last] for patient, last in last_of.items()}
