"""The loop: epochs of steps, most followed by a full evaluation, until the labels are memorised.

The training clock runs over the steps alone. Compilation comes before it, evaluation and checkpoints between; each has
a separate one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

from ..errors import Interrupted
from ..stages import stage
from .clocks import CheckpointTimer, EpochClock
from .compile import choose, warm_up
from .device import synchronize, trim_heap
from .evaluate import Scores, estimate_statistics, evaluate
from .milestones import TimePoint
from .optim import set_learning_rate
from .setup import RunContext
from .state import EpochMetrics, StopReason, TrainState

EVAL_EARLY_MARGIN = 0.02
"""An epoch is evaluated before its turn once its online accuracy is so near the goal: a mean over the epoch, it lags
behind the accuracy at its end, by 0.4 points in the last epochs of the fast recipe of mlp_1x512."""


FINITE_CHECK_STEPS = 50
"""Steps after which several ranks check that the loss is finite: their clocks differ, and all must agree."""


@dataclass(frozen=True)
class StepProgress:
    """Where the run stands inside an epoch. loss: mean of the batches so far; None where it is not known yet."""

    epoch: int
    step: int
    steps: int
    loss: float | None
    images_per_second: float


class Callback(Protocol):
    """Follows a run, and keeps what it finds."""

    def on_ready(self, outcome: TrainState) -> None:
        """Take note that the step is compiled; the training clock starts next."""
        ...

    def on_progress(self, tick: StepProgress) -> None:
        """Show the progress; called about twice a second while training."""
        ...

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        """Take note of an epoch, and of its evaluation where there was one."""
        ...

    def save(self, outcome: TrainState) -> None:
        """Write a checkpoint; called at the interval, and when the run is asked to stop."""
        ...


def fit(
    setup: RunContext,
    listener: Callback,
    check: Callable[[], None],
    *,
    outcome: TrainState | None = None,
    checkpoint_interval: float = float("inf"),
) -> TrainState:
    """Train until the train accuracy is reached, the epochs are over, the loss is not finite, or `check` says stop.

    check: called before each step and each batch of evaluation; raises Interrupted to stop.
    outcome: of an earlier session, whose state the step has loaded; None for a new run.
    checkpoint_interval: seconds between the calls of listener.save, which is also called after an error between two
        steps, before the error is raised.
    Returns what was found until then.
    """
    resumed, outcome = outcome is not None, outcome or TrainState()
    epochs = setup.run.train.epochs
    saver = CheckpointTimer(listener.save, outcome, checkpoint_interval)
    try:
        _make_ready(setup, outcome, resumed)
        listener.on_ready(outcome)
        if not resumed:
            start = time.perf_counter()
            with stage("update"):
                setup.fit_optimizer()
                synchronize(setup.device)
            outcome.train_seconds += time.perf_counter() - start
        saver.whole = True
        if outcome.epoch == epochs:
            outcome.stop_reason = "max_epochs"
        for epoch in range(outcome.epoch, epochs):
            _train_epoch(setup, epoch, outcome, listener, check, saver)
            if outcome.first_non_finite_step is not None:
                outcome.stop_reason = "non_finite_loss"
                return outcome
            row = _finish_epoch(setup, epoch, outcome, check)
            outcome.rows.append(row)
            outcome.epoch, outcome.batch = epoch + 1, 0
            if row.train_accuracy is not None and row.train_loss is not None:
                moment = TimePoint(outcome.train_seconds, epoch + 1, outcome.steps)
                outcome.milestones.pass_epoch(row.train_accuracy, row.train_loss, moment)
            outcome.stop_reason = _stopped(setup, row)
            listener.on_epoch(row, outcome)
            if outcome.stop_reason == "target_reached":
                break
            if saver.due() or outcome.stop_reason == "max_epochs":  # more epochs can go on from here
                saver.save()
    except Interrupted:
        outcome.stop_reason = "interrupted"
        saver.save()
    except Exception:
        if saver.whole:
            with suppress(RuntimeError, MemoryError):  # the device may be lost: the first error says it
                saver.save()
        raise
    return outcome


def _stopped(setup: RunContext, row: EpochMetrics) -> StopReason:
    """Why the run ends with this epoch; "interrupted" if it goes on, for what is written until its end."""
    train = setup.run.train
    if row.train_accuracy is not None and row.train_loss is not None:
        low = train.target_loss is None or row.train_loss <= train.target_loss
        if row.train_accuracy >= train.target_accuracy and low:
            return "target_reached"
    return "max_epochs" if row.epoch == train.epochs else "interrupted"


def _make_ready(setup: RunContext, outcome: TrainState, resumed: bool) -> None:
    """Compile. A resumed run keeps its choice: another one would change the last bits of every sum."""
    with stage("compile"):
        if resumed:
            setup.step.compiled = outcome.compile["enabled"]
        else:
            outcome.compile = asdict(choose(setup))
        outcome.compile_seconds += warm_up(setup)


def _train_epoch(
    setup: RunContext,
    epoch: int,
    outcome: TrainState,
    listener: Callback,
    check: Callable[[], None],
    saver: CheckpointTimer,
) -> None:
    step, loader = setup.step, setup.train
    if outcome.batch == 0:
        step.begin_epoch(epoch)
    steps, lr = len(loader), -1.0
    clock = EpochClock(setup, outcome)
    try:
        for batch in loader.epoch(epoch, outcome.batch, max(1, step.steps_per_graph)):
            check()
            rates = [setup.learning_rate(epoch, outcome.batch + done) for done in range(batch.steps)]
            saver.whole = False
            if batch.steps > 1:
                step.train_several(loader, batch, rates)
            else:
                if rates[0] != lr:
                    lr = rates[0]
                    set_learning_rate(step.optimizer, lr)
                step.train(loader, batch)
            outcome.steps += batch.steps
            outcome.batch += batch.steps
            outcome.images += len(batch)
            saver.whole = True
            if clock.ticks():
                loss, bad = step.poll_loss()
                listener.on_progress(StepProgress(epoch, outcome.batch, steps, loss, clock.rate()))
                if bad and not setup.ranks.is_distributed:
                    break
                if saver.due():
                    clock.stop()
                    saver.save()
                    clock.start()
            if (
                setup.ranks.is_distributed
                and outcome.batch % FINITE_CHECK_STEPS == 0
                and step.first_non_finite_step.item() >= 0
            ):
                break
    finally:
        clock.stop()
    first_non_finite_step = int(step.first_non_finite_step.item())
    if first_non_finite_step >= 0:
        # A clock decides when it is seen: the steps since then do not count.
        outcome.first_non_finite_step = outcome.steps = first_non_finite_step


def _finish_epoch(setup: RunContext, epoch: int, outcome: TrainState, check: Callable[[], None]) -> EpochMetrics:
    online_loss, online_accuracy = setup.step.online()
    train = setup.run.train
    due = (epoch + 1) % train.eval_interval == 0 or epoch + 1 == train.epochs
    if train.target_loss != 0 or not outcome.milestones.all_passed:  # else nothing is left to be seen
        due = due or online_accuracy >= train.target_accuracy - EVAL_EARLY_MARGIN
    start = time.perf_counter()
    scores: Scores | None = None
    test: Scores | None = None
    if due:
        try:
            with stage("evaluation"):
                estimate_statistics(setup.step, setup.train, check)
                scores = evaluate(setup.step, setup.train, check)
                if setup.test is not None:
                    test = evaluate(setup.step, setup.test, check)
        finally:
            outcome.eval_seconds += time.perf_counter() - start
    trim_heap(setup.device)
    return EpochMetrics(
        epoch=epoch + 1,
        step=outcome.steps,
        train_seconds=outcome.train_seconds,
        learning_rate=setup.learning_rate(epoch),
        train_loss=scores.loss if scores else None,
        train_accuracy=scores.accuracy if scores else None,
        clean_accuracy=scores.clean_accuracy if scores else None,
        corrupted_accuracy=scores.corrupted_accuracy if scores else None,
        test_loss=test.loss if test else None,
        test_accuracy=test.accuracy if test else None,
        online_loss=online_loss,
        online_accuracy=online_accuracy,
        images_per_second=outcome.images / outcome.train_seconds,
        train_top5_accuracy=scores.top5_accuracy if scores else None,
        test_top5_accuracy=test.top5_accuracy if test else None,
    )
