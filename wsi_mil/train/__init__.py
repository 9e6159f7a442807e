"""Stage `train`: fit a model on one fold."""

from wsi_mil.train.keeping import Keep as Keep
from wsi_mil.train.keeping import trainings_at_once as trainings_at_once
from wsi_mil.train.loop import fit as fit
from wsi_mil.train.loop import predict_outputs as predict_outputs
from wsi_mil.train.stage import Fold as Fold
from wsi_mil.train.stage import train_fold as train_fold
