"""`rethink-fast measure` on real runs: what it writes, what it says beside another run, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import rethink_fast
from rethink_fast import Model, Run, Session, Train, UserError
from rethink_fast.cli.app import main
from rethink_fast.measures import measure_run, open_run
from rethink_fast.measures.against import ReportPair, _beside, compare_reports
from rethink_fast.measures.measurement import Measurement
from rethink_fast.measures.view import cells, remarks, section

PASSES = (
    *("gap", "vc_dimension", "spectral_complexity", "golowich", "neyshabur", "pac_bayes", "sharpness"),
    *("ntk_complexity", "speed", "coherence"),
)
OPTIONS = ("--data", "synthetic", "--lr", "0.02", "--device", "cpu")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def trained(folder: Path, *options: str, dataset: str = "mnist", limit: int = 300) -> Path:
    assert call("bench", dataset, *OPTIONS, "--max-samples", str(limit), *options, "--out", str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with true labels and one with random ones."""
    folder = tmp_path_factory.mktemp("runs")
    return trained(folder / "true", "--target-loss", "0.05"), trained(
        folder / "random", "--corruption", "random", "--target-loss", "0.05"
    )


@pytest.fixture
def run(runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first, to be spoilt."""
    return Path(shutil.copytree(runs[0], tmp_path / "run"))


def test_every_measure_is_written_with_its_parts(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert call("measure", str(run), "--json") == 0
    out, err = capsys.readouterr()
    values = json.loads((run / "measures.json").read_text())
    assert json.loads(out) == values
    assert tuple(values["measures"]) == PASSES
    assert values["not_measured"] == {}
    for each in values["measures"].values():
        assert each["reference"]
        assert each["meaning"]
        assert each["bounds"]
        assert each["seconds"] >= 0
        assert each["verdict"] in (None, "vacuous", "says something")
    gap, record = values["measures"]["gap"], json.loads((run / "result.json").read_text())
    assert gap["value"] == pytest.approx(record["train_accuracy"] - record["test_accuracy"])
    assert values["weights"] == json.loads((run / "model.json").read_text())["sha256"]
    assert "Andriushchenko et al. 2023" in err
    assert "biases are omitted" in err


def test_beside_random_labels_a_correlate_tracks_and_counting_does_not(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert call("measure", str(run), "--against", str(runs[1])) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "80 columns are too few for bounds, seconds, reference: they are in measures.json" in out
    assert "…" not in out, "nothing that is shown is cut"
    values = json.loads((run / "measures.json").read_text())
    beside = values["against"]["measures"]
    assert beside["gap"]["moves"] is None
    assert beside["gap"]["value"] > values["measures"]["gap"]["value"] + 0.3
    assert beside["vc_dimension"]["moves"] == "not at all"
    assert values["measures"]["vc_dimension"]["verdict"] == "vacuous"
    for name in ("neyshabur", "speed", "ntk_complexity", "coherence"):
        assert beside[name]["moves"] == "with the gap"
        assert values["measures"][name]["verdict"] == "tracks"
    assert beside["coherence"]["ratio"] < 1 < beside["speed"]["ratio"]
    assert values["against"]["other_differences"] == []
    assert not (runs[1] / "measures.json").exists()


def measurement(value: float | None, error: float | None, note: str = "") -> dict[str, Any]:
    values = {"value": value, "error": error, "bound": None, "verdict": None, "bounds": "a gap", "seconds": 0.5}
    return {**values, "note": note, "reference": "A. Author 2020"}


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-0.0143, 0.0168, "-0.014 ± 0.017"),
        (0.008734, 0.00021, "0.00873 ± 0.00021"),
        (0.303, 0.0663, "0.303 ± 0.066"),
        (12345.6, 9.96, "12345.6 ± 10.0"),
        (12345.6, 234.0, "12346 ± 234"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, 1e-300, "0.5 ± 1e-300"),
        (0.5, None, "0.5"),
        (None, 0.1, "-"),
    ],
)
def test_a_value_and_its_error_end_at_the_same_place(value: float | None, error: float | None, shown: str) -> None:
    _, rows = cells({"measures": {"gap": measurement(value, error)}})
    assert rows[0][1] == shown


def test_a_note_of_several_measures_is_one_line() -> None:
    measures = {name: measurement(1, None, "biases are omitted") for name in ("golowich", "neyshabur", "speed")}
    measures["speed"]["note"] = "one epoch"
    values = {"measures": measures, "subsampled": {}, "not_measured": {}}
    assert remarks(values) == ["Frobenius norms, distance from start: biases are omitted", "speed: one epoch"]
    measures["speed"]["error"] = 0.1
    assert remarks(values)[0] == "±: one standard error, unless a note says otherwise"


@pytest.mark.parametrize(
    ("ours", "other", "ratio"), [(0.2, -0.01, None), (0.2, 0.0, None), (0.0, 0.2, None), (2, 3, 1.5)]
)
def test_a_ratio_needs_one_sign(ours: float, other: float, ratio: float | None) -> None:
    one, two = (Measurement("speed", value, "", "correlate", "") for value in (ours, other))
    assert _beside(one, two, 1).ratio == ratio


@pytest.mark.slow
def test_what_else_differs_between_two_runs_is_said(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = trained(tmp_path / "other", "--target-loss", "0.05", "--batch-size", "64")
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    assert call("measure", str(run), "--against", str(other)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "differ in more than their labels: batch size 128 there, 64 here" in out
    assert "alike within their errors" in out
    beside = json.loads((run / "measures.json").read_text())["against"]["measures"]
    assert {each["moves"] for each in beside.values()} == {None}


def quiet(what: str, done: int, total: int) -> None: ...


def test_the_section_of_a_report_has_every_measure(runs: tuple[Path, Path]) -> None:
    reports = [measure_run(open_run(folder), quiet) for folder in runs]
    both = compare_reports(*reports)
    assert isinstance(both, ReportPair)
    for found, columns in ((reports[0], 7), (both, 10)):
        lines = section(found.as_dict())
        assert lines[0] == "## What generalization is made of, measured"
        rows = [line for line in lines if line.startswith("|")]
        assert len(rows) == 2 + len(PASSES)
        assert {row.count(" | ") + 1 for row in rows} == {columns}


@pytest.mark.slow
def test_a_network_with_branches_says_which_measures_remain(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "--model", "inception_small", "--epochs", "1", dataset="cifar10", limit=8)
    found = measure_run(open_run(run), quiet)
    assert set(found.not_measured) == {"spectral_complexity", "golowich", "neyshabur"}
    assert all("this network has branches" in why for why in found.not_measured.values())
    assert {"gap", "vc_dimension", "pac_bayes", "sharpness", "ntk_complexity", "coherence"} <= set(found.measures)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def relabel(run: Path) -> None:
    with np.load(run / "labels.npz") as file:
        values = dict(file)
    values["original"] = np.roll(values["original"], 1)
    np.savez(run / "labels.npz", **values)


def older(run: Path) -> None:
    edit(run / "model.json", lambda values: values.update(contract_version=0))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda run: (run / "model.json").unlink(), "holds no model.json"),
    "another contract": (older, "is of contract version 0, not 1"),
    "interrupted": (
        lambda run: edit(run / "result.json", lambda values: values.update(interrupted=True)),
        "has not ended: go on with it by --resume",
    ),
    "other labels": (relabel, "was trained on other samples or labels"),
    "no labels": (lambda run: (run / "labels.npz").unlink(), "labels.npz cannot be read"),
    "labels that are none": (lambda run: (run / "labels.npz").write_bytes(b"no"), "labels.npz cannot be read"),
    "another network's accuracy": (
        lambda run: edit(run / "result.json", lambda values: values.update(train_accuracy=0.5)),
        "the images are not those it was trained on",
    ),
    "a config of another version": (
        lambda run: edit(run / "config.json", lambda values: values["train"].pop("momentum")),
        "config.json lacks momentum",
    ),
    "no curve": (lambda run: (run / "metrics.csv").unlink(), "metrics.csv cannot be read"),
    "a curve with a short row": (
        lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1,2\n3\n"),
        "metrics.csv cannot be read (row 2 has 1 of 2 cells)",
    ),
    "a config of another network": (
        lambda run: edit(run / "config.json", lambda values: values["model"].update(model="mlp_3x512")),
        "config.json has another network than",
    ),
    "a data set that is gone": (
        lambda run: edit(run / "config.json", lambda values: values["data"].update(data="/nowhere")),
        "/nowhere",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_measured_is_one_line(case: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, why = SPOILT[case]
    spoil(run)
    capsys.readouterr()
    assert call("measure", str(run)) == 2
    err = capsys.readouterr().err
    assert why in err
    assert err.count("\n") == 1
    assert not (run / "measures.json").exists()


def test_a_run_without_a_test_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        folder = tmp_path / "images" / "train" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * number, 0, 0)).save(folder / f"{number}.jpg")
    options = ("--data", str(tmp_path / "images"), "--size", "32", "--model", "mlp_1x512", "--epochs", "1")
    assert call("bench", "imagenet", *options, "--device", "cpu", "--out", str(tmp_path / "run")) == 0
    capsys.readouterr()
    assert call("measure", str(tmp_path / "run")) == 2
    assert "is a run without a test set" in capsys.readouterr().err


def test_a_run_beside_itself_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("measure", str(run), "--against", f"{run}/../{run.name}") == 2
    assert "is the run itself" in capsys.readouterr().err


def test_both_runs_are_opened_before_one_is_measured(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethink_fast.measures.suite.measure_run", lambda *_: pytest.fail("minutes for nothing"))
    assert call("measure", str(run), "--against", str(run / "none")) == 2
    assert "none holds no model.json" in capsys.readouterr().err


def test_a_curve_without_an_epoch_has_no_speed(run: Path) -> None:
    header = (run / "metrics.csv").read_text().splitlines()[0]
    (run / "metrics.csv").write_text(header + "\n")
    assert call("measure", str(run)) == 0
    values = json.loads((run / "measures.json").read_text())
    assert "speed" not in values["measures"]
    assert values["not_measured"]["speed"] == "it needs the loss of an epoch, and none was trained"


def test_the_first_weights_are_those_the_run_began_with(runs: tuple[Path, Path]) -> None:
    """Both runs have one seed, hence the same first weights, and their networks do not."""
    true, random = (open_run(folder) for folder in runs)
    pairs = zip(true.initial.parameters(), random.initial.parameters(), strict=True)
    assert all(bool((a == b).all()) for a, b in pairs)
    moved = zip(true.initial.parameters(), true.model.parameters(), strict=True)
    assert 0 < max((a - b).abs().max().item() for a, b in moved) < 1


def test_a_run_on_data_of_your_own_is_measured_with_the_data_given_again(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (90, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(90) % 3
    train, test = TensorDataset(images[:60], labels[:60]), TensorDataset(images[60:], labels[60:])
    what = Run("own", model=Model("mlp_1x512"), train=Train(epochs=8, batch_size=20, lr=0.02, device="cpu"))
    record = rethink_fast.run(what, data=train, test=test, session=Session(tmp_path / "o"))
    opened = open_run(record.folder, data=train, test=test)
    assert opened.test_sample(30)[1].tolist() == labels[60:].tolist()
    report = measure_run(opened)
    assert report.measures["gap"].value == pytest.approx(record["train_accuracy"] - record["test_accuracy"])
    assert report.measures["vc_dimension"].bound is not None
    with pytest.raises(UserError, match="give it in Python by"):
        open_run(record.folder)
    with pytest.raises(UserError, match="other samples or labels"):
        open_run(record.folder, data=TensorDataset(images[:60], labels[:60].flip(0)), test=test)
