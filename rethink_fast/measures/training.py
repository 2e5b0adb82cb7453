"""How the measures that train get their networks: a function of samples and labels, here the engine as in a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ..bench.callbacks import NullCallback
from ..corruptions import KINDS, PIXEL_KINDS
from ..defaults import ResolvedRun
from ..train.loop import fit
from ..train.setup import build_run
from ..train.state import EpochMetrics, TrainState
from .finished import CPU, FinishedRun

Watch = Callable[[int, nn.Module], None]


class Trainer(Protocol):
    """Trains a network of one kind; two calls with the same arguments give the same network."""

    def __call__(
        self,
        positions: Tensor,
        labels: Tensor,
        *,
        classes: int,
        seed: int = 0,
        epochs: int | None = None,
        watch: Watch | None = None,
    ) -> nn.Module:
        """Return a network trained on some training samples, in eval mode.

        positions: int64 [m], ascending, of the samples in the training set.
        labels: int64 [m], theirs, below `classes`.
        classes: outputs of the network.
        seed: of the first weights.
        epochs: exactly so many. None: until the samples are fitted.
        watch: called with (epoch, network) after each epoch.
        """
        ...


class _Watching(NullCallback):
    def __init__(self, model: nn.Module, watch: Watch | None) -> None:
        self._model, self._watch = model, watch

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        if self._watch is not None:
            self._model.eval()
            self._watch(row.epoch, self._model)


def engine(run: FinishedRun, check: Callable[[], None] = lambda: None) -> Trainer:
    """Return how this run's networks are trained: by its options, on the CPU in float32, to a train accuracy of 1.

    check: called before each step; raises Interrupted to stop.
    """
    base, dataset = run.setup, run.setup.dataset
    resolved = _resolved(base.run)

    def train(
        positions: Tensor,
        labels: Tensor,
        *,
        classes: int,
        seed: int = 0,
        epochs: int | None = None,
        watch: Watch | None = None,
    ) -> nn.Module:
        index = dataset.train.index[positions]
        every = base.labels.clone()
        every[index] = labels
        part = replace(
            dataset,
            train=replace(dataset.train, labels=every, index=index),
            test=None,
            classes=tuple(str(number) for number in range(classes)),
        )
        options = resolved.train if epochs is None else replace(resolved.train, epochs=epochs, target_loss=0.0)
        setup = build_run(replace(resolved, train=options), part, CPU)
        # The statistics of the whole training set, where the corruption has any.
        setup.train.preprocessing = replace(base.train.preprocessing, dtype=torch.float32)
        if seed:
            torch.manual_seed(resolved.corruption.seed + seed)
            setup.step.restart(setup.new_network())
        outcome = fit(setup, _Watching(setup.model, watch), check)
        if outcome.first_non_finite_step is not None:
            raise ArithmeticError(f"the loss of a network trained for it was not finite after {outcome.steps} steps")
        return setup.model.eval()

    return train


def _resolved(run: ResolvedRun) -> ResolvedRun:
    """The run's options for labels that are given: what they were corrupted by is done."""
    train = replace(run.train, precision="fp32", compile="off", device="cpu", eval_interval=1, target_accuracy=1.0)
    corruption = run.corruption
    if KINDS[corruption.corruption] not in PIXEL_KINDS:
        corruption = replace(corruption, corruption="true", probability=0.0)
    return replace(run, train=train, corruption=corruption)
