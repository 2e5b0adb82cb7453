"""The way in from Python: the same run, folder and record as the command's, quiet, and typed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import rethink_fast
from rethink_fast import Corruption, Data, DataOptions, Model, Record, Run, Session, Train, UserError, load_dataset
from rethink_fast.bench.console import ConsoleProgress
from tests.bench.helpers import cli, load

RUN = Run(
    "mnist",
    Data("synthetic", max_samples=60),
    Corruption("random"),
    Model("mlp_1x512"),
    Train(epochs=4, batch_size=20, device="cpu"),
)
WORDS = (
    "bench mnist --data synthetic --max-samples 60 --corruption random --epochs 4 --batch-size 20 --device cpu --out"
)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return rethink_fast.run(RUN, session=Session(out=tmp_path_factory.mktemp("python") / "run"))


def test_a_run_from_python_is_the_commands(
    record: Record, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    again = rethink_fast.run(RUN, session=Session(out=tmp_path / "again"))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    machine = ("busy", "plain torch")  # lines about the machine that runs the tests
    assert all(any(word in entry.getMessage() for word in machine) for entry in caplog.records)
    assert cli(*WORDS.split(), tmp_path / "command") == 0
    command = Record.load(tmp_path / "command")
    untimed = ("online_loss", "online_accuracy", "train_loss", "test_accuracy", "step")
    curves = [[[row[name] for name in untimed] for row in each.metrics()] for each in (record, again, command)]
    assert curves[0] == curves[1] == curves[2]
    assert len(curves[0]) == record.epochs == len(record.metrics())


def test_a_record_is_its_file(record: Record) -> None:
    assert dict(Record.load(record.folder)) == load(record.folder)
    assert dict(record) == load(record.folder)
    for name in ("train_accuracy", "test_accuracy", "train_loss", "memorized", "images_per_second", "stop_reason"):
        assert getattr(record, name) == record[name]
    assert record.runs == (record,)
    moment = record["time_to_memorize"]["accuracy>=1.0"]
    assert record.seconds_to_memorize == (moment and moment["seconds"])


def test_the_model_of_a_record_has_its_accuracy(record: Record) -> None:
    """On the same data set, with the labels that the run drew: its train accuracy, sample by sample."""
    dataset = load_dataset("mnist", DataOptions("synthetic", max_samples=60))
    images, rows = next(iter(dataset.train.images.read([dataset.train.index])))
    index, original = dataset.train.index, dataset.train.labels[dataset.train.index]
    _, labels = rethink_fast.corrupt("random_labels", images[rows], original, index, seed=0, num_classes=10)
    model = record.load_model()
    with torch.inference_mode():
        right = model(model.preprocess(images[rows])).argmax(1) == labels  # type: ignore[operator]
    assert record.train_accuracy == pytest.approx(right.float().mean().item())


def test_several_seeds(tmp_path: Path) -> None:
    record = rethink_fast.run(RUN, session=Session(out=tmp_path / "o", seeds=2))
    assert [one["corruption"]["seed"] for one in record.runs] == [0, 1]
    assert [dict(one) for one in record.runs] == [load(tmp_path / "o" / f"seed-{seed}") for seed in (0, 1)]
    assert record["summary"]["train_accuracy"]["n"] == 2
    assert len(record.runs[1].metrics()) == record.runs[1].epochs
    assert dict(Record.load(tmp_path / "o")) == dict(record)
    for use in (lambda: record.train_accuracy, record.metrics, record.load_model):
        with pytest.raises(UserError, match=r"record\.runs"):
            use()


def test_what_must_not_be_missed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RETHINK_FAST_DATA", raising=False)
    run = Run("mnist", Data(max_samples=60), train=Train(epochs=1, device="cpu"))
    record = rethink_fast.run(run)
    assert record.folder.parent == Path("runs")
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "rethink_fast"]
    assert all(entry.levelno == logging.WARNING for entry in caplog.records)
    assert any("no mnist found" in message and "synthetic" in message for message in messages)


def test_progress_is_the_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rethink_fast.run(RUN, session=Session(out=tmp_path / "o"), progress=True)
    out = capfd.readouterr().out
    assert "epoch   4" in out
    assert f"record: {tmp_path / 'o'}" in out


def test_bad_input_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        rethink_fast.run(Run("mnist", train=Train(epochs=0)), session=Session(out=tmp_path / "o"))
    assert (raised.value.option, raised.value.value) == ("--epochs", 0)
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"result\.json cannot be read") as raised:
            Record.load(wrong)
        assert raised.value.value == wrong / "result.json"
    (tmp_path / "result.json").write_text('{"runs": [{}]}')
    with pytest.raises(UserError, match="lacks"):
        Record.load(tmp_path)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["int", "term"]
)
def test_a_signal_keeps_the_run_and_is_raised(
    number: signal.Signals, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConsoleProgress, "on_epoch", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(error):
        rethink_fast.run(RUN, session=Session(out=tmp_path / "o"))
    monkeypatch.undo()
    stopped = Record.load(tmp_path / "o")
    assert (stopped.stop_reason, stopped.epochs) == ("interrupted", 1)
    assert rethink_fast.run(RUN, session=Session(resume=tmp_path / "o")).epochs == 4


def test_a_run_in_a_thread(tmp_path: Path) -> None:
    """Only the main thread may handle signals."""
    records: list[Record] = []
    thread = threading.Thread(target=lambda: records.append(rethink_fast.run(RUN, session=Session(out=tmp_path / "o"))))
    thread.start()
    thread.join()
    assert records[0].epochs == 4


def test_a_path_may_be_a_str(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    session = Session(out="~/o")  # type: ignore[arg-type]
    assert session.out == tmp_path / "o"
    assert rethink_fast.run(RUN, session=session).folder == tmp_path / "o"
    assert Record.load("~/o").epochs == 4


def test_names_are_imported_at_first_use() -> None:
    code = (
        "import sys, rethink_fast; assert 'torch' not in sys.modules; "
        "names = [getattr(rethink_fast, name) for name in rethink_fast.__all__]; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = rethink_fast.missing
