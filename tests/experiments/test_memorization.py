"""The experiment on memorization: its populations, how they resume, and findings that other numbers do not pass."""

from __future__ import annotations

import csv
import io
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rethink_fast.data import DataOptions, Dataset, load_dataset
from rethink_fast.errors import Interrupted
from rethink_fast.experiments import memorization, population_run
from rethink_fast.experiments.memorization import LABELS, declare, task
from rethink_fast.experiments.population_run import at_least, memorization_of
from rethink_fast.experiments.runner import reproduce
from rethink_fast.experiments.scales import FULL, LAPTOP
from rethink_fast.experiments.spec import Result, Results, Task
from rethink_fast.experiments.verdicts import judge
from rethink_fast.report import write_report
from rethink_fast.report.plots import picture

OPTIONS: dict[str, Any] = {"label_corruption": 0.5, "images": 60, "models": 20, "learning_rate": 0.04, "seed": 0}
CPU = torch.device("cpu")


def quiet(what: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset("mnist", DataOptions(path="synthetic", size=28, max_samples=200))


@pytest.mark.slow
def test_a_population_is_recorded_as_its_scores_say(mnist: Dataset, tmp_path: Path) -> None:
    record = memorization_of(mnist, quiet, tmp_path, CPU, pytest.fail, **OPTIONS)
    assert (record["n_train"], record["n_test"], record["models"]) == (60, 60, 20)
    assert record["corruption"] == {"kind": "partially_corrupted_labels", "probability": 0.5, "seed": 0}
    rows = list(csv.DictReader((tmp_path / "population" / "scores.csv").read_text().splitlines()))
    scores = np.array([float(row["memorization"]) for row in rows])
    changed = np.array([row["label"] != row["clean_label"] for row in rows])
    population = record["population"]
    assert population["changed_labels"] == changed.sum() > 10
    assert population["gap_identity"]["mean_memorization"] == pytest.approx(scores.mean(), abs=1e-5)
    assert population["highly_memorized"] == (scores > 0.2499).sum() > 0
    for name, which in (("all", changed | True), ("changed", changed), ("unchanged", ~changed)):
        for k in (1, 10, 39):
            assert record["at_least"][name][k] == pytest.approx((scores[which] > k / 40 - 1e-4).mean())
    true = memorization_of(mnist, quiet, tmp_path / "true", CPU, pytest.fail, **{**OPTIONS, "label_corruption": 0.0})
    assert set(true["at_least"]) == {"all", "unchanged"}
    assert true["population"]["auroc_of_changed_labels"] is None
    assert true["population"]["gap_identity"]["test_holds"] is not None


def test_a_difference_of_shares_counts_at_its_own_threshold() -> None:
    values = np.array([14 / 20 - 9 / 20, 0.25])
    assert values[0] < 0.25, "rounding puts it below"
    assert at_least(values)[10:12] == [1.0, 0.0]


def test_an_interrupted_population_resumes_to_the_same_record(
    mnist: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(population_run, "MOST", 8)
    whole = memorization_of(mnist, quiet, tmp_path / "whole", CPU, pytest.fail, **OPTIONS)
    seen: list[int] = []

    def interrupt(what: str, done: int, total: int) -> None:
        assert total == 20
        seen.append(done)
        if done > 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        memorization_of(mnist, interrupt, tmp_path / "torn", CPU, pytest.fail, **OPTIONS)
    assert seen == sorted(seen)
    models = tmp_path / "torn" / "population" / "models"
    assert [path.name for path in models.iterdir()] == ["00000-00007.npz"]
    kept = (models / "00000-00007.npz").stat().st_mtime_ns
    assert memorization_of(mnist, quiet, tmp_path / "torn", CPU, pytest.fail, **OPTIONS) == whole
    assert (models / "00000-00007.npz").stat().st_mtime_ns == kept
    (models / "00008-00015.npz").write_bytes(b"torn")
    said: list[str] = []
    assert memorization_of(mnist, quiet, tmp_path / "torn", CPU, said.append, **OPTIONS) == whole
    assert len(said) == 1
    assert "00008-00015.npz cannot be used" in said[0]


Found = dict[Task, Result | str]


def found(dataset: str, labels: str) -> Result:
    """A population with the pilot's numbers."""
    true, easy = labels == "true labels", dataset == "mnist"
    mean = {(True, True): 0.095, (True, False): 0.70, (False, True): 0.354, (False, False): 0.796}[true, easy]
    gap = {
        **{"mean_memorization": mean, "train_accuracy": 1.0, "held_out_accuracy": 1 - mean - 0.004},
        **{"difference": -0.004, "tolerance": 0.01, "holds": True},
        **{"test_accuracy": 0.9 if easy else 0.3, "test_holds": True if true else None},
    }
    by_memorization, by_aum = (0.971, (0.984, 0.981)) if easy else (0.673, (0.725, 0.714))
    areas: dict[str, tuple[float, float | None]] = {"memorization": (by_memorization, None), "aum": by_aum}
    population = {
        **{"gap_identity": gap, "models_that_reached": 40, "highly_memorized": 250},
        "mean_memorization_changed": None if true else 0.973 if easy else 0.940,
        "mean_memorization_clean": mean if true else 0.190 if easy else 0.755,
        "auroc_of_changed_labels": None
        if true
        else {name: {"population": all_, "one_model": one} for name, (all_, one) in areas.items()},
    }
    curves = {"all": [1 - k / 40 for k in range(41)]}
    curves |= {} if true else {"changed": [1.0] * 41, "unchanged": [0.5] * 41}
    return Result({"n_train": 2_000, "models": 40, "population": population, "at_least": curves})


def pilots() -> Found:
    return {
        task(LAPTOP, dataset, labels): found(dataset, labels) for dataset in memorization.SETTINGS for labels in LABELS
    }


def judged(results: Found, seeds: int = 1) -> dict[str, Any]:
    return judge(declare(LAPTOP), Results(results, seeds), {}, seeds)


def verdicts(results: Found) -> list[str]:
    return [finding["verdict"] for finding in judged(results)["findings"]]


def test_the_pilot_passes_and_other_numbers_do_not() -> None:
    assert set(declare(LAPTOP).tasks) == set(pilots())
    assert verdicts(pilots()) == ["pass"] * 6
    assert verdicts({}) == ["not run"] * 6
    wrong: tuple[tuple[Any, str, tuple[str, ...], Any], ...] = (
        ("mnist", "a fifth random", ("gap_identity", "holds"), False),
        ("cifar10", "true labels", ("gap_identity", "holds"), False),
        ("cifar10", "true labels", ("gap_identity", "test_holds"), False),
        ("mnist", "a fifth random", ("mean_memorization_clean",), 0.5),
        ("mnist", "a fifth random", ("auroc_of_changed_labels", "memorization", "population"), 0.92),
        ("mnist", "a fifth random", ("auroc_of_changed_labels", "aum", "one_model"), 0.94),
    )
    for place, (dataset, labels, path, value) in enumerate(wrong):
        results = deepcopy(pilots())
        inner = results[task(LAPTOP, dataset, labels)].record["population"]  # type: ignore[union-attr]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        assert [number for number, verdict in enumerate(verdicts(results)) if verdict == "fail"] == [place]
    results = deepcopy(pilots())
    results[task(LAPTOP, "mnist", "true labels")].record["population"]["gap_identity"]["test_holds"] = None  # type: ignore[union-attr]
    assert verdicts(results)[2] == "fail", "without test images nothing is compared"


def test_the_tables_and_the_picture_show_what_has_run() -> None:
    gaps, scores = judged(pilots())["summaries"]
    assert gaps["rows"][1] == [
        *("MNIST", "a fifth random", "2,000", "40", "40", "100.00 %", "64.20 %", "90.00 %"),
        *("0.354", "-0.0040", "0.0100", "250", "0.973", "0.190"),
    ]
    assert gaps["rows"][2][-2:] == ["-", "0.700"]
    assert scores["header"] == ["score", "MNIST, all models", "MNIST, one", "CIFAR-10, all models", "CIFAR-10, one"]
    assert scores["rows"] == [["memorization", "0.971", "-", "0.673", "-"], ["AUM", "0.984", "0.981", "0.725", "0.714"]]
    only = {of: result for of, result in pilots().items() if of.dataset == "mnist"}
    gaps, scores = judged(only)["summaries"]
    assert [row[0] for row in gaps["rows"]] == ["MNIST", "MNIST"]
    assert scores["header"] == ["score", "MNIST, all models", "MNIST, one"]
    assert verdicts(only) == ["pass", "not run", "not run", "pass", "pass", "pass"]
    (plot,) = judged(only)["plots"]
    assert [series["label"] for series in plot["ours"]] == list(memorization.CURVES)[:3]
    first = plot["ours"][0]
    assert (first["x"][10], first["y"][10], first["mark"][:2]) == (0.25, 75.0, (0.25, 75.0))
    legend = [text.get_text() for text in picture(plot).legends[0].get_texts()]
    assert legend == list(memorization.CURVES)[:3], "the paper has no curve here"
    none = judged({})
    assert [summary["rows"] for summary in none["summaries"]] == [[], []]
    assert none["plots"][0]["ours"] == []


def test_the_full_scale_is_what_it_says() -> None:
    options = [dict(each.options) for each in declare(FULL).tasks if each.dataset == "mnist"]  # type: ignore[union-attr]
    assert [(each["images"], each["models"]) for each in options] == [(None, 2_000)] * 2


@pytest.mark.slow
def test_reproduce_memorization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorization, "SETTINGS", {"mnist": (60, 0.04), "cifar10": (50, 0.04)})
    monkeypatch.setattr(memorization, "MODELS", 24)
    options: dict[str, Any] = {"paths": {"mnist": "synthetic", "cifar10": "synthetic"}, "device": "cpu"}
    console = Console(file=io.StringIO(), width=200)
    assert reproduce(["memorization"], LAPTOP, tmp_path, console, **options) in (0, 1)
    results = sorted(tmp_path.glob("runs/*/result.json"))
    assert len(results) == 4
    assert len(list(tmp_path.glob("runs/*/population/contact-sheet.png"))) == 4
    times = [path.stat().st_mtime_ns for path in results]
    reproduce(["memorization"], LAPTOP, tmp_path, console, **options)
    assert [path.stat().st_mtime_ns for path in results] == times, "nothing is trained twice"
    values = json.loads((tmp_path / "reproduction.json").read_text())
    assert all("at_least" not in run["record"] for run in values["runs"].values())
    findings = values["experiments"]["memorization"]["findings"]
    assert [finding["verdict"] for finding in findings[:3]] == ["pass"] * 3
    write_report(tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "Memorization and the gap" in report
    assert (tmp_path / "memorizationa.svg").exists()
