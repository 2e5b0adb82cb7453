"""The folder of a run: one owner, a start over in place, and files that are whole however the run ends."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rethink_fast.bench import launch
from rethink_fast.bench.console import ConsoleProgress
from rethink_fast.bench.record_folder import FILES, RecordFolder, read_curve
from rethink_fast.bench.signals import ALWAYS, UNLESS_IGNORED
from rethink_fast.cli.app import main
from rethink_fast.config import Run
from rethink_fast.data.loader import Loader
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.owned_folder import LOCK, OwnedFolder
from rethink_fast.train.checkpoint import Checkpoints
from rethink_fast.train.step import Step
from tests.bench.helpers import cli, load, refused

SMALL = [
    "bench",
    "mnist",
    "--data",
    "synthetic",
    "--max-samples",
    "60",
    "--batch-size",
    "20",
    "--device",
    "cpu",
    "--compile",
    "off",
    "--target-accuracy",
    "1",
    "--lr",
    "1e-4",
]
EPOCHS = [*SMALL, "--epochs", "6"]


def changed(name: str, value: str) -> list[str]:
    """The words of EPOCHS with another value of an option."""
    place = EPOCHS.index(name) + 1
    return [*EPOCHS[:place], value, *EPOCHS[place + 1 :]]


def losses(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["online_loss"] for row in csv.DictReader(file)]


def check_whole(folder: Path) -> None:
    """Every file of a run can be read."""
    json.loads((folder / "config.json").read_text())
    assert len(losses(folder)) == load(folder)["epochs"]
    with np.load(folder / "labels.npz") as labels:
        assert len(labels["index"]) == 60
    assert not list(folder.glob(".*partial"))


@pytest.fixture
def at_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something at the end of an epoch of a run."""

    def at(epoch: int, act: Callable[[], object]) -> None:
        shown = ConsoleProgress.on_epoch

        def on_epoch(self: ConsoleProgress, row: Any, outcome: Any) -> None:
            if row.epoch == epoch:
                act()
            shown(self, row, outcome)

        monkeypatch.setattr(ConsoleProgress, "on_epoch", on_epoch)

    return at


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "o"
    assert cli(*EPOCHS, "--out", folder) == 0
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory of some size."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("needs the right to mount a small tmpfs")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, free: int = 0) -> Path:
    """Leave so many bytes free."""
    room = os.statvfs(place)
    size = room.f_bavail * room.f_frsize - free
    (place / "filler").write_bytes(bytes(size))
    return place / "filler"


# One owner


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "o"
    with RecordFolder(folder):
        assert f"--out {folder} is in use by another process" in refused(capfd, *EPOCHS, "--out", folder)
        assert f"--resume {folder} is in use" in refused(capfd, *EPOCHS, "--resume", folder)
        assert f"--out {folder} is in use" in refused(capfd, *EPOCHS, "--seeds", "2", "--out", folder)
        assert f"--out {folder} is in use" in refused(capfd, "reproduce", "theorem1", "--out", folder)
        assert os.listdir(folder) == [LOCK]
    assert not list(folder.iterdir())
    with RecordFolder(tmp_path / "group" / "seed-0"):
        group = tmp_path / "group"
        assert f"{group / 'seed-0'} is in use" in refused(capfd, *EPOCHS, "--seeds", "2", "--resume", group)
    assert cli(*EPOCHS, "--out", folder) == 0
    assert set(FILES) <= set(os.listdir(folder))
    assert LOCK not in os.listdir(folder)


def test_of_processes_that_make_a_folder_at_once_one_owns_it(tmp_path: Path) -> None:
    for attempt in range(8):
        folder = tmp_path / "runs" / str(attempt)
        start, begin = os.pipe()
        end, finish = os.pipe()
        told, tell = os.pipe()
        children = []
        for _ in range(6):
            child = os.fork()
            if child == 0:
                os.close(begin)
                os.close(finish)
                os.read(start, 1)
                try:
                    owned = OwnedFolder(folder)
                except UserError:
                    os.write(tell, b"-")
                    os._exit(0)
                except BaseException:
                    os.write(tell, b"?")
                    os._exit(1)
                os.write(tell, b"+")
                os.read(end, 1)
                owned.close()
                os._exit(0)
            children.append(child)
        os.close(begin)
        answers = b"".join(os.read(told, 1) for _ in children)
        os.close(finish)
        for child in children:
            os.waitpid(child, 0)
        for handle in (start, end, told, tell):
            os.close(handle)
        assert sorted(answers) == sorted(b"+-----"), answers


def test_without_locks_in_the_file_system_a_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr("fcntl.flock", flock)
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    assert capfd.readouterr().out.count("on a file system without locks") == 1


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = resolve(Run("mnist"), on_gpu=False, cores=1)
    monkeypatch.setattr("rethink_fast.bench.launch.time.strftime", lambda how: "20260101-000000")
    assert len({launch.default_folder(run) for _ in range(4)}) == 4


