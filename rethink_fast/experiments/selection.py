"""Which tasks of an experiment are carried out where only some networks are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import Run
from ..errors import UserError, one_of
from .spec import Experiment, Task


def is_wanted(task: Task, models: Sequence[str]) -> bool:
    """Return whether a task trains one of these networks; every task is wanted where none is named."""
    return not models or (isinstance(task, Run) and task.model.model in models)


def of_models(experiments: dict[str, Experiment], models: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments that have a run of these networks. Raises UserError where a network has none."""
    tasks = [task for experiment in experiments.values() for task in experiment.tasks]
    known = dict.fromkeys(str(task.model.model) for task in tasks if isinstance(task, Run))
    for model in models:
        if not known:
            raise UserError(
                f"{', '.join(experiments)} trains no network by name",
                "omit --models",
                option="--models",
                value=model,
            )
        one_of("--models", model, known)
    return {
        name: each for name, each in experiments.items() if not models or any(is_wanted(t, models) for t in each.tasks)
    }
