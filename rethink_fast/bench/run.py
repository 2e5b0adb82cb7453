"""One run from a configuration to a record: opens the data, trains, writes, and minds the signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from .. import kernels
from ..config import DEFAULTS, IMAGENET_ON_CPU, Run, Session, check_session, resolve
from ..contention import Contention, overloaded
from ..data import Dataset, open_dataset
from ..env import cores
from ..errors import Interrupted, UserError
from ..stages import stage, watching
from ..train.checkpoint import Checkpoints, shared_facts
from ..train.determinism import deterministic
from ..train.distributed import ALONE, Poll, Ranks, device_of, joined, leaving_when_lost, with_group
from ..train.engine import Listener, Tick, fit
from ..train.memory import advice, is_out_of_memory
from ..train.outcome import EpochRow, Outcome
from ..train.profile import Profile
from ..train.setup import Setup, set_up, wants_windows
from ..train.weights import save_weights
from .profile_view import save_pictures, show
from .record import RecordFolder, result
from .restart import after_restart, check_launch
from .screen import Screen
from .seeds import combine

EXIT_BAD_INPUT = 2


class Stop:
    """Set by the first SIGINT or SIGTERM; a second one ends a process alone at once, and torchrun kills its own."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.signal: int | None = None
        self._poll = Poll() if ranks.several else None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and self._poll is None:
            os._exit(128 + number)
        self.signal = self.signal or number

    def check(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.signal is not None:
            raise Interrupted

    def check_together(self) -> None:
        """Raise Interrupted, on every rank at the same call, if any of them was asked to stop."""
        if self._poll is not None:
            found = self._poll(self.signal or 0)
            if found:
                self.signal = found
                raise Interrupted
        else:
            self.check()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the two signals for the length of a block."""
        before = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Keeper:
    """Listener that keeps record and checkpoints up to date beside the screen. A full disk does not stop a run."""

    def __init__(self, setup: Setup, folder: RecordFolder, screen: Screen) -> None:
        self.setup, self.folder, self.screen = setup, folder, screen
        self.profile: Profile | None = None
        self.contention = Contention()
        self.checkpoints = Checkpoints(folder.path)
        self._told: set[str] = set()

    def on_ready(self, outcome: Outcome) -> None:
        self.screen.on_ready(outcome)
        if self.profile is not None:
            self.profile.ready(outcome)

    def on_tick(self, tick: Tick) -> None:
        self.screen.on_tick(tick)

    def on_epoch(self, row: EpochRow, outcome: Outcome) -> None:
        with stage("checkpoint"):
            self._try("the record", lambda: self.folder.add(row))
            self.keep(outcome, interrupted=True)
        self.screen.on_epoch(row, outcome)
        if self.profile is not None:
            self.profile.end_epoch(outcome)

    def save(self, outcome: Outcome) -> None:
        outcome.busy = outcome.busy or bool(self.contention.as_dict()["busy"])
        self._try("a checkpoint", lambda: self.checkpoints.save(self.setup, outcome))

    def keep(self, outcome: Outcome, *, interrupted: bool, profile: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the record of the run as it stands, and return it."""
        record = result(self.setup, outcome, interrupted=interrupted, profile=profile, contention=self.contention)
        self._try("the record", lambda: self.folder.write("result.json", record))
        return record

    def keep_weights(self, outcome: Outcome) -> None:
        """Write the network as it stands, where there is one to use."""
        if outcome.steps and outcome.stopped != "not_finite":
            self._try("the network", lambda: save_weights(self.folder.path, self.setup, outcome))

    def keep_profile(self, profile: Profile, record: dict[str, Any]) -> None:
        """Write what lies beside the record of a run that has ended: its trace and its pictures."""
        self._try("the trace", lambda: profile.save_trace(self.folder.path / "trace.json"))
        self._try("the pictures", lambda: save_pictures(record, self.folder.path))

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if what not in self._told:
                self._told.add(what)
                self.screen.note(
                    f"{what} could not be written to {self.folder.path} ({error.strerror}): the run goes on, and what "
                    f"was written before is kept"
                )
        else:
            self._told.discard(what)


class Nobody:
    """Listener of the ranks after the first, which need not be told."""

    def on_ready(self, outcome: Outcome) -> None: ...

    def on_tick(self, tick: Tick) -> None: ...

    def on_epoch(self, row: EpochRow, outcome: Outcome) -> None: ...

    def save(self, outcome: Outcome) -> None: ...


def default_folder(run: Run) -> Path:
    """runs/DATE-TIME-DATASET-CORRUPTION in the current folder, with a number where that is taken."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{run.dataset}-{run.corruption.corruption}"
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def run_bench(run: Run, session: Session, console: Console) -> tuple[dict[str, Any] | None, int]:
    """Carry out one run, or one for each seed. Returns the record (None if stopped before there was one) and a code.

    The exit code is 0; 2 if the loss was not finite; 128 + N after signal N. Raises UserError for bad input. Of several
    ranks only the first says anything and has a record, and one that loses another ends the process with code 1.
    """
    ranks = Ranks.from_environment()
    if not ranks.first:
        console = Console(quiet=True)
    stop = Stop(ranks)
    with leaving_when_lost(ranks), joined(ranks), stop.listening():
        try:
            record = _run(run, session, console, stop, ranks)
        except Interrupted:
            # The signal may have reached another rank alone.
            record, stop.signal = None, stop.signal or signal.SIGTERM
    if stop.signal is not None:
        return record if ranks.first else None, 128 + stop.signal
    runs = record.get("runs", [record]) if record else []
    return record if ranks.first else None, EXIT_BAD_INPUT if any(one["stopped"] == "not_finite" for one in runs) else 0


def _run(run: Run, session: Session, console: Console, stop: Stop, ranks: Ranks) -> dict[str, Any]:
    with ranks.agreeing():
        check_session(session)
        check_launch(session, run, ranks)
        device = device_of(ranks, run.train.device)
        smaller = _smaller_scale(run, device)
        run = resolve(run, on_gpu=device.type == "cuda", cores=max(1, cores() // ranks.local_count))
    ranks = with_group(ranks, device)
    session = ranks.from_first(lambda: after_restart(session, run, ranks))
    resumed = session.resume is not None
    folder = ranks.from_first(
        lambda: RecordFolder(session.resume or session.out or default_folder(run), resumed=resumed)
    )
    try:
        with deterministic(run.train.deterministic), Screen(console) as screen:
            with ranks.agreeing():
                dataset = _open(run, device, screen, stop, processes=ranks.local_count)
            for note in (*dataset.notes, smaller, kernels.slow(device), overloaded()):
                if note:
                    screen.note(note)
            if ranks.several:
                return _run_shared(run, dataset, device, folder, session, screen, stop, ranks)
            return _run_seeds(run, dataset, device, folder, session, screen, stop)
    except BaseException:
        if ranks.first:
            folder.abandon()
        raise


def _run_shared(
    run: Run,
    dataset: Dataset,
    device: torch.device,
    folder: RecordFolder,
    session: Session,
    screen: Screen,
    stop: Stop,
    ranks: Ranks,
) -> dict[str, Any]:
    """One run on several ranks, of which the first keeps what the others find as well."""
    with ranks.agreeing():
        setup = set_up(run, dataset, device, ranks=ranks)
    ranks.check_same(shared_facts(setup))
    resumed = session.resume is not None
    if ranks.first:
        return run_one(setup, folder, session, screen, stop, resumed=resumed)
    outcome = Checkpoints(folder.path).load(setup)[0] if resumed else None
    outcome = _fit(setup, Nobody(), stop, outcome, every=float("inf"))
    return result(setup, outcome, interrupted=outcome.stopped == "interrupted")


def _run_seeds(
    run: Run, dataset: Dataset, device: torch.device, group: RecordFolder, session: Session, screen: Screen, stop: Stop
) -> dict[str, Any]:
    """One run a seed, in folders of their own if there are several. All share the data and the compiled step."""
    setup: Setup | None = None
    records: list[dict[str, Any]] = []
    for number in range(session.seeds):
        seed = run.corruption.seed + number
        seeded = replace(run, corruption=replace(run.corruption, seed=seed))
        path = group.path / f"seed-{seed}" if session.seeds > 1 else group.path
        resumed = session.resume is not None and path.is_dir()
        folder = RecordFolder(path, resumed=resumed)
        finished = folder.read("result.json") if resumed and session.seeds > 1 else None
        if finished is not None and not finished["interrupted"]:
            records.append(finished)
            screen.note(f"seed {seed} is finished: {folder.path}")
            continue
        setup = set_up(seeded, dataset, device, like=setup)
        records.append(run_one(setup, folder, session, screen, stop, resumed=resumed))
        if session.seeds > 1:
            combined = combine(records, wanted=session.seeds)
            group.write("result.json", combined)
        if records[-1]["interrupted"]:
            break
    if session.seeds == 1:
        return records[0]
    combined = combine(records, wanted=session.seeds)
    group.write("result.json", combined)
    screen.close_seeds(combined, str(group.path))
    return combined


def run_one(
    setup: Setup, folder: RecordFolder, session: Session, screen: Screen, stop: Stop, *, resumed: bool
) -> dict[str, Any]:
    """Carry out a run that is set up, from the start or from its last checkpoint, and return its record."""
    keeper = Keeper(setup, folder, screen)
    outcome: Outcome | None = None
    if resumed:
        outcome, note = keeper.checkpoints.load(setup)
        outcome.sessions += 1
        screen.note(note or f"going on from step {outcome.steps} of {folder.path}")
    screen.begin(setup)
    folder.begin(setup, outcome.rows if outcome else [])
    keeper.keep(outcome or Outcome(), interrupted=True)
    keeper.profile = profile = Profile(setup) if session.profile else None
    with watching(profile):
        outcome = _fit(setup, keeper, stop, outcome, every=session.checkpoint_every)
    if profile is not None:
        profile.finish(outcome)
    found = profile.as_dict(outcome) if profile is not None else None
    keeper.keep_weights(outcome)
    record = keeper.keep(outcome, interrupted=outcome.stopped == "interrupted", profile=found)
    if profile is not None:
        keeper.keep_profile(profile, record)
        show(record, screen.console)
    if outcome.stopped == "until":
        keeper.checkpoints.remove()
    screen.close(record, str(folder.path))
    return record


def _fit(setup: Setup, listener: Listener, stop: Stop, outcome: Outcome | None, *, every: float) -> Outcome:
    try:
        return fit(setup, listener, stop.check_together, outcome=outcome, checkpoint_every=every)
    except (RuntimeError, MemoryError) as error:
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


def _open(run: Run, device: torch.device, screen: Screen, stop: Stop, *, processes: int) -> Dataset:
    def progress(what: str, done: int, total: int) -> None:
        stop.check()
        screen.on_load(what, done, total)

    assert run.data.workers is not None
    assert run.data.size is not None
    return open_dataset(
        run.dataset,
        run.data.data,
        size=run.data.size,
        margin="crop" in run.train.augment,
        limit=run.data.limit,
        device=device,
        workers=run.data.workers,
        download=run.data.download,
        damaged=run.data.damaged,
        residency=run.data.residency,
        windows=wants_windows(run),
        processes=processes,
        progress=progress,
    )
