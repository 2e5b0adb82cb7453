"""`rethink-fast memorize`: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rethink_fast import Corruption, Data, Model, Run, Train
from rethink_fast.bench.run import open_data
from rethink_fast.memorize import memorize
from rethink_fast.memorize.folder import groups_in
from rethink_fast.memorize.plan import missing
from rethink_fast.memorize.view import Progress
from tests.bench.helpers import cli, refused

DATA = ("mnist", "--data", "synthetic", "--max-samples", "60", "--device", "cpu", "--batch-size", "30", "--epochs", "2")
SMALL = (*DATA, "--ratio", "0.5")
SINGLE = (*SMALL, "--optimizer", "adam")
"""Models that train one after another, a file each: enough of them at seed 0 for 60 samples are MODELS."""
MODELS = "12"
HALF = ("--ratio", "0.5")
KEPT = ("scores.csv", "predictions.npz", "influence.npz", "contact-sheet.png")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEPT}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memorize") / "unbroken"
    assert cli("memorize", *SINGLE, "--models", MODELS, "--out", folder) == 0
    return folder


def test_everything_is_written_and_agrees(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ["--data", str(shared_data / "mnist"), "--max-samples", "150", "--models", "14", "--ratio", "0.5"]
    options += ["--corruption", "partial", "--probability", "0.2", "--lr", "0.02", "--device", "cpu", "--json"]
    assert cli("memorize", "mnist", *options, "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    values = json.loads((tmp_path / "out" / "memorize.json").read_text())
    assert json.loads(captured.out) == values
    assert "within the tolerance" in captured.err
    assert "side by side" in captured.err
    result = values["result"]
    assert f"memorization: {result['mean_standard_error']:.2f} on average, from at least" in captured.err
    assert result["gap_identity"]["holds"]
    assert result["gap_identity"]["test_holds"] is None, "labels are changed"
    assert result["models_that_reached"] == values["models"] == 14
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == sorted(int(row["index"]) for row in rows)
    memorization = [float(row["memorization"]) for row in rows]
    assert np.mean(memorization) == pytest.approx(result["gap_identity"]["mean_memorization"], abs=1e-5)
    changed = [row["label"] != row["clean_label"] for row in rows]
    assert sum(changed) == result["changed_labels"] > 15
    assert all(row["corrupted"] == "1" for row, is_changed in zip(rows, changed, strict=True) if is_changed)
    assert {int(row["in_count"]) + int(row["out_count"]) for row in rows} == {14}
    table = result["auroc_of_changed_labels"]
    assert table["aum"]["population"] > 0.75
    assert table["memorization"]["one_model"] is None
    with np.load(tmp_path / "out" / "predictions.npz") as found:
        assert found["pred_probs"].shape == (150, 10)
        assert found["pred_probs"].sum(1) == pytest.approx(1, abs=1e-5)
        assert found["labels"].tolist() == [int(row["label"]) for row in rows]
        assert found["index"].tolist() == [int(row["index"]) for row in rows]
    with np.load(tmp_path / "out" / "influence.npz") as found:
        assert found["train_index"].shape == found["influence"].shape == (150, 100)
        assert (np.diff(found["influence"], axis=1) <= 0).all()
        assert set(found["train_index"].flat) <= {int(row["index"]) for row in rows}
    timings = values["timings"]
    assert timings["images_per_second"] == pytest.approx(timings["images"] / timings["seconds"])
    assert (tmp_path / "out" / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_and_given_again_is_unbroken(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By SIGINT in the fifth model; then one of the files that are there is cut short."""
    out, began = tmp_path / "out", Progress.begin

    def interrupt(self: Progress, group: range) -> None:
        began(self, group)
        if group.start == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "begin", interrupt)
    assert cli("memorize", *SINGLE, "--models", MODELS, "--out", out) == 130
    assert "the same command goes on from there" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(Progress, "begin", began)
    assert groups_in(out) == [range(k, k + 1) for k in range(4)]
    assert not (out / "memorize.json").exists()
    torn = out / "models" / "00002-00002.npz"
    torn.write_bytes(torn.read_bytes()[:-100])
    assert cli("memorize", *SINGLE, "--models", MODELS, "--out", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "00002-00002.npz cannot be used" in printed
    assert "3 of them are there already" in printed
    assert contents(out) == contents(unbroken)


@pytest.mark.slow
def test_killed_and_given_again_is_unbroken(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("memorize", *SINGLE, "--models", MODELS, "--out", str(out))
    process = subprocess.Popen([sys.executable, "-m", "rethink_fast", *words], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (out / "models").is_dir() or len(groups_in(out)) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (out / "memorize.json").exists()
    assert cli(*words) == 0
    assert contents(out) == contents(unbroken)


def test_more_models_add_to_those_there(unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli("memorize", *SINGLE, "--models", "10", "--out", out) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (out / "models").iterdir()}
    assert cli("memorize", *SINGLE, "--models", MODELS, "--out", out) == 0
    assert contents(out) == contents(unbroken)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in (out / "models").iterdir()}.items()
    line = refused(capfd, "memorize", *SINGLE, "--models", "11", "--out", out)
    assert "holds models up to 11 already" in line
    assert "give --models 12 or more" in line


def test_groups_are_the_same_when_the_command_is_given_again() -> None:
    assert missing([], 10, 4) == [range(4), range(4, 8), range(8, 10)]
    assert missing([range(4)], 10, 4) == [range(4, 8), range(8, 10)]
    assert missing([range(4, 8)], 10, 4) == [range(4), range(8, 10)]
    assert missing([range(6)], 10, 4) == [range(6, 8), range(8, 10)]
    assert missing([range(6), range(8, 10)], 10, 4) == [range(6, 8)]
    assert missing([range(10)], 10, 4) == []


@pytest.mark.slow
def test_two_ranks_share_the_models(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "rethink_fast", "memorize", *SINGLE, "--models", MODELS, "--out", str(out)]
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean memorization") == 1
    assert contents(out) == contents(unbroken)


@pytest.mark.slow
def test_models_side_by_side_by_two_ranks_are_the_same_models(tmp_path: Path) -> None:
    """Each half of the models is a group: as by one process, up to rounding."""
    words = (*SMALL, "--models", MODELS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "rethink_fast", "memorize", *words, "--out", str(tmp_path / "two")]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert cli("memorize", *words, "--out", tmp_path / "one") == 0
    assert groups_in(tmp_path / "two") == [range(6), range(6, 12)]
    assert groups_in(tmp_path / "one") == [range(12)]
    ours, theirs = (
        list(csv.DictReader((tmp_path / name / "scores.csv").read_text().splitlines())) for name in ("one", "two")
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["in_count"] == other["in_count"]
        assert float(mine["aum"]) == pytest.approx(float(other["aum"]), abs=1e-3)


RUN = Run("mnist", Data("synthetic", max_samples=60), Corruption("random"), Model(), Train(epochs=2, device="cpu"))


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the whole influence; without a test set there is none."""
    found = memorize(RUN, models=12, ratio=0.5, influence="all", out=tmp_path / "out")
    assert found.scores.memorization.shape == (60,)
    assert found.values["models"] == 12
    with np.load(tmp_path / "out" / "influence.npz") as kept:
        assert kept["influence"].shape == (60, 60)
        assert kept["train_index"].tolist() == found.scores.index.tolist()

    def without_test(*args: Any, **kwargs: Any) -> Any:
        return replace(open_data(*args, **kwargs), test=None)

    monkeypatch.setattr("rethink_fast.memorize.run.open_data", without_test)
    monkeypatch.chdir(tmp_path)
    alone = memorize(RUN, models=12, ratio=0.5)
    assert alone.folder.parent == Path("memorized")
    assert alone.values["result"]["gap_identity"]["test_accuracy"] is None
    assert not (alone.folder / "influence.npz").exists()


def test_networks_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One after another, whatever its name begins with; models of another version of its file are not added to."""
    source = """from torch import nn


def net(num_classes, channels, size):
    inputs = channels * size[0] * size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 9), nn.BatchNorm1d(9), nn.Linear(9, num_classes))
"""
    (tmp_path / "mlp_mine.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = (*SMALL, "--model", "mlp_mine:net", "--models", MODELS, "--lr", "0.01")
    assert cli("memorize", *words) == 0
    assert "one after another" in capfd.readouterr().out
    (folder,) = Path("memorized").iterdir()
    assert folder.name.startswith("mnist-mlp_mine-net-")
    (tmp_path / "mlp_mine.py").write_text(source + "# another\n")
    assert "model source" in refused(capfd, "memorize", *words, "--out", folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ratio", "0"), "--ratio 0.0 is out of range: choose one between 0 and 1"),
        (("--ratio", "1"), "--ratio 1.0 is out of range"),
        (("--ratio", "nan"), "--ratio nan is out of range"),
        (("--ratio", "-0.5"), "--ratio -0.5 is out of range"),
        (("--models", "1"), "--models 1 is out of range"),
        (
            ("--models", "3", *HALF),
            "--models 3 are too few for one with and one without each of 60 samples: give at least 7",
        ),
        (
            ("--models", "12", "--ratio", "0.99999"),
            "too few for one with and one without each of 60 samples: 10,000 would be too",
        ),
        (("--models", "12", "--eval-interval", "2", *HALF), "--eval-interval 2 has no effect here"),
        (("--models", "12", "--compile", "on", *HALF), "--compile on has no effect here"),
        (("--models", "12", "--lr", "1e6", *HALF), "are not finite in epoch"),
        (("--models", "12", "--corruption", "partial", *HALF), "needs a probability"),
    ],
)
def test_bad_input(words: tuple[str, ...], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capfd, "memorize", *DATA, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out" / "memorize.json").exists()


def test_a_set_that_streams_is_refused(shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nvidia.dali")
    words = ("imagenet", "--data", shared_data / "imagenet-sample", "--cache-images", "none", "--device", "cpu")
    line = refused(capfd, "memorize", *words, "--out", tmp_path / "out")
    assert "stream" in line
    assert "--cache-images device" in line


def test_files_that_cannot_be_used_are_trained_again(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No array file; one of a sample less; and models that are in another file as well, which would count twice."""
    out = Path(shutil.copytree(unbroken, tmp_path / "out"))
    models = out / "models"
    (models / "00003-00003.npz").write_bytes(b"nothing")
    with np.load(models / "00005-00005.npz") as found:
        cut = {name: found[name][:-1] if name == "label_in" else found[name] for name in found.files}
    np.savez(models / "00005-00005.npz", **cut)
    shutil.copy(models / "00007-00007.npz", models / "00006-00007.npz")
    assert cli("memorize", *SINGLE, "--models", MODELS, "--out", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "00003-00003.npz cannot be used (it is not whole)",
        "00005-00005.npz cannot be used (label_in has the shape (59,), not (60,))",
        "00006-00007.npz cannot be used (model 6 is in the file before it)",
    ):
        assert words in printed
    assert contents(out) == contents(unbroken)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("settings.json", "[1]", "where an object is expected"),
        ("settings.json", '{"schema": 1', "is not whole JSON"),
        ("settings.json", '{"schema": 1}', "holds models of other settings"),
        ("models", "", "cannot be written (File exists)"),
    ],
)
def test_spoilt_folders_are_refused(
    name: str, content: str, said: str, unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(unbroken, tmp_path / "out"))
    if name == "models":
        shutil.rmtree(out / "models")
    (out / name).write_text(content)
    assert said in refused(capfd, "memorize", *SINGLE, "--models", MODELS, "--out", out)


def test_folders_of_others_are_refused(unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = refused(capfd, "memorize", *SINGLE, "--models", MODELS, "--lr", "0.02", "--out", unbroken)
    assert "holds models of other settings (lr 0.01 there, 0.02 here)" in line
    line = refused(capfd, "memorize", *SINGLE, "--models", MODELS, "--seed", "1", "--out", unbroken)
    assert "seed 0 there, 1 here" in line
    (tmp_path / "notes.txt").write_text("mine")
    line = refused(capfd, "memorize", *SINGLE, "--models", MODELS, "--out", tmp_path)
    assert "is not a population's folder, for it holds notes.txt" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
