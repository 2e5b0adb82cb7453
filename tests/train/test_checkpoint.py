"""Never losing work: runs that are really killed go on to the same bits; full disks and damaged files are survived."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.cli.app import main
from rethink_fast.train.checkpoint import NEWEST, PREVIOUS

TIMED = ("train_seconds", "images_per_second")
BENCH = [sys.executable, "-m", "rethink_fast.bench"]
# Dropout and flips draw from generators and epochs, which a checkpoint must carry on too.
WORDS = [
    "mnist",
    "--data",
    "synthetic",
    "--max-samples",
    "2000",
    "--corruption",
    "random",
    "--lr",
    "1e-4",
    "--target-accuracy",
    "1",
]
WORDS += ["--dropout", "0.1", "--augment", "flip", "--checkpoint-interval", "0", "--epochs"]


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def load(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return record


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BENCH, *words], capture_output=True, text=True, timeout=300)


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words])
    assert stopped.value.code == 2
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "o"
    assert bench(*WORDS, "30", "--out", str(folder)).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_run_stopped_at_random_moments_goes_on_to_the_same_bits(
    number: signal.Signals, unbroken: Path, tmp_path: Path
) -> None:
    folder, moments = tmp_path / "o", random.Random(int(number))
    command = [*BENCH, *WORDS, "30"]
    process = subprocess.Popen([*command, "--out", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stops = 0
    while True:
        before = (folder / NEWEST).stat().st_mtime_ns if (folder / NEWEST).exists() else 0
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            newest = folder / NEWEST
            if newest.exists() and newest.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        if stops == 3:
            assert process.wait(timeout=300) == 0
            break
        assert process.poll() is None, "the run ended before it could be stopped three times"
        process.send_signal(number)
        assert process.wait(timeout=60) == (-9 if number == signal.SIGKILL else 128 + number)
        stops += 1
        process = subprocess.Popen(
            [*command, "--resume", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    assert curve(folder) == curve(unbroken)
    assert load(folder)["n_sessions"] == 4
    assert load(folder)["train_loss"] == load(unbroken)["train_loss"]


def stopped(folder: Path, *, epochs: str = "3") -> None:
    """Leave a run that used its epochs, with two checkpoints."""
    assert bench(*WORDS, epochs, "--out", str(folder)).returncode == 0


@pytest.mark.slow
def test_more_epochs_go_on_from_the_last_checkpoint(unbroken: Path, tmp_path: Path) -> None:
    stopped(tmp_path / "o")
    assert bench(*WORDS, "30", "--resume", str(tmp_path / "o")).returncode == 0
    assert curve(tmp_path / "o") == curve(unbroken)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "o"
    stopped(folder)
    data = bytearray((folder / NEWEST).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / NEWEST).write_bytes(data)
    done = bench(*WORDS, "30", "--resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert f"{folder / NEWEST} cannot be used (it is damaged: its checksum does not agree)" in done.stdout
    assert curve(folder) == curve(unbroken)


@pytest.mark.slow
def test_two_damaged_checkpoints_are_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "o"
    stopped(folder)
    before = load(folder)
    (folder / NEWEST).write_bytes((folder / NEWEST).read_bytes()[:-7])
    (folder / PREVIOUS).write_bytes(b"")
    line = refused(capfd, *WORDS, "30", "--resume", str(folder))
    assert NEWEST in line
    assert PREVIOUS in line
    assert "start the run again" in line
    assert load(folder) == before


def changed(words: list[str], name: str, value: str) -> list[str]:
    place = words.index(name) + 1
    return [*words[:place], value, *words[place + 1 :]]


IGNORED_FILES = {
    "corruption": (changed(WORDS, "--corruption", "true"), "corruption random there, true here"),
    "model": ([*WORDS[:-1], "--model", "mlp_3x512", "--epochs"], "model mlp_1x512 there, mlp_3x512 here"),
    "data set": (["cifar10", *WORDS[1:]], "dataset mnist there, cifar10 here"),
    "size of the set": (changed(WORDS, "--max-samples", "1999"), "max samples 2000 there, 1999 here"),
    "seed": ([*WORDS[:-1], "--seed", "5", "--epochs"], "seed 0 there, 5 here"),
    "rate": (changed(WORDS, "--lr", "0.1"), "lr 0.0001 there, 0.1 here"),
}


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused_by_its_difference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "o"
    stopped(folder, epochs="1")
    for words, difference in IGNORED_FILES.values():
        assert difference in refused(capfd, *words, "30", "--resume", str(folder))
    monkeypatch.setattr("rethink_fast.train.checkpoint.CONTRACT_VERSION", 99)
    assert "contract version 1 there, 99 here" in refused(capfd, *WORDS, "30", "--resume", str(folder))


def test_what_cannot_be_resumed_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "is not a folder" in refused(capfd, *WORDS, "3", "--resume", str(tmp_path / "none"))
    line = refused(capfd, *WORDS, "3", "--resume", str(tmp_path), "--out", str(tmp_path / "o"))
    assert "--out" in line
    assert "omit one" in line


@pytest.mark.parametrize(
    "room", ["64", pytest.param("4096", marks=pytest.mark.slow)], ids=["for the record alone", "for nothing more later"]
)
def test_a_disk_without_room_for_a_checkpoint_does_not_stop_the_run(room: str, tmp_path: Path) -> None:
    """A limit on the size of files makes the kernel refuse the write half-way, as a full disk does."""
    folder = tmp_path / "o"
    words = [*WORDS, "2", "--out", str(folder)]
    limited = ["bash", "-c", f'ulimit -f {room}; exec "$@"', "_", *BENCH, *words]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert load(folder)["epochs"] == 2
    assert not list(folder.glob(".*partial"))
    assert ("a checkpoint could not be written" in done.stdout) == (room == "64")
    assert (folder / NEWEST).exists() == (room == "4096")


@pytest.mark.slow
def test_a_checkpoint_that_no_longer_fits_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    stopped(folder, epochs="1")
    good = (folder / NEWEST).read_bytes()
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "_", *BENCH, *WORDS, "2", "--resume", str(folder)]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (folder / NEWEST).read_bytes() == good
    assert load(folder)["epochs"] == 2


def test_a_run_that_reached_its_goal_keeps_no_checkpoint(tmp_path: Path) -> None:
    words = [
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "300",
        "--checkpoint-interval",
        "0",
        "--target-accuracy",
        "0.2",
    ]
    assert bench(*words, "--out", str(tmp_path / "o")).returncode == 0
    assert load(tmp_path / "o")["stop_reason"] == "target_reached"
    assert not list((tmp_path / "o").glob("*checkpoint*"))


@pytest.mark.slow
def test_resuming_some_seeds_runs_only_the_missing_ones(tmp_path: Path) -> None:
    words = ["mnist", "--data", "synthetic", "--max-samples", "300", "--target-accuracy", "0.3", "--seeds", "3"]
    folder = tmp_path / "o"
    assert bench(*words, "--out", str(folder)).returncode == 0
    first = load(folder)
    assert first["seeds"] == [0, 1, 2]
    for name in os.listdir(folder / "seed-2"):
        (folder / "seed-2" / name).unlink()
    (folder / "seed-2").rmdir()
    done = bench(*words, "--resume", str(folder))
    assert done.returncode == 0, done.stderr
    again = load(folder)
    assert again["runs"][:2] == first["runs"][:2]
    assert again["runs"][2]["train_loss"] == first["runs"][2]["train_loss"]