def test_a_folder_that_was_there_stays_when_a_run_fails(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in ("mine", "new"):
        assert cli(*SMALL, "--data", tmp_path / "nowhere", "--out", tmp_path / folder) == 2
    assert os.listdir(tmp_path) == ["mine"]
    assert not os.listdir(tmp_path / "mine")


# Starting over


def unstarted(unbroken: Path, folder: Path, **changes: bytes | None) -> Path:
    """What a run leaves that was killed before its first checkpoint. changes: other contents of files; None: none."""
    shutil.copytree(unbroken, folder)
    for path in folder.glob("*checkpoint*"):
        path.unlink()
    for path in folder.iterdir():
        if path.name not in FILES:
            path.unlink()
    record = {**load(folder), "interrupted": True, "stop_reason": "interrupted", "epochs": 0}
    (folder / "result.json").write_text(json.dumps(record))
    (folder / LOCK).touch()
    (folder / ".result.json.123.partial").write_text("{")
    for name, content in changes.items():
        path = folder / f"{name}.json" if name != "labels" else folder / "labels.npz"
        path.unlink() if content is None else path.write_bytes(content)
    return folder


STATES: dict[str, dict[str, bytes | None]] = {
    "whole": {},
    "no config": {"config": None},
    "torn config": {"config": b'{"dataset": "mn'},
    "empty config": {"config": b""},
    "no record": {"result": None},
    "torn record": {"result": b'{"schema"'},
    "torn labels": {"labels": b"PK"},
    "nothing whole": {"config": b"\0", "result": b"\0", "labels": b""},
}


@pytest.mark.parametrize("state", STATES)
def test_a_run_without_a_checkpoint_starts_over_in_place(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    folder = unstarted(unbroken, tmp_path / "o", **STATES[state])
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert "has no checkpoint: the run starts over there" in capfd.readouterr().out
    assert losses(folder) == losses(unbroken)
    assert load(folder)["n_sessions"] == 1
    check_whole(folder)


def test_an_empty_folder_starts_over_and_another_does_not(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli(*EPOCHS, "--resume", tmp_path / "empty") == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    assert "is not a run's folder, for it holds thesis.tex" in refused(capfd, *EPOCHS, "--resume", tmp_path / "other")
    folder = unstarted(unbroken, tmp_path / "o")
    line = refused(capfd, *changed("--lr", "0.5"), "--seed", "3", "--resume", folder)
    assert "is another run (seed 0 there, 3 here; lr 0.0001 there, 0.5 here)" in line
    assert cli(*changed("--epochs", "7"), "--workers", "1", "--resume", folder) == 0


def test_a_finished_run_does_not_start_over(unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = unstarted(unbroken, tmp_path / "o")
    record = {**load(unbroken), "stop_reason": "target_reached"}
    (folder / "result.json").write_text(json.dumps(record))
    assert "is a finished run, it reached its goal after" in refused(capfd, *EPOCHS, "--resume", folder)
    assert load(folder) == record


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config", b"[]", "has the value [], where an object is expected"),
        ("config", b'{"dataset": 3}', "has dataset 3, where text of at most 4,000 characters is expected"),
        ("config", b'{"dataset": "mnist", "data": [1]}', "has data [1], where an object is expected"),
        ("config", b'{"dataset": "mnist", "data": {}}', "lacks corruption"),
        ("config", b"[" * 40 + b"]" * 40, "is nested deeper than 32 levels"),
        ("config", b"[" * 10**6, "is not whole JSON"),
        ("result", b"3", "has the value 3"),
        ("result", b'{"schema": "x"}', "has schema x, where a whole number of at least 0 is expected"),
    ],
)
def test_strange_content_is_named(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    folder = unstarted(unbroken, tmp_path / "o", **{name: content})
    if said == "is not whole JSON":
        assert cli(*EPOCHS, "--resume", folder) == 0
        return
    line = refused(capfd, *EPOCHS, "--resume", folder)
    assert f"{folder / name}.json {said}" in line
    assert (folder / f"{name}.json").read_bytes() == content


def test_one_seed_without_a_checkpoint_does_not_stop_the_others(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    group = tmp_path / "o"
    assert cli(*EPOCHS, "--seeds", "3", "--out", group) == 0
    first = load(group)
    shutil.rmtree(group / "seed-0")
    unstarted(unbroken, group / "seed-0")
    shutil.rmtree(group / "seed-2")
    (group / "result.json").write_text("{")
    assert cli(*EPOCHS, "--seeds", "3", "--resume", group) == 0
    assert [one["train_loss"] for one in load(group)["runs"]] == [one["train_loss"] for one in first["runs"]]
    assert load(group)["runs"][1] == first["runs"][1]
    assert "seed 1 is finished" in capfd.readouterr().out
    line = refused(capfd, *changed("--lr", "0.3"), "--seeds", "3", "--resume", group)
    assert "lr 0.0001 there, 0.3 here" in line
    assert "holds runs with several seeds: give --seeds" in refused(capfd, *EPOCHS, "--resume", group)
    assert "is a run with one seed" in refused(capfd, *EPOCHS, "--seeds", "2", "--resume", unbroken)
    (group / "seed-1" / "result.json").write_text(json.dumps({**load(group / "seed-1"), "time_to_memorize": [1]}))
    line = refused(capfd, *EPOCHS, "--seeds", "3", "--resume", group)
    assert f"{group / 'seed-1' / 'result.json'} has time_to_memorize [1], where an object is expected" in line


# Whole files


@pytest.mark.parametrize("free", [0, 1, 4096, 8192])
def test_a_start_without_room_is_one_line_and_leaves_nothing(
    small_disk: Callable[[str], Path], free: int, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk("64k")
    fill(disk, free=free)
    assert "cannot be written (No space left on device)" in refused(capfd, *EPOCHS, "--out", disk / "o")
    assert os.listdir(disk) == ["filler"]
    (disk / "mine").mkdir()
    refused(capfd, *EPOCHS, "--out", disk / "mine")
    assert not os.listdir(disk / "mine")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_record_that_did_not_reach_the_disk_is_kept_elsewhere(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    unbroken: Path,
    places: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("16m")
    at_epoch(3, lambda: fill(disk))
    assert cli(*EPOCHS, "--json", "--out", disk / "o") == 1
    out, err = capfd.readouterr()
    place = next(places.iterdir())
    assert f"could not be written to {disk / 'o'} (No space left on device)" in err
    assert f"everything is in {place}" in err
    assert load(place) == json.loads(out)
    assert losses(place) == losses(unbroken)
    assert losses(disk / "o") == losses(unbroken)[: len(losses(disk / "o"))]
    check_whole(disk / "o")
    check_whole(place)
    (disk / "filler").unlink()
    longer = changed("--epochs", "8")
    assert cli(*longer, "--resume", place) == 0, "a run whose epochs are used up can go on with more"
    assert losses(place)[:6] == losses(unbroken)
    assert load(place)["epochs"] == 8


def test_a_record_that_has_no_place_at_all_ends_with_1(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("16m")
    (disk / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk / "tmp"))
    at_epoch(3, lambda: fill(disk))
    assert cli(*EPOCHS, "--out", disk / "o") == 1
    assert "nor to" in capfd.readouterr().out
    assert not os.listdir(disk / "tmp")
    check_whole(disk / "o")


def test_a_folder_made_read_only_leaves_checkpoint_and_record_elsewhere(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    unbroken: Path,
    places: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = small_disk("16m")

    def lock_and_stop() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
        os.kill(os.getpid(), signal.SIGTERM)

    at_epoch(3, lock_and_stop)
    assert cli(*EPOCHS, "--out", folder) == 143
    subprocess.run(["umount", "-l", str(folder)], check=True)
    place = next(places.iterdir())
    assert f"(Read-only file system): everything is in {place}; continue by --resume {place}" in (
        capfd.readouterr().out
    )
    assert load(place)["epochs"] == 3
    monkeypatch.undo()
    assert cli(*EPOCHS, "--resume", place) == 0
    assert losses(place) == losses(unbroken)


def test_a_folder_that_is_removed_during_the_run_is_made_again(
    unbroken: Path, at_epoch: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at_epoch(3, lambda: shutil.rmtree(tmp_path / "o"))
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    assert "was removed while the run went on: it was made again" in capfd.readouterr().out
    assert losses(tmp_path / "o") == losses(unbroken)
    check_whole(tmp_path / "o")


def test_a_resume_does_not_rewrite_what_is_the_same(unbroken: Path, tmp_path: Path) -> None:
    folder = unstarted(unbroken, tmp_path / "o")
    before = {name: (folder / name).stat().st_ino for name in ("config.json", "labels.npz")}
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert {name: (folder / name).stat().st_ino for name in before} == before


def test_the_curve_has_a_fixed_word_for_what_is_not_finite(unbroken: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,train_loss,test_loss,online_loss\n1,nan,,-inf\n")
    assert read_curve(path) == ({"epoch": 1.0, "train_loss": None, "test_loss": None, "online_loss": None},)
    assert [row["online_loss"] for row in read_curve(unbroken / "metrics.csv")] == [float(x) for x in losses(unbroken)]
    for wrong in ("epoch\nx\n", "epoch\n1,2\n", "epoch,b\n1\n", "epoch\n1\0\n", f"epoch\n{'1' * 200_000}\n"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"."):
            read_curve(path)


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
