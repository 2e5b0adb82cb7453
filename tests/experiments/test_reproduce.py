"""A reproduction: its cache, its going on, and what it says where something is missing; on tiny synthetic data."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from rich.console import Console

from rethink_fast.cli.app import main
from rethink_fast.cli.reproduce import ExperimentName
from rethink_fast.data.digest import key_of
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.experiments import EXPERIMENTS, Experiment, cache, measures
from rethink_fast.experiments.console import TaskConsole
from rethink_fast.experiments.datasets import parse
from rethink_fast.experiments.runner import reproduce
from rethink_fast.experiments.scales import LAPTOP, Scale, training
from rethink_fast.experiments.spec import Check, Finding, Row, Table, Value
from rethink_fast.report import document
from rethink_fast.train.state import EpochMetrics, TrainState

SYNTHETIC = {"cifar10": "synthetic", "mnist": "synthetic"}


def tiny(epochs: int) -> Scale:
    """The laptop's scale with MLPs of a few images."""
    sizes = {
        model: replace(size, images=60, epochs=epochs, batch_size=20, target_loss=0.0)
        for model, size in LAPTOP.sizes.items()
    }
    return replace(LAPTOP, name="tiny", words="60 images", sizes=sizes, figure1_sizes={})


def small(scale: Scale) -> Experiment:
    """Two runs of an MLP, a row each, and a finding that holds."""
    runs = [training(scale, "mlp_1x512", kind) for kind in ("true", "random")]
    value = Value("train", measures.train_accuracy, 100.0, 1.0, "a reason", comparable_at_any_scale=True)
    rows = tuple(Row((name,), run, (value,)) for name, run in zip(("true", "random"), runs, strict=True))

    def above_chance(found: object) -> Check:
        score = found.mean(runs[0], measures.train_accuracy)  # type: ignore[attr-defined]
        return Check(score > 10, f"{score:.2f} %")

    return Experiment(
        "small", "Small", tuple(runs), (Table("T", ("labels",), rows),), findings=(Finding("f", "m", above_chance),)
    )


def other(scale: Scale) -> Experiment:
    """The first run of `small`, and one on MNIST."""
    shared = training(scale, "mlp_1x512")
    mnist = replace(shared, dataset="mnist")
    return Experiment("other", "Other", (shared, mnist))


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "small", small)
    monkeypatch.setitem(EXPERIMENTS, "other", other)


def run(out: Path, *names: str, epochs: int = 20, **options: Any) -> tuple[int, dict, str]:
    """Exit code, reproduction.json and what was printed."""
    text = io.StringIO()
    options = {"paths": SYNTHETIC, "device": "cpu", **options}
    code = reproduce(names, tiny(epochs), out, Console(file=text, width=200, highlight=False), **options)
    return code, json.loads((out / "reproduction.json").read_text()), text.getvalue()


def times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}


def test_results_are_kept_and_shared(tmp_path: Path) -> None:
    code, values, _ = run(tmp_path, "small")
    assert code == 0
    assert values["experiments"]["small"]["status"] == "complete"
    assert values["experiments"]["small"]["findings"][0]["verdict"] == "pass"
    first = times(tmp_path)
    assert len(first) == 2
    code, values, text = run(tmp_path, "small", "other")
    assert code == 0
    assert {path: when for path, when in times(tmp_path).items() if path in first} == first
    assert len(times(tmp_path)) == 3
    assert "1/1" in text
    assert not list(tmp_path.glob("runs/*/checkpoint*"))


def test_one_report_has_what_several_commands_left(tmp_path: Path) -> None:
    first = run(tmp_path, "small", epochs=2)[1]
    both = run(tmp_path, "other", epochs=2)[1]
    assert both["experiments"]["small"] == first["experiments"]["small"]
    assert set(both["experiments"]) == {"small", "other"}
    assert set(both["runs"]) > set(first["runs"])
    assert set(run(tmp_path, "other", epochs=2, seeds=2)[1]["experiments"]) == {"other"}


