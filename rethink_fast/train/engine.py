"""The loop: epochs of steps, each followed by a full evaluation, until the labels are memorised.

The training clock runs over the steps alone. Compilation comes before it and evaluation between; both have their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..config import DEFAULTS
from .evaluate import Scores, evaluate
from .milestones import Milestones, Moment
from .optim import learning_rate
from .setup import Setup
from .step import synchronize, trim_heap

TICK_SECONDS = 0.5

StopReason = Literal["until", "epochs", "interrupted", "not_finite"]


class Interrupted(Exception):
    """Raised by a check when somebody asked the run to stop."""


@dataclass(frozen=True)
class EpochRow:
    """One line of curve.csv. Accuracies are fractions; train and test figures come from the evaluation pass.

    train_seconds and images_per_second are of the training clock; online figures are means over the epoch's batches.
    """

    epoch: int
    step: int
    train_seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float
    clean_accuracy: float | None
    corrupted_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    online_loss: float
    online_accuracy: float
    images_per_second: float


@dataclass
class Outcome:
    """All that a run has found so far; complete in itself at the end of every epoch."""

    rows: list[EpochRow] = field(default_factory=list)
    milestones: Milestones = field(default_factory=Milestones)
    steps: int = 0
    images: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    compile_seconds: float = 0.0
    wait_seconds: float = 0.0
    stopped: StopReason = "interrupted"
    bad_step: int | None = None


@dataclass(frozen=True)
class Tick:
    """Where the run stands inside an epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_second: float


class Listener(Protocol):
    """Somebody who wants to know how the run goes."""

    def on_tick(self, tick: Tick) -> None:
        """Called about twice a second while training."""
        ...

    def on_epoch(self, row: EpochRow, outcome: Outcome) -> None:
        """Called when an epoch has been trained and evaluated."""
        ...


def fit(setup: Setup, listener: Listener, check: Callable[[], None]) -> Outcome:
    """Train until the train accuracy is reached, the epochs are over, the loss is not finite, or `check` says stop.

    check: called before each step and each batch of evaluation; raises Interrupted to stop. What was found until
    then is returned.
    """
    outcome = Outcome()
    try:
        _warm_up(setup, outcome)
        for epoch in range(setup.run.train.epochs):
            _train_epoch(setup, epoch, outcome, listener, check)
            if outcome.bad_step is not None:
                outcome.stopped = "not_finite"
                return outcome
            row = _evaluate_epoch(setup, epoch, outcome, check)
            outcome.rows.append(row)
            moment = Moment(outcome.train_seconds, epoch + 1, outcome.steps)
            outcome.milestones.pass_epoch(row.train_accuracy, row.train_loss, moment)
            if row.train_accuracy >= setup.run.train.until:
                outcome.stopped = "until"
            elif epoch + 1 == setup.run.train.epochs:
                outcome.stopped = "epochs"
            listener.on_epoch(row, outcome)
            if outcome.stopped == "until":
                break
    except Interrupted:
        outcome.stopped = "interrupted"
    return outcome


def _warm_up(setup: Setup, outcome: Outcome) -> None:
    loaders = [loader for loader in (setup.train, setup.test) if loader is not None]
    outcome.compile_seconds = setup.step.warm_up(
        (setup.dataset.train.images.shape[2], *setup.train.how.size),
        setup.train.how.dtype,
        set(setup.train.sizes(setup.train.batch_size)),
        {size for loader in loaders for size in loader.evaluation_sizes()},
    )


def _train_epoch(setup: Setup, epoch: int, outcome: Outcome, listener: Listener, check: Callable[[], None]) -> None:
    step, loader = setup.step, setup.train
    for group in step.optimizer.param_groups:
        group["lr"] = _rate(setup, epoch)
    step.reset()
    waited, before = loader.wait_seconds, outcome.train_seconds
    start = last = time.perf_counter()
    steps = len(loader)
    try:
        for number, batch in enumerate(loader.epoch(epoch), start=1):
            check()
            step.train(batch.inputs, batch.labels)
            outcome.steps += 1
            outcome.images += len(batch.labels)
            now = time.perf_counter()
            if now - last >= TICK_SECONDS:
                last = now
                listener.on_tick(Tick(epoch, number, steps, step.online()[0], step.seen / (now - start)))
                if step.bad_step.item() >= 0:
                    break
        synchronize(setup.device)
    finally:
        outcome.train_seconds = before + time.perf_counter() - start
        outcome.wait_seconds += loader.wait_seconds - waited
    bad = int(step.bad_step.item())
    outcome.bad_step = bad if bad >= 0 else None


def _evaluate_epoch(setup: Setup, epoch: int, outcome: Outcome, check: Callable[[], None]) -> EpochRow:
    start = time.perf_counter()
    test: Scores | None = None
    try:
        train = evaluate(setup.step, setup.train, check)
        if setup.test is not None:
            test = evaluate(setup.step, setup.test, check)
        trim_heap(setup.device)
    finally:
        outcome.eval_seconds += time.perf_counter() - start
    online_loss, online_accuracy = setup.step.online()
    return EpochRow(
        epoch=epoch + 1,
        step=outcome.steps,
        train_seconds=outcome.train_seconds,
        learning_rate=_rate(setup, epoch),
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        clean_accuracy=train.clean_accuracy,
        corrupted_accuracy=train.corrupted_accuracy,
        test_loss=test.loss if test else None,
        test_accuracy=test.accuracy if test else None,
        online_loss=online_loss,
        online_accuracy=online_accuracy,
        images_per_second=outcome.images / outcome.train_seconds,
    )


def _rate(setup: Setup, epoch: int) -> float:
    train = setup.run.train
    assert train.lr is not None
    return learning_rate(
        train.lr,
        train.lr_decay,
        epoch=epoch,
        images=len(setup.dataset.train.index),
        full_size=DEFAULTS[setup.run.dataset].full_size,
    )
