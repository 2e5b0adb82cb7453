"""Which tasks of an experiment are carried out where only some networks are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import Run
from ..errors import UserError, one_of
from .scales import Scale
from .spec import Experiment, Task


def is_wanted(task: Task, models: Sequence[str]) -> bool:
    """Return whether a task trains one of these networks; every task is wanted where none is named."""
    return not models or (isinstance(task, Run) and task.model.model in models)


def trained(experiments: dict[str, Experiment], models: Sequence[str], scale: Scale) -> tuple[str, ...]:
    """Return the networks that the experiments train for those named: they themselves, and what stands in for them.

    Raises UserError where nothing is trained for one.
    """
    tasks = [task for experiment in experiments.values() for task in experiment.tasks]
    known = dict.fromkeys(str(task.model.model) for task in tasks if isinstance(task, Run))
    found: dict[str, None] = {}
    for model in models:
        if not known:
            raise UserError(
                f"{', '.join(experiments)} trains no network by name",
                "omit --models",
                option="--models",
                value=model,
            )
        here = [name for name in (model, scale.stand_in(model)) if name in known]
        found.update(dict.fromkeys(here or [one_of("--models", model, known)]))
    return tuple(found)


def of_models(experiments: dict[str, Experiment], models: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments that have a run of these networks."""
    return {
        name: each for name, each in experiments.items() if not models or any(is_wanted(t, models) for t in each.tasks)
    }
