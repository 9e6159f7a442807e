"""Which outputs of a model are explained on a slide."""

from wsi_mil.config import OutputChoice
from wsi_mil.records import SlidePrediction
from wsi_mil.tasks.base import Task
from wsi_mil.tasks.classes import Classes


def chosen_outputs(task: Task, prediction: SlidePrediction, choice: OutputChoice) -> tuple[int, ...]:
    """Return the indices of the outputs that are explained for a slide; scores for the first have the names of the methods.

    The first one is what the slide is predicted as (of two classes the positive one) where that is among them, so that
    pictures of several slides answer one question.

    Args:
        task: what the model learned.
        prediction: of the slide.
        choice: setting `explain.outputs`; names that are those of another target's outputs are left out, and if none is
            left, it is as `predicted`.
    """
    predicted = task.explained(prediction)
    wanted = wanted_outputs(task, choice)
    if not wanted:
        return predicted
    first = next((output for output in predicted if output in wanted), wanted[0])
    return (first, *(output for output in wanted if output != first))


def wanted_outputs(task: Task, choice: OutputChoice) -> tuple[int, ...]:
    """Return the indices of the outputs that a setting asks for on every slide, in its order; () if predictions decide."""
    if choice == "predicted":
        return ()
    if choice == "all":
        return all_explained(task)
    return tuple(task.explainable.index(name) for name in choice if name in task.explainable)


def all_explained(task: Task) -> tuple[int, ...]:
    """Return the indices of all outputs; of two classes the positive one, as the log odds of the other are its negative."""
    if isinstance(task, Classes) and task.is_binary:
        return (1,)
    return tuple(range(len(task.explainable)))


def not_predicted(task: Task, output: int) -> str:
    """Return what a slide is that is not predicted as an output, which is no number or risk, in words."""
    if isinstance(task, Classes) and (output == 0 or not task.is_binary):
        return f"not predicted as {task.output_name(output)}"
    return "predicted negative"


def own_choice(task: Task, choice: OutputChoice) -> OutputChoice:
    """Return what a setting says about the outputs of a task, so that a name of another target's changes nothing for it.

    `predicted` where it comes to that: of two classes the positive one, or the only output that there is.
    """
    wanted = wanted_outputs(task, choice)
    if not wanted or (wanted == all_explained(task) and len(wanted) == 1):
        return "predicted"
    return choice if choice == "all" else tuple(task.explainable[output] for output in wanted)
