"""Statistics of the whole cohort's features, out of core: mean, variance, principal components; who explains them."""

from wsi_mil.statistics.grouping import DRAWS as DRAWS
from wsi_mil.statistics.grouping import Explained as Explained
from wsi_mil.statistics.grouping import explained as explained
from wsi_mil.statistics.stage import CohortProjections as CohortProjections
from wsi_mil.statistics.stage import read_projections as read_projections
from wsi_mil.statistics.stage import write_statistics as write_statistics
