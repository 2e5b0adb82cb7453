"""From a configuration to a record: opens the data, trains one run or one for each seed, and writes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..config import Run, Session, check_session
from ..crash import save_in
from ..data import OWN, DataOptions, Dataset, load_dataset, names_path, not_given, pack_images
from ..data.own import OwnData, image_shape, load_own
from ..defaults import DEFAULTS, IMAGENET_ON_CPU, ResolvedRun, resolve
from ..env import cores, has_bfloat16, unused_gpu
from ..errors import Interrupted, UserError
from ..files import user_path
from ..output import never_failing
from ..terminal import Terminal
from ..train.checkpoint import Checkpoints, shared_facts
from ..train.determinism import deterministic
from ..train.distributed import Distributed
from ..train.preprocessing import wants_windows
from ..train.process_group import device_for_rank, exit_on_lost_rank, init_process_group, make_device_group
from ..train.setup import build_run
from .callbacks import NullCallback
from .console import ConsoleProgress
from .launch import after_restart, can_resume, check_launch, open_folder
from .record import result
from .record_folder import RecordFolder
from .saved import Record
from .seeds import fit_or_explain, run_one, run_seeds
from .signals import GracefulStop

EXIT_NOT_KEPT, EXIT_BAD_INPUT = 1, 2


def run(
    run: Run, *, data: Any = None, test: Any = None, session: Session = Session(), progress: bool = False
) -> Record:
    """Train a network, write its folder as `rethink-fast bench` does, and return the record.

    What must not be missed (synthetic data instead of a missing set, samples skipped, a full disk) is logged as a
    warning of the logger "rethink_fast"; nothing is printed. Under torchrun every rank calls it and returns the record.

    run: the data, the corruption, the network and how it is trained.
    data: a data set of your own to train on, for Run("own"): any map-style one whose items are (image, label, ...) or a
        dict, with images as uint8 PIL, NumPy or torch, all of one shape. The sample index is the position in it.
    test: one to test on.
    session: the folder (by default a new one under runs/), seeds, checkpoints and profile.
    progress: print what the command prints, on stdout.
    Raises UserError for bad input. After SIGINT it raises KeyboardInterrupt, after another signal SystemExit: then the
    folder has a checkpoint, from which `session.resume` goes on.
    """
    record, code = run_bench(run, session, Terminal() if progress else None, own_data(run, data, test))
    if record is None or code > 128:
        if code == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(code)
    return record


@contextmanager
def launched(console: Console | None) -> Iterator[tuple[Distributed, ConsoleProgress, GracefulStop]]:
    """Join the ranks and listen for signals, and yield what a run needs of them.

    Only the first rank prints, and one that loses another ends the process with code 1.

    console: where to print; None prints nothing and logs warnings.
    """
    ranks = Distributed.from_environment()
    log = console is None and ranks.is_rank0
    if console is None or not ranks.is_rank0:
        console = Console(quiet=True)
    stop = GracefulStop(ranks)
    with (
        exit_on_lost_rank(ranks),
        init_process_group(ranks),
        stop.listening(),
        never_failing(console, stop.output_closed),
    ):
        yield ranks, ConsoleProgress(console, log=log), stop


def run_bench(
    run: Run, session: Session = Session(), console: Console | None = None, own: OwnData | None = None
) -> tuple[Record | None, int]:
    """Run one seed or several. Return the record (None if stopped before there is one) and the exit code.

    The code is 0; 1 if the last record could not be written to the run's folder; 2 if the loss was not finite;
    128 + N after signal N, where a pipe that nobody reads any more counts as SIGPIPE. Of several ranks only the first
    prints, and one that loses another ends the process with code 1.

    run: as asked for.
    session: the folder, seeds, checkpoints and profile.
    console: where to print; None prints nothing and logs warnings.
    own: the data sets of Run("own").
    Raises UserError for bad input, also for a folder that cannot be written at the start.
    """
    record: Record | None = None
    kept = True
    with launched(console) as (ranks, screen, stop):
        try:
            record, kept = _run(run, session, screen, stop, ranks, own)
        except Interrupted:
            # The signal may have reached another rank alone.
            stop.signal = stop.signal or signal.SIGTERM
    if stop.signal is not None:
        return record, 128 + stop.signal
    if not kept:
        return record, EXIT_NOT_KEPT
    finite = record is None or all(one["stop_reason"] != "non_finite_loss" for one in record.runs)
    return record, 0 if finite else EXIT_BAD_INPUT


def _run(
    run: Run, session: Session, screen: ConsoleProgress, stop: GracefulStop, ranks: Distributed, own: OwnData | None
) -> tuple[Record, bool]:
    """Return the record, and whether it is in the run's folder."""
    with ranks.raise_together():
        check_session(session)
        check_launch(session, run, ranks)
        run = with_size(run, own)
        device = device_for_rank(ranks, run.train.device)
        resolved = resolve(run, on_gpu=device.type == "cuda", cores=max(1, cores() // ranks.local_world_size))
    ranks = make_device_group(ranks, device)
    session = ranks.on_rank0(lambda: after_restart(session, ranks))
    owned: list[RecordFolder] = []  # on the first rank, one
    with ExitStack() as stack:

        def open_one() -> Path:
            owned.append(stack.enter_context(open_folder(session, resolved)))
            return owned[0].path

        path = ranks.on_rank0(open_one)
        save_in(path)
        stack.enter_context(deterministic(resolved.train.deterministic))
        stack.enter_context(screen)
        with ranks.raise_together():
            dataset = open_data(resolved, device, screen, stop, processes=ranks.local_world_size, own=own)
        shown = (unused_gpu(run.train.device), *dataset.notes, _smaller_scale(run, device), _emulated(resolved, device))
        for note in (*shown, *(folder.note for folder in owned)):
            if note:
                screen.warn(note)
        if not ranks.is_distributed:
            values = run_seeds(resolved, dataset, device, owned[0], session, screen, stop)
            return Record(values, path), owned[0].kept
        with ranks.raise_together():
            setup = build_run(resolved, dataset, device, ranks=ranks)
        ranks.assert_same(shared_facts(setup))
        resumed = ranks.on_rank0(lambda: can_resume(owned[0], resolved, session, screen))
        if owned:
            return Record(run_one(setup, owned[0], session, screen, stop, resumed=resumed), path), owned[0].kept
        outcome = Checkpoints(path).load(setup)[0] if resumed else None
        outcome = fit_or_explain(setup, NullCallback(), stop, outcome, every=float("inf"))
        return Record(result(setup, outcome, interrupted=outcome.stop_reason == "interrupted"), path), True


def _emulated(run: ResolvedRun, device: torch.device) -> str | None:
    """Return the line that says bf16 is slow on this processor; None where it is not."""
    if run.train.precision != "bf16" or device.type == "cuda" or has_bfloat16():
        return None
    return "this processor has no bfloat16 instructions: bf16 is emulated, up to 10 times as slow (--precision fp32)"


def _smaller_scale(run: Run, device: torch.device) -> str | None:
    """Return the line that says a run without a GPU is smaller than the paper's; None where it is not."""
    if run.dataset != "imagenet" or device.type == "cuda" or run.data.size is not None:
        return None
    small, full = IMAGENET_ON_CPU, DEFAULTS["imagenet"]
    return (
        f"no GPU: a smaller scale, {small.size} px instead of {full.size}, batches of {small.batch_size} "
        f"(--size and --batch-size choose others)"
    )


def with_size(run: Run, own: OwnData | None) -> Run:
    """Return the run, on a data set of one's own at the size of its images, if it names none. Raises UserError."""
    if run.dataset != OWN or run.data.size is not None:
        return run
    if own is not None:
        shape = image_shape(own.train)
    elif names_path(run.data.data):
        _, shape = pack_images.read_own(user_path(run.data.data))
    else:
        raise not_given()
    return replace(run, data=replace(run.data, size=min(shape[:2])))


def own_data(run: Run | ResolvedRun, train: Any, test: Any) -> OwnData | None:
    """Return the data sets given for Run("own"), None for a run that opens its data by name or path.

    Raises UserError where these do not agree.
    """
    if train is None and run.dataset == OWN and not names_path(run.data.data):
        raise not_given()
    if train is None or run.dataset != OWN:
        for name, given in (("data", train), ("test", test)):
            if given is not None:
                problem = f'{name}= has no effect with Run("{run.dataset}")'
                fix = 'give Run("own", ...)' if run.dataset != OWN else "give data= too, or omit it"
                raise UserError(problem if run.dataset != OWN else f"{problem} and a pack", fix, option=name)
        return None
    for option, value, usual in (
        ("data", run.data.data, "auto"),
        ("download", run.data.download, False),
        ("on_decode_error", run.data.on_decode_error, "raise"),
    ):
        if value != usual:
            problem = f"Data({option}={value!r}) has no effect on a data set given by data="
            raise UserError(problem, "omit it", option=option, value=value)
    return OwnData(train, test)


def open_data(
    run: ResolvedRun,
    device: torch.device,
    screen: ConsoleProgress,
    stop: GracefulStop,
    *,
    processes: int,
    own: OwnData | None = None,
) -> Dataset:
    """Open the data set of a run.

    processes: how many share the cores of this machine.
    own: the data sets of Run("own").
    Raises UserError.
    """

    def progress(what: str, done: int, total: int) -> None:
        stop.check()
        screen.on_load(what, done, total)

    options: dict[str, Any] = {
        name: getattr(run.data, name)
        for name in ("size", "max_samples", "on_decode_error", "cache_images", "workers", "download")
    }
    opening = DataOptions(
        path=run.data.data,
        device=device,
        processes=processes,
        crop_margin="crop" in run.train.augment,
        random_windows=wants_windows(run),
        progress=progress,
        **options,
    )
    return load_dataset(run.dataset, opening) if own is None else load_own(own, opening)
