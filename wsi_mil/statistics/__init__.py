"""Statistics of the features of a cohort, out of core: mean, variance, principal components, and effects of groupings."""

from wsi_mil.statistics.grouping import PERMUTATIONS as PERMUTATIONS
from wsi_mil.statistics.grouping import GroupEffect as GroupEffect
from wsi_mil.statistics.grouping import group_effect as group_effect
from wsi_mil.statistics.stage import CohortProjections as CohortProjections
from wsi_mil.statistics.stage import read_projections as read_projections
from wsi_mil.statistics.stage import read_slide_means as read_slide_means
from wsi_mil.statistics.stage import write_statistics as write_statistics
from wsi_mil.statistics.telling import Telling as Telling
from wsi_mil.statistics.telling import telling as telling
