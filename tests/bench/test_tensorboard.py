"""--tensorboard: TensorBoard reads the curves of metrics.csv, also of a run that was killed, resumed or out of disk."""

from __future__ import annotations

import csv
import errno
import io
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.bench import tensorboard
from rethink_fast.bench.tensorboard import EVENTS, EventFile
from rethink_fast.train.state import EpochMetrics, TrainState
from tests.bench.helpers import EPOCHS, changed, cli, refused

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: for each tag the steps and the values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def columns(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of metrics.csv."""
    found: dict[str, list[tuple[int, float]]] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, word in row.items():
                if name not in ("epoch", "step") and word:
                    found.setdefault(name, []).append((int(row["epoch"]), float(word)))
    return found


def assert_same(folder: Path, *, epochs: int) -> None:
    found, expected = read(folder), columns(folder)
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points]
        # an event holds a float32
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=2**-23)
    assert [step for step, _ in found["train_loss"]] == list(range(1, epochs + 1))


@needs_tensorboard
def test_tensorboard_reads_every_column_of_metrics_csv(tmp_path: Path) -> None:
    assert cli(*EPOCHS, "--eval-interval", "2", "--seeds", "2", "--tensorboard", "--out", tmp_path / "o") == 0
    for seed in (0, 1):
        found, expected = read(tmp_path / f"o/seed-{seed}"), columns(tmp_path / f"o/seed-{seed}")
        assert found.keys() == expected.keys()
        assert [step for step, _ in found["train_loss"]] == [step for step, _ in expected["train_loss"]]
    assert len(found["online_loss"]) == 6 > len(found["train_loss"])


def test_nothing_is_written_without_the_option(unbroken: Path) -> None:
    assert not list(unbroken.glob("*tfevents*"))


@needs_tensorboard
@pytest.mark.parametrize("before", ["--tensorboard", "--json"])
@pytest.mark.parametrize("left", ["whole", "torn", "longer"])
def test_a_resumed_run_continues_its_curves(tmp_path: Path, before: str, left: str) -> None:
    """Also where the first session wrote none, was killed while writing, or came further than its checkpoint."""
    assert cli(*EPOCHS, before, "--out", tmp_path / "o") == 0
    events = tmp_path / "o" / EVENTS
    if left != "whole":
        content = events.read_bytes() if events.exists() else b""
        events.write_bytes(content[: len(content) * 3 // 4] if left == "torn" else content + b"x" * 1000)
    assert cli(*changed("--epochs", "9"), "--tensorboard", "--resume", tmp_path / "o") == 0
    assert_same(tmp_path / "o", epochs=9)


@needs_tensorboard
def test_a_folder_that_was_removed_gets_the_whole_curve(
    tmp_path: Path, at_epoch: Callable[[int, Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethink_fast.bench.callbacks.RECORD_SECONDS", 0.0)
    at_epoch(3, lambda: shutil.rmtree(tmp_path / "o"))
    assert cli(*EPOCHS, "--tensorboard", "--out", tmp_path / "o") == 0
    assert_same(tmp_path / "o", epochs=6)


class SmallDisk(io.FileIO):
    """A file on a disk with room for 20 bytes."""

    def write(self, content: Any, /) -> int:
        super().write(content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")


def rows(count: int) -> TrainState:
    row: Any = dict.fromkeys(EpochMetrics.__dataclass_fields__, 0.5)
    return TrainState(rows=[EpochMetrics(**{**row, "epoch": n + 1, "step": n + 1}) for n in range(count)])


@needs_tensorboard
def test_epochs_that_did_not_fit_on_the_disk_follow_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EventFile(tmp_path)
    file.write(rows(2))
    size = file.path.stat().st_size
    with monkeypatch.context() as context:
        context.setattr(Path, "open", lambda path, mode: SmallDisk(path, mode))
        with pytest.raises(OSError, match="No space"):
            file.write(rows(4))
    assert file.path.stat().st_size > size, "a torn record"
    file.write(rows(5))
    assert [step for step, _ in read(tmp_path)["train_loss"]] == [1, 2, 3, 4, 5]


@needs_tensorboard
def test_tensorboard_follows_the_file_as_it_grows_and_through_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(tmp_path))
    first, second = EventFile(tmp_path), EventFile(tmp_path)
    for file, count in ((first, 2), (first, 4), (second, 4), (second, 5)):
        outcome = rows(count)
        outcome.started_at = "2026-01-01T00:00:00+00:00"
        file.write(outcome)
        assert [each.step for each in shown.Reload().Scalars("train_loss")] == list(range(1, count + 1))


@needs_tensorboard
def test_a_value_that_is_not_finite_is_a_point_and_a_missing_one_is_none(tmp_path: Path) -> None:
    outcome = rows(2)
    object.__setattr__(outcome.rows[0], "online_loss", float("inf"))
    object.__setattr__(outcome.rows[1], "test_accuracy", None)
    EventFile(tmp_path).write(outcome)
    found = read(tmp_path)
    assert found["online_loss"] == [(1, float("inf")), (2, 0.5)]
    assert found["test_accuracy"] == [(1, 0.5)]


def test_without_tensorboard_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    line = refused(capfd, *EPOCHS, "--tensorboard", "--out", tmp_path / "o")
    assert "--tensorboard needs tensorboard, which is not installed: pip install tensorboard, or omit it." in line
    assert not (tmp_path / "o").exists(), "before the folder and the training"
