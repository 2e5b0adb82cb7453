"""The record: its schema, what a run writes, and that two runs of one configuration agree."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast import kernels
from rethink_fast.bench.console import percent
from rethink_fast.bench.record import SCHEMA
from rethink_fast.cli.app import main
from rethink_fast.data import synthetic
from rethink_fast.train.state import EpochMetrics

TIMINGS = (
    *("started_at", "ended_at", "images_per_second", "train_seconds", "data_wait_fraction", "compile_seconds"),
    *("eval_seconds", "checkpoint_seconds", "peak_memory_bytes", "profile"),
)
"""Keys that differ between runs of one configuration (and environment.contention, and time_to_memorize's seconds)."""
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict}
SMALL = [
    *("bench", "mnist", "--data", "synthetic", "--max-samples", "300"),
    *("--corruption", "partial", "--probability", "0.5"),
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def load(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return record


def check_schema(record: dict[str, Any]) -> None:
    assert list(record) == list(SCHEMA)
    for key, (kind, _) in SCHEMA.items():
        if record[key] is None:
            assert kind.endswith("?"), key
        else:
            assert type(record[key]) is TYPES[kind.rstrip("?")], key


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in record.items() if key not in TIMINGS}
    kept["time_to_memorize"] = {
        name: moment and {"epochs": moment["epochs"], "steps": moment["steps"]}
        for name, moment in record["time_to_memorize"].items()
    }
    kept["environment"] = {name: value for name, value in record["environment"].items() if name != "contention"}
    return kept


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "o"
    assert run(*SMALL, "--out", str(folder)) == 0
    return folder


def test_the_record_has_the_documented_schema(finished: Path) -> None:
    record = load(finished)
    check_schema(record)
    assert record["memorized"] is True
    assert record["stop_reason"] == "target_reached"
    assert record["train_accuracy"] == 1.0
    assert record["interrupted"] is False
    assert record["corruption"]["kind"] == "partially_corrupted_labels"
    assert record["data_source"] == "synthetic"
    assert record["steps"] == record["epochs"] * 3
    assert datetime.fromisoformat(record["started_at"]).tzinfo == timezone.utc
    assert record["started_at"] <= record["ended_at"]
    assert set(record["environment"]["contention"]) == {
        *("load_start", "load_end", "processor_share", "involuntary_switches", "gpu_start", "gpu_end", "busy"),
    }
    assert record["backend"] == kernels.data_path(torch.device("cpu"))
    assert record["time_to_memorize"]["accuracy>=1.0"]["epochs"] == record["epochs"]


def test_the_curve_has_a_row_for_every_epoch_and_agrees_with_the_record(finished: Path) -> None:
    record = load(finished)
    with (finished / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(EpochMetrics)]
    assert [int(row["epoch"]) for row in rows] == list(range(1, record["epochs"] + 1))
    assert float(rows[-1]["train_accuracy"]) == record["train_accuracy"]
    assert float(rows[-1]["train_loss"]) == record["train_loss"]
    last = rows[-1]
    with np.load(finished / "labels.npz") as labels:
        corrupted = int(labels["corrupted"].sum())
    clean = record["n_train"] - corrupted
    right = float(last["clean_accuracy"]) * clean + float(last["corrupted_accuracy"]) * corrupted
    assert right == pytest.approx(record["n_train"] * record["train_accuracy"])


def test_the_best_test_accuracy_is_the_curves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On random labels no epoch is better than another: the best of some lies above the last."""
    words = ["bench", "mnist", "--data", "synthetic", "--max-samples", "300", "--corruption", "random"]
    assert run(*words, "--eval-interval", "2", "--out", str(tmp_path / "o")) == 0
    record = load(tmp_path / "o")
    with (tmp_path / "o" / "metrics.csv").open(newline="") as file:
        seen = {int(row["epoch"]): float(row["test_accuracy"]) for row in csv.DictReader(file) if row["test_accuracy"]}
    best, epoch = record["best_test_accuracy"], record["best_test_epoch"]
    assert best == max(seen.values()) > record["test_accuracy"] == seen[record["epochs"]]
    assert epoch == next(epoch for epoch, accuracy in seen.items() if accuracy == best)
    assert f", at best {percent(best)} after epoch {epoch} (chance" in capfd.readouterr().out


def test_top_5_accuracy_is_measured_where_there_are_more_than_ten_classes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load(finished)["train_top5_accuracy"] is load(finished)["test_top5_accuracy"] is None
    monkeypatch.setitem(synthetic.SHAPES, "mnist", synthetic.Shape(28, 1, 20, 400, 200))
    words = ["bench", "mnist", "--data", "synthetic", "--model", "mlp_1x512", "--epochs", "1"]
    assert run(*words, "--out", str(tmp_path / "o")) == 0
    record = load(tmp_path / "o")
    check_schema(record)
    for which in ("train", "test"):
        assert 0 < record[f"{which}_accuracy"] < record[f"{which}_top5_accuracy"] <= 1
    assert f"(top 5 {percent(record['test_top5_accuracy'])})" in capfd.readouterr().out
    with (tmp_path / "o" / "metrics.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["test_top5_accuracy"]) == record["test_top5_accuracy"]


def test_the_labels_before_and_after_are_kept(finished: Path) -> None:
    record = load(finished)
    with np.load(finished / "labels.npz") as labels:
        kept = {name: labels[name] for name in labels.files}
    assert set(kept) == {"index", "original", "label", "corrupted"}
    assert len(kept["index"]) == record["n_train"] == 300
    changed = kept["original"] != kept["label"]
    assert not (changed & ~kept["corrupted"]).any()
    assert changed.mean() == pytest.approx(record["corruption"]["label_flip_fraction"])


def test_two_runs_agree_but_for_timings_and_another_seed_does_not(finished: Path, tmp_path: Path) -> None:
    assert run(*SMALL, "--out", str(tmp_path / "again")) == 0
    assert run(*SMALL, "--seed", "1", "--epochs", "1", "--out", str(tmp_path / "other")) == 0
    assert without_timings(load(tmp_path / "again")) == without_timings(load(finished))
    assert load(tmp_path / "other")["corruption"]["seed"] == 1
    with np.load(tmp_path / "other" / "labels.npz") as other, np.load(finished / "labels.npz") as labels:
        assert (other["label"] != labels["label"]).any()
        assert (other["original"] == labels["original"]).all()


def test_the_batch_size_changes_no_label(finished: Path, tmp_path: Path) -> None:
    assert run(*SMALL, "--batch-size", "37", "--epochs", "1", "--out", str(tmp_path / "o")) == 0
    with np.load(tmp_path / "o" / "labels.npz") as other, np.load(finished / "labels.npz") as labels:
        for name in labels.files:
            assert (other[name] == labels[name]).all()


def test_json_is_alone_on_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--epochs", "1", "--json", "--out", str(tmp_path / "o")) == 0
    out, err = capfd.readouterr()
    record = json.loads(out)
    check_schema(record)
    assert record == load(tmp_path / "o")
    assert "images/s" in err


@pytest.mark.slow
def test_the_paper_contrast_shows_without_a_download(tmp_path: Path) -> None:
    words = ["bench", "cifar10", "--data", "synthetic", "--model", "mlp_1x512", "--max-samples", "2000"]
    assert run(*words, "--corruption", "true", "--epochs", "8", "--out", str(tmp_path / "true")) == 0
    assert run(*words, "--corruption", "random", "--out", str(tmp_path / "random")) == 0
    true, random = load(tmp_path / "true"), load(tmp_path / "random")
    assert random["memorized"] is True
    assert true["test_accuracy"] > 0.9
    # chance is 0.1 with a standard deviation of sqrt(0.09 / 2000) = 0.0067: six of them to either side
    assert abs(random["test_accuracy"] - 0.1) < 0.04


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["ctrl-c", "sigterm"]
)
def test_an_interrupted_run_leaves_a_valid_record(number: signal.Signals, tmp_path: Path) -> None:
    words = [
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "500",
        "--target-accuracy",
        "1",
        "--lr",
        "1e-9",
        "--epochs",
        "100000",
    ]
    command = [sys.executable, "-m", "rethink_fast.bench", *words, "--out", str(tmp_path / "o")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    curve = tmp_path / "o" / "metrics.csv"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not curve.exists() or len(curve.read_text().splitlines()) < 3):
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert "interrupted" in out
    record = load(tmp_path / "o")
    check_schema(record)
    assert record["interrupted"] is True
    assert record["stop_reason"] == "interrupted"
    assert record["epochs"] >= 2
    assert len(curve.read_text().splitlines()) == record["epochs"] + 1


@pytest.mark.slow
def test_memory_stays_flat_over_epochs(tmp_path: Path) -> None:
    """Without the trimming of the heap most runs of this kind grow by about 85 MB an epoch."""
    peaks = []
    for epochs in (2, 8):
        out = tmp_path / str(epochs)
        words = ["mnist", "--data", "synthetic", "--max-samples", "20000", "--lr", "1e-9", "--epochs", str(epochs)]
        subprocess.run([sys.executable, "-m", "rethink_fast.bench", *words, "--out", str(out)], check=True)
        peaks.append(load(out)["peak_memory_bytes"])
    # an epoch's own holes are 160 MB at most, all the inputs of its evaluation; six epochs would leave 500
    assert peaks[1] - peaks[0] < 200 * 2**20
