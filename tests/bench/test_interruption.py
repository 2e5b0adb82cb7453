"""A run that is killed, stopped by a signal, or ended by an error, leaves whole files."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rethink_fast.bench.record_folder import read_curve
from rethink_fast.bench.signals import ALWAYS, UNLESS_IGNORED
from rethink_fast.cli.app import main
from rethink_fast.data.loader import Loader
from rethink_fast.errors import UserError
from rethink_fast.train.checkpoint import Checkpoints
from rethink_fast.train.step import Step
from tests.bench.helpers import EPOCHS, SMALL, changed, check_whole, cli, load, losses


@pytest.mark.slow
def test_files_are_whole_whenever_a_run_is_killed(tmp_path: Path) -> None:
    slow = [{"1e-4": "1e-9"}.get(word, word) for word in SMALL[1:]]
    words = [sys.executable, "-m", "rethink_fast.bench", *slow, "--checkpoint-interval", "0", "--epochs", "100000"]
    folder = tmp_path / "o"
    for attempt in range(6):
        option = "--resume" if folder.exists() else "--out"
        process = subprocess.Popen([*words, option, folder], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("epoch"))
        for _ in range(7 * attempt):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        json.loads((folder / "config.json").read_text())
        assert load(folder)["interrupted"]
        assert read_curve(folder / "metrics.csv") is not None
        np.load(folder / "labels.npz")["index"]
    assert load(folder)["n_sessions"] >= 4  # a kill before the first checkpoint starts over


# However a run ends


@pytest.mark.parametrize("number", [*ALWAYS, *UNLESS_IGNORED[:13]], ids=lambda number: signal.Signals(number).name)
def test_every_signal_leaves_a_checkpoint(number: int, at_epoch: Callable[..., None], tmp_path: Path) -> None:
    folder = tmp_path / "o"
    before = signal.getsignal(number)
    if before == signal.SIG_IGN:
        pytest.skip("ignored in this process")
    at_epoch(2, lambda: os.kill(os.getpid(), number))
    assert cli(*EPOCHS, "--out", folder) == 128 + number
    assert signal.getsignal(number) == before
    assert (load(folder)["stop_reason"], load(folder)["epochs"]) == ("interrupted", 2)
    assert Checkpoints(folder).exist()


def test_an_ignored_hangup_stays_ignored(at_epoch: Callable[..., None], tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_epoch(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_signals_at_once_are_one_request(at_epoch: Callable[..., None], tmp_path: Path) -> None:
    def hang_up() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)

    at_epoch(2, hang_up)
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 143
    assert Checkpoints(tmp_path / "o").exist()


class Gone(io.StringIO):
    """An output that goes away after a line."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.lines = number, 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        if self.lines > 3:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EBADF])
def test_an_output_that_goes_away_does_not_stop_a_run(
    number: int, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Gone(number))
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    assert losses(tmp_path / "o") == losses(unbroken)


def test_an_output_that_nobody_reads_stops_a_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Gone(errno.EPIPE))
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 141
    assert load(tmp_path / "o")["interrupted"]
    assert Checkpoints(tmp_path / "o").exist()


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rethink_fast.bench", *SMALL[1:], "--epochs", "100000", "--out", str(tmp_path / "o")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=300) == 141
        assert process.stderr.read() == ""
    assert load(tmp_path / "o")["interrupted"]
    assert Checkpoints(tmp_path / "o").exist()


@pytest.mark.parametrize("error", [UserError("a.jpeg is gone"), OSError(5, "Input/output error"), RuntimeError("x")])
def test_a_source_that_fails_in_an_epoch_leaves_a_checkpoint(
    error: Exception, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, whole = tmp_path / "o", Loader.epoch

    def fails(self: Loader, epoch: int, *rest: Any) -> Iterator[Any]:
        for place, batch in enumerate(whole(self, epoch, *rest)):
            if (epoch, place) == (2, 1):
                raise error
            yield batch

    monkeypatch.setattr(Loader, "epoch", fails)
    with pytest.raises((SystemExit, type(error))):
        main([*EPOCHS, "--out", str(folder)])
    assert "an error ends the run at step 7" in capfd.readouterr().out
    assert (load(folder)["interrupted"], load(folder)["steps"], load(folder)["epochs"]) == (True, 7, 2)
    check_whole(folder)
    monkeypatch.undo()
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert "resuming from step 7" in capfd.readouterr().out
    assert losses(folder) == losses(unbroken)


def test_an_error_within_a_step_leaves_the_last_good_state(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, train, calls = tmp_path / "o", Step.train, []

    def fails(self: Step, *given: Any) -> None:
        train(self, *given)
        calls.append(1)
        if len(calls) == 8:
            raise MemoryError("in the middle")

    monkeypatch.setattr(Step, "train", fails)
    assert cli(*EPOCHS, "--checkpoint-interval", "0", "--out", folder) == 2
    assert load(folder)["steps"] == 7
    monkeypatch.undo()
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert "cannot be used" not in capfd.readouterr().out
    assert losses(folder) == losses(unbroken)


# JSON


def test_a_run_whose_loss_is_not_finite_writes_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cli(*changed("--lr", "1e6"), "--model", "mlp_3x512", "--json", "--out", tmp_path / "o")
    record = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert record == load(tmp_path / "o")
