"""The network that each kind of run leaves: continued, killed, of several seeds, on several ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rethink_fast.cli.app import main
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.errors import UserError
from rethink_fast.train.weights import MODEL, WEIGHTS, load_model

BENCH = [
    "mnist",
    "--data",
    "synthetic",
    "--corruption",
    "random",
    "--max-samples",
    "60",
    "--batch-size",
    "20",
    "--workers",
    "1",
]


def accuracy_of(folder: Path) -> float:
    """The accuracy of the network in a run's folder on what labels.npz says, from the files alone."""
    labels = np.load(folder / "labels.npz")
    dataset = load_dataset("mnist", DataOptions("synthetic", max_samples=60, workers=1))
    assert dataset.train.index.tolist() == labels["index"].tolist()
    model = load_model(folder)
    ((images, rows),) = dataset.train.images.read([dataset.train.index])
    found = model(model.preprocess(images[rows], dataset.train.index)).argmax(1)  # type: ignore[operator]
    return float((found.numpy() == labels["label"]).mean())


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *BENCH, *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def record(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def test_a_memorized_run_leaves_its_network(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert run("--out", str(folder), "--lr", "1e-3", "--optimizer", "adam") == 0
    assert record(folder)["memorized"]
    assert accuracy_of(folder) == 1.0


def test_a_run_continued_with_more_epochs_leaves_its_last_network(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    for words in (("--epochs", "1", "--out"), ("--epochs", "3", "--resume")):
        assert run(*words, str(folder)) == 0
        assert record(folder)["stop_reason"] == "max_epochs"
        assert accuracy_of(folder) == record(folder)["train_accuracy"]
    assert record(folder)["epochs"] == 3


ENDED = {
    "reached": (
        ("--target-accuracy", "0", "--epochs", "3"),
        "it reached its goal after 1 epochs: to run it again",
    ),
    "used up": (("--epochs", "2"), "its epochs are used up after 2 epochs: give more by --epochs"),
    "diverged": (("--lr", "1e6", "--momentum", "0.99", "--epochs", "30"), "its loss was not finite after"),
}


@pytest.mark.parametrize("end", ENDED)
def test_a_run_that_has_ended_is_not_resumed(end: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words, said = ENDED[end]
    folder = tmp_path / "o"
    code = run(*words, "--checkpoint-interval", "0", "--out", str(folder))
    assert code == (2 if end == "diverged" else 0)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    capfd.readouterr()
    assert run(*words, "--resume", str(folder)) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert said in line
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert (MODEL in before) == (end != "diverged")


def test_seeds_go_on_with_more_epochs(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    for words in (("--epochs", "1", "--out"), ("--epochs", "2", "--resume")):
        assert run("--seeds", "2", *words, str(folder)) == 0
    assert [one["epochs"] for one in record(folder)["runs"]] == [2, 2]
    assert accuracy_of(folder / "seed-1") == record(folder)["runs"][1]["train_accuracy"]


def test_a_run_killed_between_its_last_checkpoint_and_its_record_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert run("--epochs", "2", "--out", str(folder)) == 0
    whole = record(folder)
    (folder / "result.json").write_text(json.dumps({**whole, "interrupted": True, "stop_reason": "interrupted"}))
    (folder / WEIGHTS).unlink()
    (folder / MODEL).unlink()
    assert run("--epochs", "2", "--resume", str(folder)) == 0
    assert record(folder)["train_loss"] == whole["train_loss"]
    assert record(folder)["stop_reason"] == "max_epochs"
    assert accuracy_of(folder) == whole["train_accuracy"]


def test_every_seed_leaves_its_network(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert run("--epochs", "2", "--seeds", "2", "--out", str(folder)) == 0
    found = [accuracy_of(folder / f"seed-{seed}") for seed in (0, 1)]
    assert found == [one["train_accuracy"] for one in record(folder)["runs"]]
    with pytest.raises(UserError, match=r"or of one of its seeds"):
        load_model(folder)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--epochs", "2")])
def test_a_run_on_two_ranks_leaves_one_plain_network(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "o"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "rethink_fast.bench", *BENCH, *words, "--device", "cpu", "--out", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert record(folder)["world_size"] == 2
    assert accuracy_of(folder) == record(folder)["train_accuracy"]
