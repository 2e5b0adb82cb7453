"""The two clocks of the loop: of training, and of checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..stages import stage
from .device import synchronize
from .setup import RunContext
from .state import TrainState

TICK_SECONDS = 0.5


class EpochClock:
    """The training clock of an epoch, which adds to outcome.train_seconds and can be stopped."""

    def __init__(self, setup: RunContext, outcome: TrainState) -> None:
        self._setup, self._outcome = setup, outcome
        self._waited = setup.train.wait_seconds
        self.last = self._start = time.perf_counter()
        self._seen = setup.step.seen
        self._before = 0.0

    def stop(self) -> None:
        """Wait for the device and add the time that has passed."""
        synchronize(self._setup.device)
        self._before += time.perf_counter() - self._start
        self._outcome.train_seconds += time.perf_counter() - self._start
        self._outcome.wait_seconds += self._setup.train.wait_seconds - self._waited

    def start(self) -> None:
        """Start or resume the clock."""
        self._waited = self._setup.train.wait_seconds
        self._start = time.perf_counter()

    def ticks(self) -> bool:
        """Return whether it is time to show the progress."""
        now = time.perf_counter()
        if now - self.last < TICK_SECONDS:
            return False
        self.last = now
        return True

    def rate(self) -> float:
        """Return the images/s of this epoch."""
        return (self._setup.step.seen - self._seen) / (self._before + time.perf_counter() - self._start)


class CheckpointTimer:
    """Writes a checkpoint by `save` every `seconds`."""

    def __init__(self, save: Callable[[TrainState], None], outcome: TrainState, seconds: float) -> None:
        self._save, self._outcome, self._interval = save, outcome, seconds
        self._saved = time.perf_counter()
        self.whole = False
        """Whether the network stands between two steps, as a checkpoint needs it."""

    def due(self) -> bool:
        """Return whether a checkpoint is due."""
        return time.perf_counter() - self._saved >= self._interval

    def save(self) -> None:
        """Write a checkpoint, and count the seconds it takes."""
        start = time.perf_counter()
        with stage("checkpoint"):
            self._save(self._outcome)
        self._saved = time.perf_counter()
        self._outcome.checkpoint_seconds += self._saved - start
