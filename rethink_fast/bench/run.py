"""One run from a configuration to a record: opens the data, trains, and writes."""

from __future__ import annotations

import itertools
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..config import DEFAULTS, IMAGENET_ON_CPU, ResolvedRun, Run, Session, check_session, resolve
from ..crash import save_in
from ..data import DataOptions, Dataset, load_dataset
from ..env import cores
from ..errors import Interrupted, UserError
from ..output import never_failing
from ..stages import profiling
from ..train.checkpoint import Checkpoints, shared_facts
from ..train.determinism import deterministic
from ..train.distributed import Distributed, device_for_rank, exit_on_lost_rank, init_process_group, make_device_group
from ..train.loop import Callback, fit
from ..train.oom import advice, is_out_of_memory
from ..train.profile import Profile
from ..train.setup import RunContext, build_run, wants_windows
from ..train.state import TrainState
from .callbacks import NullCallback, RecordingCallback
from .console import ConsoleProgress
from .profile_view import show
from .record import result
from .record_folder import RecordFolder
from .restart import after_restart, check_launch
from .seeds import combine
from .signals import GracefulStop

EXIT_NOT_KEPT, EXIT_BAD_INPUT = 1, 2


def run_bench(run: Run, session: Session, console: Console) -> tuple[dict[str, Any] | None, int]:
    """Carry out one run, or one for each seed. Returns the record (None if stopped before there was one) and a code.

    The exit code is 0; 1 if the last record could not be written to the run's folder; 2 if the loss was not finite;
    128 + N after signal N, where a pipe that nobody reads any more counts as SIGPIPE. Raises UserError for bad input,
    also for a folder that cannot be written at the start. Of several ranks only the first says anything and has a
    record, and one that loses another ends the process with code 1.
    """
    ranks = Distributed.from_environment()
    if not ranks.is_rank0:
        console = Console(quiet=True)
    stop = GracefulStop(ranks)
    kept = True
    with (
        exit_on_lost_rank(ranks),
        init_process_group(ranks),
        stop.listening(),
        never_failing(console, stop.output_closed),
    ):
        try:
            record, kept = _run(run, session, console, stop, ranks)
        except Interrupted:
            # The signal may have reached another rank alone.
            record, stop.signal = None, stop.signal or signal.SIGTERM
    record = record if ranks.is_rank0 else None
    if stop.signal is not None:
        return record, 128 + stop.signal
    if not kept:
        return record, EXIT_NOT_KEPT
    runs = record.get("runs", [record]) if record else []
    return record, EXIT_BAD_INPUT if any(one["stop_reason"] == "non_finite_loss" for one in runs) else 0


