"""Tasks that a model is trained for. One kind so far: classification."""

from wsi_mil.tasks.base import Outcomes as Outcomes
from wsi_mil.tasks.base import ShownPrediction as ShownPrediction
from wsi_mil.tasks.base import Task as Task
from wsi_mil.tasks.classes import Classes as Classes
from wsi_mil.tasks.registry import read_shown_prediction as read_shown_prediction
from wsi_mil.tasks.registry import task_of as task_of
from wsi_mil.tasks.registry import task_of_stamp as task_of_stamp
