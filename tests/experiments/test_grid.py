"""The experiments on measures: their runs, their statistics and their findings, which other numbers do not pass."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rethink_fast.cli.app import main
from rethink_fast.data import DataOptions, Dataset, load_dataset
from rethink_fast.errors import Interrupted, UserError
from rethink_fast.experiments import grid, grid_run, stability
from rethink_fast.experiments.grid_run import stability_of, train_and_measure
from rethink_fast.experiments.runner import reproduce
from rethink_fast.experiments.scales import LAPTOP
from rethink_fast.experiments.spec import Result, Results, Task, TheoryTask
from rethink_fast.experiments.verdicts import judge
from rethink_fast.measures.run_table import read_run_table
from rethink_fast.report import write_report

PILOT = Path(__file__).parents[1] / "measures" / "pilot_grid.csv"
COLUMNS = {
    "parameters": "params",
    "weight_norm": "L2",
    "distance_from_start": "dist_init",
    "path_norm": "path",
    "inverse_margin": "inv_margin",
    "flatness": "pacbayes_flat",
    "pac_bayes": "pacbayes_init",
    "ntk_complexity": "ntk_complexity",
    "speed": "TSE(sum of epoch losses)",
    "epochs_to_fit": "epochs_to_fit",
}
"""Ours, and the pilot's."""


