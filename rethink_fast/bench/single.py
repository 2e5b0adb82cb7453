"""One run with one seed: trained from the start or from its checkpoint, profiled, and recorded."""

from __future__ import annotations

from typing import Any

from ..config import ResolvedRun, Session
from ..errors import UserError
from ..stages import profiling
from ..train.loop import Callback, fit
from ..train.oom import advice, is_out_of_memory
from ..train.profile import Profile
from ..train.setup import RunContext
from ..train.state import TrainState
from .callbacks import RecordingCallback
from .console import ConsoleProgress
from .profile_view import show
from .record_folder import RecordFolder
from .signals import GracefulStop


def can_resume(folder: RecordFolder, run: ResolvedRun, session: Session, screen: ConsoleProgress) -> bool:
    """Return whether the run resumes from a checkpoint in its folder; else it starts over there. Raises UserError."""
    if session.resume is None or folder.made:
        return False
    if folder.has_checkpoint(run):
        return True
    screen.warn(f"{folder.path} has no checkpoint: the run starts over there")
    return False


def run_one(
    setup: RunContext,
    folder: RecordFolder,
    session: Session,
    screen: ConsoleProgress,
    stop: GracefulStop,
    *,
    resumed: bool,
) -> dict[str, Any]:
    """Train a run, from the start or from its last checkpoint, and return its record.

    An error that ends the run leaves a record and a checkpoint, as an interruption does.

    folder: where the record goes; its `kept` is False afterwards if the disk did not take it.
    session: checkpoint_interval and profile are read.
    stop: checked after every step.
    resumed: start from the folder's checkpoint.
    """
    keeper = RecordingCallback(setup, folder, screen)
    outcome: TrainState | None = None
    if resumed:
        outcome, note = keeper.checkpoints.load(setup)
        outcome.sessions += 1
        screen.print(note or f"resuming from step {outcome.steps} of {folder.path}")
    screen.begin(setup)
    keeper.begin(outcome or TrainState())
    keeper.profile = profile = Profile(setup) if session.profile else None
    try:
        with profiling(profile):
            outcome = fit_or_explain(setup, keeper, stop, outcome, every=session.checkpoint_interval)
        if profile is not None:
            profile.finish(outcome)
        measured = profile.as_dict(outcome) if profile is not None else None
    except Exception:
        keeper.on_error()
        raise
    keeper.keep_weights(outcome)
    record = keeper.keep(outcome, interrupted=outcome.stop_reason == "interrupted", profile=measured)
    if profile is not None:
        keeper.keep_profile(profile, record)
        show(record, screen)
    if outcome.stop_reason == "target_reached":
        keeper.checkpoints.remove()
    screen.close(record, str(folder.path))
    keeper.end(outcome, record)
    return record


def fit_or_explain(
    setup: RunContext, callback: Callback, stop: GracefulStop, outcome: TrainState | None, *, every: float
) -> TrainState:
    """Train by `fit`, with out-of-memory errors and a missing compiler explained in a UserError."""
    try:
        return fit(setup, callback, stop.check_together, outcome=outcome, checkpoint_interval=every)
    except (RuntimeError, MemoryError) as error:
        if "InvalidCxxCompiler" in str(error):  # torch wraps it in an exception of another type
            raise UserError(
                "--compile on needs a C++ compiler, and none works here",
                "install g++ (Debian: apt install g++), or use --compile off",
                option="--compile",
                value="on",
            ) from None
        if not is_out_of_memory(error):
            raise
        raise UserError(advice(setup)) from None
