"""Tasks that a model is trained for, by kind: classes, several labels, a number, survival."""

from wsi_mil.tasks.base import STAMP_KEY as STAMP_KEY
from wsi_mil.tasks.base import Labels as Labels
from wsi_mil.tasks.base import Outcomes as Outcomes
from wsi_mil.tasks.base import ShownPrediction as ShownPrediction
from wsi_mil.tasks.base import Task as Task
from wsi_mil.tasks.base import Truth as Truth
from wsi_mil.tasks.base import mean_by_patient as mean_by_patient
from wsi_mil.tasks.base import one_index as one_index
from wsi_mil.tasks.base import one_number as one_number
from wsi_mil.tasks.base import probability_text as probability_text
from wsi_mil.tasks.classes import Classes as Classes
from wsi_mil.tasks.explained import all_explained as all_explained
from wsi_mil.tasks.explained import chosen_outputs as chosen_outputs
from wsi_mil.tasks.explained import not_predicted as not_predicted
from wsi_mil.tasks.explained import own_choice as own_choice
from wsi_mil.tasks.explained import wanted_outputs as wanted_outputs
from wsi_mil.tasks.multilabel import Multilabel as Multilabel
from wsi_mil.tasks.partial_likelihood import partial_likelihood as partial_likelihood
from wsi_mil.tasks.registry import read_shown_prediction as read_shown_prediction
from wsi_mil.tasks.registry import task_of as task_of
from wsi_mil.tasks.registry import task_of_stamp as task_of_stamp
from wsi_mil.tasks.regression import Regression as Regression
from wsi_mil.tasks.survival import Survival as Survival
