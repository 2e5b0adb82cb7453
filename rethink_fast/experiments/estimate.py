"""What a reproduction will do and how long that may take: seconds a step from a short probe of each kind of run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console

from ..data.loader import Batch, Loader
from ..defaults import ResolvedRun
from ..terminal import number_table
from ..text import duration
from ..train.device import synchronize
from ..train.setup import RunContext, build_run
from . import Experiment, Scale
from .datasets import Sources
from .spec import ResolvedTask

COMPUTATION_SECONDS = {"theorem1": 4.0, "table3": 30.0, "grid run": 6.0, "stability": 60.0}
"""What the computations took on two cores at the laptop's scale: they cannot be probed."""
POPULATION_SECONDS = {"mnist": 3e-4, "cifar10": 8e-4}
"""Of memorization, for each model and image: half of what it took on one core."""


@dataclass(frozen=True)
class Rate:
    """How fast a kind of run is.

    step: seconds of a training step.
    image: seconds of evaluating one image.
    """

    step: float
    image: float


def probe(setup: RunContext) -> Rate:
    """Measure a run's rates in about a second, on throw-away weights."""
    step, loader = setup.step, setup.train

    def seconds(work: Callable[[Loader, Batch], None], batch: Batch, calls: int) -> float:
        """The least of so many calls, after one that is not counted."""
        taken = []
        for _ in range(1 + calls):
            start = time.perf_counter()
            work(loader, batch)
            synchronize(setup.device)
            taken.append(time.perf_counter() - start)
        return min(taken[1:])

    training, evaluation = loader.sizes(loader.batch_size)[0], loader.eval_batch_sizes()[0]
    step.begin_scores()
    return Rate(
        seconds(step.train, loader.warmup_batch(training), 3),
        seconds(step.score, loader.warmup_batch(evaluation), 1) / evaluation,
    )


class Estimates:
    """Expected seconds of each task: probed once for each network, batch size and precision."""

    def __init__(self, scale: Scale, sources: Sources, device: torch.device) -> None:
        self._scale, self._sources, self._device = scale, sources, device
        self._rates: dict[tuple[object, ...], Rate] = {}

    def seconds(self, task: ResolvedTask) -> float:
        """Return the expected seconds of a task, with the usual number of epochs of its network."""
        if not isinstance(task, ResolvedRun):
            options = dict(task.options)
            if task.name == "memorization":
                return POPULATION_SECONDS[task.dataset] * options["images"] * options["models"]
            return COMPUTATION_SECONDS[task.name]
        train = task.train
        kind = (task.dataset, task.model.model, train.batch_size, train.precision)
        dataset = self._sources.dataset(task)
        if kind not in self._rates:
            self._rates[kind] = probe(build_run(task, dataset, self._device))
        rate, images = self._rates[kind], len(dataset.train.index)
        steps = -(-images // train.batch_size)
        size = self._scale.size_of(task)
        epochs = train.epochs
        if size is not None and size.expected_epochs is not None and train.target_loss:
            epochs = min(epochs, size.expected_epochs)
        tested = len(dataset.test.index) if dataset.test else 0
        evaluations = epochs / train.eval_interval
        return epochs * steps * rate.step + evaluations * (images + tested) * rate.image


def show_plan(
    console: Console,
    experiments: dict[str, Experiment],
    expected: Callable[[Experiment], tuple[int, int, float]],
    stopped: dict[str, str],
) -> None:
    """Print a line for each experiment.

    experiments: by name.
    expected: returns for an experiment its tasks, those that are cached or shared with an earlier experiment, and the
        seconds of the others.
    stopped: for experiments that cannot run, whole or in part: why.
    """
    table = number_table("experiment", "tasks", "cached or shared", "to run", "expected")
    total = 0.0
    for name, experiment in experiments.items():
        tasks, ready, seconds = expected(experiment)
        if not tasks:
            table.add_row(name, "-", "-", "-", "not run")
            continue
        total += seconds
        table.add_row(name, str(tasks), str(ready), str(tasks - ready), duration(seconds))
    table.add_section()
    table.add_row("all", "", "", "", duration(total))
    console.print(table)
    for name, why in stopped.items():
        console.print(f"{name} is not run: {why}", soft_wrap=True)