def quiet(what: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset("mnist", DataOptions(path="synthetic", size=28, max_samples=200))


def trained(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    options = {"label_corruption": 1.0, "width": 16, "images": 60, "learning_rate": 0.04, "seed": 0, **changes}
    return train_and_measure(dataset, quiet, **options)


def test_a_run_of_the_grid_fits_and_is_measured(mnist: Dataset) -> None:
    record = trained(mnist)
    assert record["train_accuracy"] >= 0.99
    assert record["model"] == "mlp_1x16"
    assert record["corruption"] == {"kind": "random_labels", "probability": 1.0, "seed": 0}
    assert (record["n_train"], record["n_test"]) == (60, 200)
    assert record["columns"]["parameters"] == 28 * 28 * 16 + 16 + 16 * 10 + 10
    assert record["columns"]["epochs_to_fit"] == record["epochs"] > 1
    assert record["measures"]["gap"]["value"] == record["train_accuracy"] - record["test_accuracy"]
    assert all(value > 0 for value in record["columns"].values())
    assert trained(mnist)["columns"] == record["columns"], "a run is a function of its settings"
    half = trained(mnist, label_corruption=0.5, width=32, seed=1)
    assert half["corruption"] == {"kind": "partially_corrupted_labels", "probability": 0.5, "seed": 1}
    assert half["columns"]["parameters"] == 28 * 28 * 32 + 32 + 32 * 10 + 10


def test_a_run_that_does_not_fit_is_refused_and_an_interrupted_one_stops(
    mnist: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_and_measure(mnist, interrupt, label_corruption=1.0, width=8, images=60, learning_rate=0.01, seed=0)
    monkeypatch.setattr(grid_run, "EPOCHS", 2)
    with pytest.raises(UserError, match=r"not down to 0\.05 after 2 epochs"):
        trained(mnist)
    with pytest.raises(UserError, match="no test images"):
        trained(replace(mnist, test=None))


def test_pairs_share_everything_but_one_label(mnist: Dataset) -> None:
    record = stability_of(mnist, quiet, label_corruption=0.0, images=60, learning_rate=0.04, pairs=2, epochs=12, seed=0)
    assert [each["distance"] for each in record["self_pair"]] == [0.0] * 12
    assert [len(pair) for pair in record["pairs"]] == [12, 12]
    for pair in record["pairs"]:
        assert 0 < pair[0]["distance"] < pair[-1]["distance"]
        assert pair[-1]["point"] == 1.0
        assert pair[-1]["error"] == 1.0


Found = dict[Task, Result | str]


def pilots() -> Found:
    """The pilot's grid as results of ours, with what it says of bounds and of CIFAR-10."""
    found: Found = {}

    def result(columns: dict[str, float], train: float, test: float, random: bool) -> Result:
        bounds = {name: {"bound": 10.0} for name in ("vc_dimension", "golowich")}
        measures = {
            **bounds,
            "spectral_complexity": {
                "bound": 10.0,
                "details": {"normalised_margin_median": 0.0080 if random else 0.0567},
            },
            "pac_bayes": {"details": {"sigma": 0.0181 if random else 0.0444}},
        }
        record = {"train_accuracy": train, "test_accuracy": test, "n_test": 2000, "corruption": {"seed": 0}}
        return Result({**record, "columns": columns, "measures": measures})

    for row in csv.DictReader(PILOT.read_text().splitlines()):
        axes = float(row["noise"]), int(row["h"]), int(row["n"]), float(row["lr"])
        columns = {ours: float(row[theirs]) for ours, theirs in COLUMNS.items()}
        found[grid.task("mnist", *axes)] = result(columns, float(row["train"]), float(row["test"]), axes[0] == 1)
    for of, size in zip(grid.pair(LAPTOP, "cifar10"), (9.8, 10.6), strict=True):
        found[of] = result({"neyshabur_2019": size, "distance_from_start": size, "pac_bayes": size}, 1.0, 0.3, False)
    return found


def verdicts(results: Found, experiment: Any = grid) -> list[str]:
    judged = judge(experiment.declare(LAPTOP), Results(results, 1), {}, 1)
    return [finding["verdict"] for finding in judged["findings"]]


def test_the_pilot_passes() -> None:
    assert set(grid.tasks(LAPTOP)) <= set(pilots())
    assert verdicts(pilots()) == ["pass"] * 8
    assert verdicts({}) == ["not run"] * 8
    summary = judge(grid.declare(LAPTOP), Results(pilots(), 1), {}, 1)["summaries"][0]
    assert summary["header"][:4] == ["measure", "tau", "Psi", "psi label corruption"]
    assert summary["rows"][0][:4] == ["pac bayes", "0.83", "0.47", "1.00"]
    assert summary["rows"][0][-1] == "images 500 and 1000, with label corruption 0.5, width 512, learning rate 0.01"


def changed(name: str, value: Any) -> list[str]:
    """Verdicts where a column of every run is another function of (label corruption, column before)."""
    results = pilots()
    for task in grid.tasks(LAPTOP):
        columns = results[task].record["columns"]  # type: ignore[union-attr]
        columns[name] = value(dict(task.options)["label_corruption"], columns[name])
    return verdicts(results)


def test_other_numbers_do_not_pass() -> None:
    assert changed("speed", lambda p, before: -p)[0] == "fail"
    assert changed("parameters", lambda p, before: p)[1] == "fail"
    assert changed("inverse_margin", lambda p, before: p)[1:3] == ["fail", "fail"]
    assert changed("path_norm", lambda p, before: 1.0)[2] == "fail"
    results = pilots()
    for task in grid.tasks(LAPTOP):
        record = results[task].record  # type: ignore[union-attr]
        record["columns"]["speed"] = record["train_accuracy"] - record["test_accuracy"]
    assert verdicts(results)[3] == "fail", "an oracle follows the gap along every hyper-parameter"
    true, random = (pilots()[each] for each in grid.pair(LAPTOP, "mnist"))
    swapped: Found = dict(zip(grid.pair(LAPTOP, "mnist"), (random, true), strict=True))
    assert verdicts({**pilots(), **swapped})[4] == "fail"
    results = pilots()
    for each in grid.pair(LAPTOP, "mnist"):
        results[each].record["measures"]["pac_bayes"]["details"]["sigma"] = 0.03  # type: ignore[union-attr]
    assert verdicts(results)[4] == "fail", "the margins alone are not enough"
    results = pilots()
    results[grid.tasks(LAPTOP)[5]].record["measures"]["golowich"]["bound"] = 0.5  # type: ignore[union-attr]
    assert verdicts(results)[5] == "fail"
    true, random = (pilots()[each] for each in grid.pair(LAPTOP, "cifar10"))
    swapped = dict(zip(grid.pair(LAPTOP, "cifar10"), (random, true), strict=True))
    assert verdicts({**pilots(), **swapped})[6] == "fail"
    results = pilots()
    results[grid.tasks(LAPTOP)[-1]].record["train_accuracy"] = 0.98  # type: ignore[union-attr]
    assert verdicts(results)[7] == "fail"


def test_the_grid_as_a_file_is_read_as_it_is_meant(tmp_path: Path) -> None:
    text = grid.grid_csv(LAPTOP, Results(pilots(), 1))
    (tmp_path / "grid.csv").write_text(text)
    table = read_run_table(tmp_path / "grid.csv")
    assert tuple(table.settings) == grid.AXES
    assert set(table.measures) == set(COLUMNS)
    assert table.n_test == 2000
    assert set(table.unused) == {"seed", "train_accuracy", "test_accuracy"}
    assert len(list(csv.reader(io.StringIO(text)))) == 1 + 32


def pairs(distances: tuple[float, ...] = (0.0002, 0.01), **last: float) -> Result:
    """Two pairs of two epochs. last: what differs after the second."""
    usual = {"mean_loss": 0.016, "largest_loss": 2.0, "changed": 0.0035, "point": 1.0, "error": 1.0, **last}
    pair = [{**usual, "distance": distance} for distance in distances]
    return Result({"pairs": [pair, pair], "self_pair": [{"distance": 0.0}] * 2})


def test_stability_is_judged_by_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "SHOWN", (1,))
    short: dict[Any, Any] = {name: (images, rate, 2) for name, (images, rate, _) in stability.SETTINGS.items()}
    monkeypatch.setattr(stability, "SETTINGS", short)
    usual: Found = {
        stability.task(LAPTOP, dataset, labels): pairs(mean_loss=0.127 if labels == "random" else 0.016)
        for dataset in stability.SETTINGS
        for labels in stability.LABELS
    }
    assert verdicts(usual, stability) == ["pass"] * 5
    true, random = (stability.task(LAPTOP, "mnist", labels) for labels in stability.LABELS)
    wrong: tuple[Found, ...] = (
        {true: Result({**pairs().record, "self_pair": [{"distance": 1e-9}]})},
        {random: pairs((0.01, 0.019), mean_loss=0.127)},
        {random: pairs(point=0.0, mean_loss=0.127)},
        {true: pairs(changed=0.03)},
        {random: pairs(mean_loss=0.031)},
    )
    for place, changes in enumerate(wrong):
        found = verdicts({**usual, **changes}, stability)
        assert [number for number, verdict in enumerate(found) if verdict == "fail"] == [place]
    rows = judge(stability.declare(LAPTOP), Results(usual, 1), {}, 1)["summaries"][0]["rows"]
    assert rows[1] == ["mnist", "true", "2", "0.0100", "0.0160", "2.00", "0.35", "1.00"]
    assert len(rows) == 4 * 2


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of 4 runs."""
    monkeypatch.setattr(grid, "CORRUPTIONS", (0.0, 1.0))
    monkeypatch.setattr(grid, "WIDTHS", (32,))
    monkeypatch.setattr(grid, "RATES", (0.04,))
    monkeypatch.setattr(grid, "images", lambda scale: (40, 60))


@pytest.mark.slow
def test_reproduce_measures(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    scale = replace(LAPTOP, name="tiny", words="few images")
    options: dict[str, Any] = {"paths": {"mnist": "synthetic", "cifar10": "synthetic"}, "device": "cpu", "seeds": 2}
    console = Console(file=io.StringIO(), width=200)
    assert reproduce(["measures"], scale, tmp_path, console, **options) in (0, 1)
    results = sorted(tmp_path.glob("runs/*/result.json"))
    assert len(results) == 2 * (4 + 2)
    times = [path.stat().st_mtime_ns for path in results]
    table = read_run_table(tmp_path / "grid.csv")
    assert len(table.gap) == 8
    assert list(table.settings) == ["label_corruption", "images"], "one width is no axis"
    assert "inverse_coherence" in table.measures
    (tmp_path / "grid.csv").unlink()
    reproduce(["measures"], scale, tmp_path, console, **options)
    assert [path.stat().st_mtime_ns for path in results] == times, "nothing is trained twice"
    assert (tmp_path / "grid.csv").exists()
    values = json.loads((tmp_path / "reproduction.json").read_text())
    names = {row[0].replace(" ", "_") for row in values["experiments"]["measures"]["summaries"][0]["rows"]}
    assert names == {*table.measures, "parameters"}, "with one width all have as many"
    assert "columns" in next(iter(values["runs"].values()))["record"]
    write_report(tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "Measures by how they predict the gap over the grid" in report
    assert "worst environment" in report
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(tmp_path / "grid.csv")])
    assert stopped.value.code == 0
    assert "of 4 configurations" in capsys.readouterr().out


def test_describing_a_task_of_the_grid() -> None:
    from rethink_fast.experiments.console import describe

    task = grid.task("mnist", 0.25, 512, 1000, 0.01)
    assert isinstance(task, TheoryTask)
    assert describe(task) == (
        "grid run, mnist, label corruption 0.25, width 512, images 1,000, learning rate 0.01, seed 0"
    )