def _run(
    run: Run, session: Session, console: Console, stop: GracefulStop, ranks: Distributed
) -> tuple[dict[str, Any], bool]:
    """The record, and whether it is in the run's folder."""
    with ranks.raise_together():
        check_session(session)
        check_launch(session, run, ranks)
        device = device_for_rank(ranks, run.train.device)
        smaller = _smaller_scale(run, device)
        resolved = resolve(run, on_gpu=device.type == "cuda", cores=max(1, cores() // ranks.local_world_size))
    ranks = make_device_group(ranks, device)
    session = ranks.on_rank0(lambda: after_restart(session, ranks))
    owned: list[RecordFolder] = []
    with ExitStack() as stack:

        def own() -> Path:
            owned.append(stack.enter_context(_folder(session, resolved)))
            return owned[0].path

        path = ranks.on_rank0(own)
        save_in(path)
        with deterministic(resolved.train.deterministic), ConsoleProgress(console) as screen:
            with ranks.raise_together():
                dataset = _open(resolved, device, screen, stop, processes=ranks.local_world_size)
            for note in (
                *dataset.notes,
                smaller,
                *(folder.note for folder in owned),
            ):
                if note:
                    screen.note(note)
            if not ranks.is_distributed:
                return _run_seeds(resolved, dataset, device, owned[0], session, screen, stop), owned[0].kept
            with ranks.raise_together():
                setup = build_run(resolved, dataset, device, ranks=ranks)
            ranks.assert_same(shared_facts(setup))
            resumed = ranks.on_rank0(lambda: _goes_on(owned[0], resolved, session, screen))
            if owned:
                return run_one(setup, owned[0], session, screen, stop, resumed=resumed), owned[0].kept
            outcome = Checkpoints(path).load(setup)[0] if resumed else None
            outcome = _fit(setup, NullCallback(), stop, outcome, every=float("inf"))
            return result(setup, outcome, interrupted=outcome.stop_reason == "interrupted"), True


def _folder(session: Session, run: ResolvedRun) -> RecordFolder:
    """The folder of the run, or of the runs with several seeds: as the options say, or a new one."""
    if session.resume is not None:
        folder = RecordFolder(session.resume, resumed=True)
        if session.seeds > 1 and (folder.path / "config.json").exists():
            folder.close()
            raise UserError(f"--resume {folder.path} is a run with one seed: leave out --seeds {session.seeds}.")
        return folder
    return RecordFolder(session.out) if session.out is not None else RecordFolder(default_folder(run), made=True)


def default_folder(run: ResolvedRun) -> Path:
    """Make runs/DATE-TIME-DATASET-CORRUPTION in the current folder, with a number where that is taken."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{run.dataset}-{run.corruption.corruption}"
    for number in itertools.count(1):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if Path("runs").is_dir():
                continue
            raise UserError("runs is no folder: choose a folder by --out.") from None
        except OSError as error:
            raise UserError(f"{path} cannot be made ({error.strerror}): choose another folder by --out.") from None
        break
    return path


def _goes_on(folder: RecordFolder, run: ResolvedRun, session: Session, screen: ConsoleProgress) -> bool:
    """Whether the run goes on from a checkpoint in its folder; else it starts over there. Raises UserError."""
    if session.resume is None or folder.made:
        return False
    if folder.has_checkpoint(run):
        return True
    screen.note(f"{folder.path} holds no checkpoint: the run starts over there")
    return False


def _run_seeds(
    run: ResolvedRun,
    dataset: Dataset,
    device: torch.device,
    group: RecordFolder,
    session: Session,
    screen: ConsoleProgress,
    stop: GracefulStop,
) -> dict[str, Any]:
    """One run for each seed, each in a folder inside the group's if there are several.

    All share the data and the compiled step.
    """
    if session.seeds == 1:
        resumed = _goes_on(group, run, session, screen)
        return run_one(build_run(run, dataset, device), group, session, screen, stop, resumed=resumed)
    setup: RunContext | None = None
    records: list[dict[str, Any]] = []
    for number in range(session.seeds):
        seed = run.corruption.seed + number
        seeded = replace(run, corruption=replace(run.corruption, seed=seed))
        path = group.path / f"seed-{seed}"
        with RecordFolder(path, resumed=session.resume is not None and path.is_dir()) as folder:
            finished = None if folder.made else folder.finished(seeded)
            if finished is not None:
                records.append(finished)
                screen.note(f"seed {seed} is finished: {folder.path}")
                continue
            resumed = _goes_on(folder, seeded, session, screen)
            setup = build_run(seeded, dataset, device, like=setup)
            records.append(run_one(setup, folder, session, screen, stop, resumed=resumed))
            group.kept = group.kept and folder.kept
        _keep_group(group, records, session, screen)
        if records[-1]["interrupted"] or not folder.kept:
            break
    combined = _keep_group(group, records, session, screen)
    screen.close_seeds(combined, str(group.path))
    return combined


def _keep_group(
    group: RecordFolder, records: list[dict[str, Any]], session: Session, screen: ConsoleProgress
) -> dict[str, Any]:
    """Write the record of several runs, and return it."""
    combined = combine(records, wanted=session.seeds)
    try:
        group.write("result.json", combined)
    except OSError as error:
        group.kept = False
        screen.note(f"the record of all seeds could not be written to {group.path} ({error.strerror})")
    return combined


def run_one(
    setup: RunContext,
    folder: RecordFolder,
    session: Session,
    screen: ConsoleProgress,
    stop: GracefulStop,
    *,
    resumed: bool,
) -> dict[str, Any]:
    """Carry out a run that is set up, from the start or from its last checkpoint, and return its record.

    An error that ends it leaves record and checkpoint as an interruption does. folder.kept says whether the record is
    on the disk.
    """
    keeper = RecordingCallback(setup, folder, screen)
    outcome: TrainState | None = None
    if resumed:
        outcome, note = keeper.checkpoints.load(setup)
        outcome.sessions += 1
        screen.note(note or f"going on from step {outcome.steps} of {folder.path}")
    screen.begin(setup)
    keeper.begin(outcome or TrainState())
    keeper.profile = profile = Profile(setup) if session.profile else None
    try:
        with profiling(profile):
            outcome = _fit(setup, keeper, stop, outcome, every=session.checkpoint_interval)
        if profile is not None:
            profile.finish(outcome)
        found = profile.as_dict(outcome) if profile is not None else None
    except Exception:
        keeper.broken_off()
        raise
    keeper.keep_weights(outcome)
    record = keeper.keep(outcome, interrupted=outcome.stop_reason == "interrupted", profile=found)
    if profile is not None:
        keeper.keep_profile(profile, record)
        show(record, screen.console)
    if outcome.stop_reason == "target_reached":
        keeper.checkpoints.remove()
    screen.close(record, str(folder.path))
    keeper.end(outcome, record)
    return record


def _fit(
    setup: RunContext, listener: Callback, stop: GracefulStop, outcome: TrainState | None, *, every: float
) -> TrainState:
    try:
        return fit(setup, listener, stop.check_together, outcome=outcome, checkpoint_interval=every)
    except (RuntimeError, MemoryError) as error:
        if "InvalidCxxCompiler" in str(error):  # torch wraps it in an exception of another type
            raise UserError(
                "--compile on needs a C++ compiler, and none works here: install g++ (Debian: apt install g++), or use "
                "--compile off."
            ) from None
        if not is_out_of_memory(error):
            raise
        raise UserError(advice(setup)) from None


def _smaller_scale(run: Run, device: torch.device) -> str | None:
    """The line that says a run without a GPU is made smaller than the paper's; None where it is not."""
    if run.dataset != "imagenet" or device.type == "cuda" or run.data.size is not None:
        return None
    small, full = IMAGENET_ON_CPU, DEFAULTS["imagenet"]
    return (
        f"no GPU: a smaller scale, {small.size} px in place of {full.size}, batches of {small.batch_size} "
        f"(--size and --batch-size choose others)"
    )


def _open(
    run: ResolvedRun, device: torch.device, screen: ConsoleProgress, stop: GracefulStop, *, processes: int
) -> Dataset:
    def progress(what: str, done: int, total: int) -> None:
        stop.check()
        screen.on_load(what, done, total)

    options = DataOptions(
        path=run.data.data,
        size=run.data.size,
        max_samples=run.data.max_samples,
        on_decode_error=run.data.on_decode_error,
        cache_images=run.data.cache_images,
        device=device,
        workers=run.data.workers,
        processes=processes,
        crop_margin="crop" in run.train.augment,
        random_windows=wants_windows(run),
        download=run.data.download,
        progress=progress,
    )
    return load_dataset(run.dataset, options)
