"""One run from a configuration to a record: opens the data, trains, writes, and minds the signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from ..config import DEFAULTS, IMAGENET_ON_CPU, Run, resolve
from ..data import open_dataset
from ..env import choose_device, cores
from ..train.engine import EpochRow, Interrupted, Outcome, Tick, fit
from ..train.setup import Setup, set_up
from .record import RecordFolder, result
from .screen import Screen

EXIT_BAD_INPUT = 2


class Stop:
    """Set by the first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number

    def check(self) -> None:
        if self.signal is not None:
            raise Interrupted

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
    """Listener that keeps the record up to date beside the screen."""

    def __init__(self, setup: Setup, folder: RecordFolder, screen: Screen) -> None:
        self.setup, self.folder, self.screen = setup, folder, screen

    def on_tick(self, tick: Tick) -> None:
        self.screen.on_tick(tick)

    def on_epoch(self, row: EpochRow, outcome: Outcome) -> None:
        self.folder.add(row)
        self.folder.write_result(result(self.setup, outcome, interrupted=True))
        self.screen.on_epoch(row, outcome)


def default_folder(run: Run) -> Path:
    """runs/DATE-TIME-DATASET-CORRUPTION in the current folder, with a number where that is taken."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{run.dataset}-{run.corruption.corruption}"
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def run_bench(run: Run, out: Path | None, console: Console) -> tuple[dict[str, Any] | None, int]:
    """Carry out one run. Returns the record (None if stopped before there was one) and the exit code.

    The exit code is 0; 2 if the loss was not finite; 128 + N after signal N. Raises UserError for bad input.
    """
    stop = Stop()
    with stop.listening():
        try:
            record = _run(run, out, console, stop)
        except Interrupted:
            record = None
    if stop.signal is not None:
        return record, 128 + stop.signal
    return record, EXIT_BAD_INPUT if record and record["stopped"] == "not_finite" else 0


def _run(run: Run, out: Path | None, console: Console, stop: Stop) -> dict[str, Any]:
    device = choose_device(run.train.device)
    smaller = _smaller_scale(run, device)
    run = resolve(run, on_gpu=device.type == "cuda", cores=cores())
    folder = RecordFolder(out if out is not None else default_folder(run))
    try:
        with Screen(console) as screen:
            setup = _open(run, device, screen, stop)
            for note in setup.dataset.notes:
                screen.note(note)
            if smaller:
                screen.note(smaller)
            screen.begin(setup)
            folder.begin(setup)
            folder.write_result(result(setup, Outcome(), interrupted=True))
            outcome = fit(setup, Keeper(setup, folder, screen), stop.check)
    except BaseException:
        folder.abandon()
        raise
    record = result(setup, outcome, interrupted=outcome.stopped == "interrupted")
    folder.write_result(record)
    screen.close(record, str(folder.path))
    return record


def _smaller_scale(run: Run, device: torch.device) -> str | None:
    """The line that says a run without a GPU is made smaller than the paper's; None where it is not."""
    if run.dataset != "imagenet" or device.type == "cuda" or run.data.size is not None:
        return None
    small, full = IMAGENET_ON_CPU, DEFAULTS["imagenet"]
    return (
        f"no GPU: a smaller scale, {small.size} px in place of {full.size}, batches of {small.batch_size} "
        f"(--size and --batch-size choose others)"
    )


def _open(run: Run, device: torch.device, screen: Screen, stop: Stop) -> Setup:
    def progress(what: str, done: int, total: int) -> None:
        stop.check()
        screen.on_load(what, done, total)

    assert run.data.workers is not None
    assert run.data.size is not None
    dataset = open_dataset(
        run.dataset,
        run.data.data,
        size=run.data.size,
        margin="crop" in run.train.augment,
        limit=run.data.limit,
        device=device,
        workers=run.data.workers,
        download=run.data.download,
        damaged=run.data.damaged,
        progress=progress,
    )
    stop.check()
    return set_up(run, dataset, device)
