"""One run, or several that differ only in the seed, one after another, and the record over them."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch

from ..config import Session
from ..data import Dataset
from ..data.own_images import ended_worker
from ..defaults import ResolvedRun
from ..errors import UserError
from ..stages import profiling
from ..train.loop import Callback, fit
from ..train.oom import advice, is_out_of_memory
from ..train.profile import Profile
from ..train.setup import RunContext, build_run
from ..train.state import TrainState
from .callbacks import RecordingCallback
from .console import ConsoleProgress
from .launch import can_resume
from .profile_view import show
from .record import SCHEMA_VERSION
from .record_folder import RecordFolder
from .signals import GracefulStop
from .tensorboard import EventFile

FIGURES = (
    "train_accuracy",
    "train_top5_accuracy",
    "train_loss",
    "test_accuracy",
    "test_top5_accuracy",
    "best_test_accuracy",
    "best_test_epoch",
    "best_test_top5_accuracy",
    "epochs",
    "images_per_second",
    "train_seconds",
)


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

    setup: the run.
    folder: where the record goes; its `kept` is False afterwards if the disk did not take it.
    session: checkpoint_interval, profile and tensorboard are read.
    stop: checked after every step.
    resumed: start from the folder's checkpoint.
    """
    keeper = RecordingCallback(setup, folder, screen, events=EventFile(folder.path) if session.tensorboard else None)
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
            ended = ended_worker(error)
            if ended is None:
                raise
            raise ended from None
        raise UserError(advice(setup)) from None


def run_seeds(
    run: ResolvedRun,
    dataset: Dataset,
    device: torch.device,
    folder: RecordFolder,
    session: Session,
    screen: ConsoleProgress,
    stop: GracefulStop,
) -> dict[str, Any]:
    """Run session.seeds seeds, and return the record: of the one run, or over all.

    All share the data and the compiled step.

    run: resolved, with the first seed.
    dataset: its data.
    device: where it trains.
    folder: of the one run; with several seeds it gets a folder for each.
    session: seeds, checkpoint_interval, profile, tensorboard and resume are read.
    """
    if session.seeds == 1:
        resumed = can_resume(folder, run, session, screen)
        return run_one(build_run(run, dataset, device), folder, session, screen, stop, resumed=resumed)
    setup: RunContext | None = None
    records: list[dict[str, Any]] = []
    for number in range(session.seeds):
        seed = run.corruption.seed + number
        seeded = replace(run, corruption=replace(run.corruption, seed=seed))
        path = folder.path / f"seed-{seed}"
        with RecordFolder(path, resumed=session.resume is not None and path.is_dir()) as own:
            finished = None if own.made else own.finished(seeded)
            if finished is not None:
                records.append(finished)
                screen.print(f"seed {seed} is finished: {own.path}")
                continue
            resumed = can_resume(own, seeded, session, screen)
            setup = build_run(seeded, dataset, device, like=setup)
            records.append(run_one(setup, own, session, screen, stop, resumed=resumed))
            folder.kept = folder.kept and own.kept
        _keep(folder, records, session, screen)
        if records[-1]["interrupted"] or not own.kept:
            break
    combined = _keep(folder, records, session, screen)
    screen.close_seeds(combined, str(folder.path))
    return combined


def _keep(
    folder: RecordFolder, records: list[dict[str, Any]], session: Session, screen: ConsoleProgress
) -> dict[str, Any]:
    """Write the record over several runs, and return it."""
    combined = combine(records, wanted=session.seeds)
    try:
        folder.write("result.json", combined)
    except OSError as error:
        folder.kept = False
        screen.warn(f"the record of all seeds could not be written to {folder.path} ({error.strerror})")
    return combined


def spread(values: list[float]) -> dict[str, float]:
    """Return n, mean, sample standard deviation (0 of a single value), least and largest."""
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def combine(records: list[dict[str, Any]], *, wanted: int) -> dict[str, Any]:
    """Return one record of the records of single runs.

    Its "summary" has, for each figure and each milestone's seconds and epochs, the spread over the runs that have it;
    n is their number. "interrupted" is True where runs are missing or were stopped.

    records: as in result.json, one a seed.
    wanted: the number of runs that was asked for.
    """
    figures: dict[str, list[float]] = {
        name: [record[name] for record in records if record.get(name) is not None] for name in FIGURES
    }
    for name in records[0]["time_to_memorize"]:
        for unit in ("seconds", "epochs"):
            moments = [record["time_to_memorize"].get(name) for record in records]
            figures[f"time_to_memorize {name} {unit}"] = [moment[unit] for moment in moments if moment is not None]
    return {
        "schema": SCHEMA_VERSION,
        "seeds": [record["corruption"]["seed"] for record in records],
        "memorized": sum(record["memorized"] for record in records),
        "interrupted": len(records) < wanted or any(record["interrupted"] for record in records),
        "summary": {name: spread(values) for name, values in figures.items() if values},
        "runs": records,
    }
