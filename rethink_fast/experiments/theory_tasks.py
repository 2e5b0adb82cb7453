"""The tasks that are not plain runs: calls into rethink_fast.theory, and perceptrons that are measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..data import Dataset
from ..data.source import Progress
from ..theory import run_table3, run_theorem1
from .grid_run import stability_of, train_and_measure
from .population_run import memorization_of
from .spec import TheoryTask

ON_CPU: dict[str, Callable[..., dict[str, Any]]] = {"grid run": train_and_measure, "stability": stability_of}
"""Computations that take their images on the CPU, whatever the device."""


def compute(
    task: TheoryTask,
    dataset: Dataset,
    progress: Progress,
    *,
    folder: Path,
    device: torch.device,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Run a computation and return its record.

    progress: called with (what, done, total); may raise to stop it.
    folder: of the task; what a computation leaves there, it resumes from.
    device: where a population trains; the others compute where their images are.
    warn: takes a sentence for the user.
    Raises UserError.
    """
    if task.name == "theorem1":
        return run_theorem1(dataset, task.seed, progress).as_dict()
    if task.name == "table3":
        results = run_table3(dataset, seed=task.seed, progress=progress, **dict(task.options))
        first = results[0]
        return {
            **{name: getattr(first, name) for name in ("dataset", "data_source", "n_train", "n_test", "device")},
            "rows": {result.preprocessing: result.as_dict() for result in results},
        }
    if task.name in ON_CPU:
        return ON_CPU[task.name](dataset, progress, seed=task.seed, **dict(task.options))
    if task.name == "memorization":
        options = dict(task.options)
        return memorization_of(dataset, progress, folder, device, warn, seed=task.seed, **options)
    raise ValueError(f"no computation is called {task.name!r}")
