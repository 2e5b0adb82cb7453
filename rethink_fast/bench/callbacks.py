"""Writes the record and the checkpoints of a run to its folder, or elsewhere where the folder takes no more."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..contention import Contention
from ..errors import UserError
from ..stages import stage
from ..train.checkpoint import Checkpoints
from ..train.gpu_monitor import gpu_use
from ..train.loop import StepProgress
from ..train.profile import Profile
from ..train.setup import RunContext
from ..train.state import EpochMetrics, TrainState
from ..train.weights import save_weights
from .console import ConsoleProgress
from .profile_view import save_pictures
from .record import result
from .record_folder import RecordFolder
from .tensorboard import EventFile

RECORD_SECONDS = 1.0
"""Between two writes of the record while training. A write waits for the disk, and an epoch may take milliseconds."""

RECORD, CHECKPOINT, WEIGHTS = "the record", "a checkpoint", "the network"


class RecordingCallback:
    """Callback that keeps the record and the checkpoints of a run up to date, and passes on to the screen.

    A full disk does not stop a run.

    events: the curves for TensorBoard; None for none.
    """

    def __init__(
        self, setup: RunContext, folder: RecordFolder, screen: ConsoleProgress, *, events: EventFile | None = None
    ) -> None:
        self.setup, self.folder, self.screen, self.events = setup, folder, screen, events
        self.profile: Profile | None = None
        self.contention = Contention(partial(gpu_use, setup.device))
        self.checkpoints = Checkpoints(folder.path)
        self._outcome: TrainState | None = None
        self._written = time.perf_counter()
        self._failed: dict[str, str] = {}

    def begin(self, outcome: TrainState) -> None:
        """Write the folder's files at the start. Raises UserError where that fails."""
        self.folder.begin(
            self.setup, outcome.rows, result(self.setup, outcome, interrupted=True, contention=self.contention)
        )

    def on_ready(self, outcome: TrainState) -> None:
        self._outcome = outcome
        self.screen.on_ready(outcome)
        if self.profile is not None:
            self.profile.ready(outcome)

    def on_progress(self, tick: StepProgress) -> None:
        self.screen.on_progress(tick)

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        if time.perf_counter() - self._written >= RECORD_SECONDS:
            with stage("checkpoint"):
                self.keep(outcome, interrupted=True)
        self.screen.on_epoch(row, outcome)
        if self.profile is not None:
            self.profile.end_epoch(outcome)

    def save(self, outcome: TrainState) -> None:
        """Write a checkpoint."""
        outcome.busy = outcome.busy or bool(self.contention.as_dict()["busy"])
        self._try(CHECKPOINT, lambda: self.checkpoints.save(self.setup, outcome))

    def keep(self, outcome: TrainState, *, interrupted: bool, profile: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the curves and the record as they are now, and return the record.

        interrupted: whether the run was stopped from outside, or goes on.
        profile: what --profile measured, once the run has ended.
        """
        record = result(self.setup, outcome, interrupted=interrupted, profile=profile, contention=self.contention)
        self._try(RECORD, lambda: self.folder.keep(outcome.rows, record))
        if (events := self.events) is not None:
            self._try("the TensorBoard events", lambda: events.write(outcome))
        self._written = time.perf_counter()
        return record

    def keep_weights(self, outcome: TrainState) -> None:
        """Write the network, unless no step was made or its loss was not finite."""
        if outcome.steps and outcome.stop_reason != "non_finite_loss":
            self._try(WEIGHTS, lambda: save_weights(self.folder.path, self.setup, outcome))

    def keep_profile(self, profile: Profile, record: dict[str, Any]) -> None:
        """Write the trace and the pictures of a run that has ended."""
        self._try("the trace", lambda: profile.save_trace(self.folder.path / "trace.json"))
        self._try("the pictures", lambda: save_pictures(record, self.folder.path))

    def end(self, outcome: TrainState, record: dict[str, Any]) -> None:
        """Write what the folder did not take of a run that has ended to a temporary folder, and print which."""
        self.folder.kept = RECORD not in self._failed
        unfinished = outcome.stop_reason in ("interrupted", "max_epochs")
        lost = [what for what in (RECORD, WEIGHTS, *([CHECKPOINT] if unfinished else [])) if what in self._failed]
        if not lost:
            return
        message = f"{' and '.join(lost)} could not be written to {self.folder.path} ({self._failed[lost[0]]})"
        try:
            place = Path(tempfile.mkdtemp(prefix="rethink-fast-"))
        except OSError as error:
            self.screen.warn(f"{message}, nor among the temporary files ({error.strerror})")
            return
        try:
            with RecordFolder(place) as elsewhere:
                elsewhere.begin(self.setup, outcome.rows, record)
                if WEIGHTS in lost:
                    save_weights(place, self.setup, outcome)
                if unfinished:
                    Checkpoints(place).save(self.setup, outcome)
        except (OSError, UserError) as error:
            shutil.rmtree(place, ignore_errors=True)
            self.screen.warn(f"{message}, nor to {place} ({getattr(error, 'strerror', None) or error})")
        else:
            hint = f"; continue by --resume {place}" if unfinished else ""
            self.screen.warn(f"{message}: everything is in {place}{hint}")

    def on_error(self) -> None:
        """Write the record of a run that an error ends. Its checkpoint is already written, where there can be one."""
        if self._outcome is None:
            return
        self._outcome.stop_reason = "interrupted"
        self.end(self._outcome, self.keep(self._outcome, interrupted=True))
        if not self._failed:
            self.screen.warn(
                f"an error ends the run at step {self._outcome.steps}: what was done is kept, continue by --resume "
                f"{self.folder.path}"
            )

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            if self.folder.restore():
                self.screen.warn(f"{self.folder.path} was removed while the run went on: it was made again")
                self.begin(self._outcome or TrainState())
            write()
        except (OSError, UserError) as error:
            if what not in self._failed:
                self.screen.warn(
                    f"{what} could not be written to {self.folder.path} ({getattr(error, 'strerror', None) or error}): "
                    f"the run goes on, and what was written before is kept"
                )
            self._failed[what] = getattr(error, "strerror", None) or str(error)
        else:
            self._failed.pop(what, None)


class NullCallback:
    """Callback that does nothing, for the ranks after the first."""

    def on_ready(self, outcome: TrainState) -> None: ...

    def on_progress(self, tick: StepProgress) -> None: ...

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None: ...

    def save(self, outcome: TrainState) -> None: ...
