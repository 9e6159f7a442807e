"""Figures of survival on NumPy arrays: times `(n,)` above zero, whether the event was observed `(n,)`, risks `(n,)`.

A higher risk stands for an earlier event. A patient who is censored at the time of another's event was still at risk then.
Figures that are weighted by the inverse probability of not being censored estimate this probability from the same
patients that they are computed of.
"""

from wsi_mil.survival.baseline import BaselineHazard as BaselineHazard
from wsi_mil.survival.baseline import breslow as breslow
from wsi_mil.survival.concordance import harrell_c as harrell_c
from wsi_mil.survival.concordance import uno_c as uno_c
from wsi_mil.survival.groups import group_figures as group_figures
from wsi_mil.survival.groups import lifelines_fault as lifelines_fault
from wsi_mil.survival.horizons import auc_at as auc_at
from wsi_mil.survival.horizons import brier_at as brier_at
from wsi_mil.survival.horizons import integrated_brier as integrated_brier