def test_runs_of_some_networks_are_never_taken_for_all(tmp_path: Path) -> None:
    code, values, text = run(tmp_path, "table1", epochs=1, models=["mlp_1x512"])
    table1 = values["experiments"]["table1"]
    assert code == 0
    assert "mlp_1x512 alone" in text
    assert re.search(r"table1 +│ +3 │ +0 │ +3 │", text)
    assert table1["status"] == "partly run"
    assert {finding["verdict"] for finding in table1["findings"]} == {"not run"}
    done = {row["labels"][0] for row in table1["tables"][0]["rows"] if row["values"][0]["ours"]}
    assert done == {"MLP 1x512"}
    assert "Only a part has been run of: Table 1" in document.text(values, [[]])
    first = times(tmp_path)
    _, values, _ = run(tmp_path, "table1", epochs=1, models=["mlp_3x512"])
    done = {
        row["labels"][0] for row in values["experiments"]["table1"]["tables"][0]["rows"] if row["values"][0]["ours"]
    }
    assert done == {"MLP 1x512", "MLP 3x512"}
    assert {path: when for path, when in times(tmp_path).items() if path in first} == first


@pytest.mark.parametrize(
    ("accuracy", "line"), [(None, "while training: loss 2.0000  train 75.00 %"), (0.5, "train 50.00 %  test 10.00 %")]
)
def test_an_epoch_shows_what_it_has(accuracy: float | None, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an evaluation, how the batches were seen in training."""
    values: dict[str, Any] = {field.name: 1 for field in fields(EpochMetrics)}
    values |= {"train_accuracy": accuracy, "test_accuracy": 0.1, "online_loss": 2.0, "online_accuracy": 0.75}
    screen, shown = TaskConsole(Console()), list[str]()
    monkeypatch.setattr(screen, "show", shown.append)
    screen.on_epoch(EpochMetrics(**values), TrainState())
    assert line in shown[0]


def test_the_eta_goes_by_the_pace_of_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("rethink_fast.experiments.console.time.perf_counter", lambda: now)
    tasks = [training(LAPTOP, model) for model in ("mlp_1x512", "mlp_3x512", "alexnet_small")]
    screen, shown = TaskConsole(Console()), list[str]()
    monkeypatch.setattr(screen, "show", shown.append)
    screen.plan(dict(zip(tasks, (10.0, 20.0, 30.0), strict=True)))

    def eta(at: float) -> str:
        nonlocal now
        now = at
        screen.on_load("images", 1, 2)
        return shown[-1].partition("ETA ")[2]

    screen.start(tasks[0])
    assert [eta(4), eta(10), eta(20)] == ["56 s", "over 50 s", "over 50 s"]
    screen.end_task("done")  # in twice the time
    screen.start(tasks[1])
    assert eta(30) == "1 min 30 s"
    screen.end_task("done")
    screen.start(tasks[2])
    eta(99)
    assert shown[-1].endswith("  takes longer than expected")


def test_each_seed_is_a_run_and_the_spread_is_over_them(tmp_path: Path) -> None:
    _, values, _ = run(tmp_path, "small", epochs=2, seeds=3)
    row = values["experiments"]["small"]["tables"][0]["rows"][1]
    scores = [100 * values["runs"][key]["record"]["train_accuracy"] for key in row["runs"]]
    assert len(set(row["runs"])) == 3
    spread = row["values"][0]["ours"]
    assert spread["mean"] == pytest.approx(sum(scores) / 3)
    assert (spread["n"], spread["least"], spread["most"]) == (3, min(scores), max(scores))


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.csv", None), ("result.json", b"{"), ("cache.json", b"not json"), ("cache.json", b'{"identity": 1}')],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, name: str, content: bytes | None) -> None:
    run(tmp_path, "small", epochs=2)
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/*/metrics.csv")}
    victim = sorted(tmp_path.glob(f"runs/*/{name}"))[0]
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.write_bytes(damaged if content is None else content)
    code, values, text = run(tmp_path, "small", epochs=2)
    assert code == 0
    assert "cannot be used" in text
    assert values["experiments"]["small"]["status"] == "complete"
    columns = [0, 1, *range(3, 12)]  # without the clocks
    for path, content_before in before.items():
        old = [line.split(",") for line in content_before.decode().splitlines()]
        new = [line.split(",") for line in path.read_text().splitlines()]
        assert [[row[at] for at in columns] for row in old] == [[row[at] for at in columns] for row in new]


def test_results_of_another_contract_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "small", epochs=2)
    first = times(tmp_path)
    monkeypatch.setattr(cache, "CONTRACT_VERSION", 999)
    run(tmp_path, "small", epochs=2)
    assert len(times(tmp_path)) == 4
    # one that was put where ours belongs is noticed as well
    old, new = next(iter(first)).parent, next(path.parent for path in times(tmp_path) if path not in first)
    (new / "cache.json").write_bytes((old / "cache.json").read_bytes())
    _, _, text = run(tmp_path, "small", epochs=2)
    assert "another configuration or contract version" in text


def test_other_data_are_another_result() -> None:
    run_ = resolve(training(tiny(1), "mlp_1x512"), on_gpu=False, cores=1)
    device = torch.device("cpu")
    one, two = (key_of(cache.identity(run_, data, device)) for data in ("a", "b"))
    assert one != two
    moved = replace(run_, data=replace(run_.data, data="elsewhere", workers=7))
    assert key_of(cache.identity(moved, "a", device)) == one


def test_a_missing_data_set_stops_its_tasks_alone(tmp_path: Path) -> None:
    paths = {"cifar10": "synthetic", "mnist": str(tmp_path / "nowhere")}
    code, values, text = run(tmp_path / "out", "small", "other", epochs=2, paths=paths)
    assert code == 2
    assert "other is not run: in part" in text
    assert "nowhere does not exist" in values["experiments"]["other"]["skipped_because"]
    assert values["experiments"]["small"]["status"] == "complete"
    assert values["experiments"]["other"]["status"] == "partly run"


def test_a_finding_that_fails_is_told_by_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(scale: Scale) -> Experiment:
        return replace(small(scale), findings=(Finding("f", "m", lambda found: Check(False, "v")),))

    monkeypatch.setitem(EXPERIMENTS, "small", failing)
    code, values, _ = run(tmp_path, "small", epochs=1)
    assert code == 1
    assert values["experiments"]["small"]["findings"][0]["verdict"] == "fail"


@pytest.mark.slow
def test_a_stopped_reproduction_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    epochs = 80
    whole = run(tmp_path / "whole", "small", epochs=epochs)[1]
    stops, seconds = 0, 1.5
    while True:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        code, values, _ = run(tmp_path / "parts", "small", epochs=epochs)
        timer.cancel()
        timer.join()
        if code != 130:
            break
        stops, seconds = stops + 1, 1.3 * seconds
        assert stops < 12
    assert code == 0
    assert stops
    for key, run_ in whole["runs"].items():
        ours = values["runs"][key]["record"]
        for name in ("train_accuracy", "train_loss", "test_accuracy", "epochs", "steps"):
            assert ours[name] == run_["record"][name], name


def test_data_are_named_with_their_data_set() -> None:
    assert parse(["cifar10=/a=b", "mnist=synthetic"]) == {"cifar10": "/a=b", "mnist": "synthetic"}
    for wrong in ("/a", "cifar10=", "cifar=/a"):
        with pytest.raises(UserError, match="cifar"):
            parse([wrong])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "table5"], "table5"),
        (["reproduce", "table1", "--scale", "huge"], "huge"),
        (["reproduce", "table1", "--seeds", "0"], "--seeds 0 is out of range"),
        (["reproduce", "table1", "--models", "mlp_1x512, vgg"], "--models 'vgg' is unknown"),
        (["reproduce", "theorem1", "--models", "mlp_1x512"], "theorem1 trains no network by name"),
        (["reproduce", "table1", "--data", "/somewhere"], "--data /somewhere names no data set"),
        (["reproduce", "theorem1", "--out", "/dev/null/x"], "--out /dev/null/x cannot be written"),
        (["report", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_command_line_names_every_experiment() -> None:
    assert {"all", *EXPERIMENTS} - {"small", "other"} == set(get_args(ExperimentName))


def test_several_ranks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    elastic = {"RUN_ID": "none", "RESTART_COUNT": "0", "MAX_RESTARTS": "0"}
    for name, value in {**counts, **{f"TORCHELASTIC_{name}": value for name, value in elastic.items()}}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="start it without torchrun"):
        run(tmp_path, "small")
