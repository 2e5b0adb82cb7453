"""The engine in slices of time, as bench_engine and gpu-check measure it. Needs torch and NumPy alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rethink_fast.config import Corruption, CorruptionName, Model, ModelName, Run, Train
from rethink_fast.data import Dataset
from rethink_fast.data.loader import Batch, Loader, ModelInput
from rethink_fast.defaults import ResolvedRun, resolve
from rethink_fast.env import cores
from rethink_fast.errors import Interrupted
from rethink_fast.train.loop import StepProgress, fit
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.state import EpochMetrics, TrainState

SHORT_PAIRS = 31  # for differences of a few hundredths, which is less than a neighbour's work on the machine takes away
CORRUPTIONS: dict[CorruptionName, float | None] = {
    "true": None,
    "partial": 0.5,
    "random": None,
    "shuffled-pixels": None,
    "random-pixels": None,
    "gaussian": None,
}
STILL = 1e-12
"""A learning rate that leaves the weights where they are. With a real one the repeated batch is soon known by heart,
and vanishing gradients underflow, which is slow on a CPU: the two sides would no longer do the same arithmetic."""


class Silent:
    """A listener who has nothing to say and keeps nothing."""

    def on_ready(self, outcome: TrainState) -> None:
        pass

    def on_progress(self, tick: StepProgress) -> None:
        pass

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        pass

    def save(self, outcome: TrainState) -> None:
        pass


class Clock:
    """A check that stops the engine after so many seconds of training: evaluations do not count, and are not cut.

    A run that is interrupted in one would begin the next slice with it, and might not come to train.
    """

    def __init__(self, seconds: float, model: nn.Module) -> None:
        self.seconds, self.model = seconds, model
        self.spent = 0.0
        self.last: float | None = None

    def __call__(self) -> None:
        if not self.model.training:
            self.last = None
            return
        now = time.perf_counter()
        if self.last is not None:
            self.spent += now - self.last
            if self.spent >= self.seconds:
                raise Interrupted
        self.last = now


class Engine:
    """The engine as `rethink-fast bench` runs it, in slices: each goes on where the one before was interrupted.

    The first slice is short, for what only the first one pays. choice: whether to compile, from another engine.
    """

    def __init__(self, setup: RunContext, choice: dict[str, Any] | None = None) -> None:
        self.setup = setup
        self.outcome = TrainState(compile=choice) if choice is not None else None
        self.slice(0.0)

    def slice(self, seconds: float) -> float:
        """Images/s in training over so many seconds of training."""
        images, spent = 0, 0.0
        while not images or spent < seconds:
            before = replace(self.outcome) if self.outcome is not None else TrainState()
            self.outcome = fit(self.setup, Silent(), Clock(seconds - spent, self.setup.model), outcome=self.outcome)
            images += self.outcome.images - before.images
            spent += self.outcome.train_seconds - before.train_seconds
            if self.outcome.stop_reason != "interrupted":  # at its end: once more from the first epoch
                self.outcome = TrainState(compile=self.outcome.compile)
        return images / spent


class SameBatch(Loader):
    """A loader with nothing to do: in training, every batch is the first one of epoch 0, prepared once."""

    def __init__(self, of: Loader) -> None:
        super().__init__(of.split, of.labels, of.corrupted, of.preprocessing, batch_size=of.batch_size, base=of.base)
        self._batch = next(of.epoch(0))
        self._prepared = of.preprocess(self._batch, 0)

    def epoch(self, epoch: int, start: int = 0, steps: int = 1) -> Iterator[Batch]:
        several, rest = divmod(len(self) - start, steps)
        index = self._batch.index.repeat(steps)
        # One tensor stays one, as a CUDA graph was captured with it.
        rows = index if self._batch.rows is self._batch.index else self._batch.rows.repeat(steps)
        yield from [replace(self._batch, rows=rows, index=index, steps=steps)] * several
        yield from [self._batch] * rest

    def preprocess(self, batch: Batch, epoch: Tensor | int | None) -> ModelInput:
        return self._prepared if epoch is not None else super().preprocess(batch, None)


def make_setup(
    dataset: Dataset, model: ModelName, corruption: CorruptionName, device: torch.device, how: Train = Train()
) -> RunContext:
    """Set up a run as the command line resolves it."""
    return build_run(resolved(model, corruption, device, how), dataset, device)


def resolved(model: ModelName, corruption: CorruptionName, device: torch.device, how: Train = Train()) -> ResolvedRun:
    """Return the complete options of a run on CIFAR-10."""
    run = Run("cifar10", corruption=Corruption(corruption, CORRUPTIONS[corruption]), model=Model(model), train=how)
    return resolve(run, on_gpu=device.type == "cuda", cores=cores())


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def overhead(engine: Engine, model: ModelName, corruption: CorruptionName, seconds: float) -> dict[str, float]:
    """The share of the engine's step that goes when the batch is there already, prepared.

    of_fastest: the same of the fastest slice of each side, which is the truer one on a machine that is not left alone.
    """
    assert engine.outcome is not None
    used, choice = engine.setup, engine.outcome.compile
    run = replace(resolved(model, corruption, used.device), train=replace(used.run.train, lr=STILL))
    made = build_run(run, used.dataset, used.device)
    used.step.reset_graphs()
    # The network and step there are, so that nothing is compiled again.
    full = replace(made, model=used.model, step=used.step)
    whole, bare = Engine(full, choice), Engine(replace(full, train=SameBatch(full.train)), choice)
    rates = [[side.slice(seconds / (2 * SHORT_PAIRS)) for side in (whole, bare)] for _ in range(SHORT_PAIRS)]
    fastest = [max(side) for side in zip(*rates, strict=True)]
    return {**spread([1 - a / b for a, b in rates]), "of_fastest": 1 - fastest[0] / fastest[1]}
