"""Records of every kind: what is read of them, what is refused and in which words, what travels, and the exit codes."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_report import Row, record
from rethink_fast.cli.app import main
from rethink_fast.compare.metrics import read
from rethink_fast.compare.records import compare
from rethink_fast.errors import UserError

ENVIRONMENT = {
    "processor": "Xeon",
    "cores": 2,
    "threads": 2,
    "gpu": None,
    "cuda": None,
    "packages": {"torch": "2.13.0", "triton": "3.9.0"},
}


def benchmarks(**cases: dict[str, Any]) -> dict[str, Any]:
    """What `pytest benchmarks --benchmark-json` writes, as far as it is read."""
    rows = [
        {
            "name": f"test_case[{name}]",
            "stats": {"median": case.get("seconds", 1.0)},
            "extra_info": case.get("extra", {}),
        }
        for name, case in cases.items()
    ]
    return {"machine_info": ENVIRONMENT, "datetime": "2026-01-01T00:00:00", "benchmarks": rows}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, values: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return path

    return write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run."""
    folder = tmp_path_factory.mktemp("run") / "one"
    words = "cifar10 --data synthetic --max-samples 64 --model mlp_1x512 --corruption random --epochs 14"
    words += " --target-accuracy 1"
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words.split(), "--device", "cpu", "--out", str(folder)])
    assert stopped.value.code == 0
    return folder


def cli(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *map(str, words)])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def changed(run: Path, to: Path, **values: Any) -> Path:
    """A copy of a run's record with other values, without its curve."""
    found = {**json.loads((run / "result.json").read_text()), **values}
    to.mkdir()
    (to / "result.json").write_text(json.dumps(found))
    return to


def test_a_run_has_a_rate_for_each_epoch_but_the_first(run: Path) -> None:
    found = read(run)
    assert (found.kind, found.scale["dataset"], found.scale["n_train"]) == ("run", "cifar10", 64)
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(row["images_per_second"]) for row in csv.DictReader(file)][1:]
    figure = found.figures["images_per_second"]
    assert list(figure.values) == rates
    assert len(rates) >= 5
    assert figure.costs() == [1 / rate for rate in rates]
    assert not figure.machine_independent
    assert found.figures["epochs to accuracy>=0.5"].machine_independent


def test_a_slower_run_is_told_and_ends_with_1(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads((run / "result.json").read_text())
    slower = changed(run, tmp_path / "slower", images_per_second=whole["images_per_second"] / 1.2)
    same = changed(run, tmp_path / "same")
    assert cli(same, slower, "--out", tmp_path / "out", "--json") == 1
    printed = capsys.readouterr()
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert json.loads(printed.out) == written
    assert written["verdict"] == "slower"
    line = next(line for line in written["lines"] if line["name"] == "images_per_second")
    assert line["ratio"] == pytest.approx(1.2)
    assert (line["verdict"], line["values"]) == ("slower", 0)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text.startswith("**slower by more than 2.5%: images_per_second**\n")
    assert "| images_per_second | " in text.split("<details>")[0]
    assert "single value" in text
    assert cli(slower, same, "--out", tmp_path / "faster") == 0
    assert cli(same, slower, "--threshold", "0.25", "--out", tmp_path / "wide") == 0


def test_ambiguous_ends_with_3_where_asked(run: Path, tmp_path: Path) -> None:
    """Rates of epochs that are all over the place."""
    old, new = changed(run, tmp_path / "old"), changed(run, tmp_path / "new")
    for folder in (old, new):
        rates = "".join(f"{rate}\n" for rate in range(100, 120))
        (folder / "metrics.csv").write_text(f"images_per_second\n{rates}")
    assert cli(old, new, "--out", tmp_path / "lax") == 0
    assert cli(old, new, "--strict", "--out", tmp_path / "strict") == 3
    assert cli(old, new, "--strict", "--threshold", "0.25", "--out", tmp_path / "wide") == 0


def test_several_seeds_are_samples(run: Path, write: Callable[[str, Any], Path]) -> None:
    whole = json.loads((run / "result.json").read_text())

    def seeds(name: str, rates: list[float]) -> Path:
        runs = [{**whole, "images_per_second": rate} for rate in rates]
        return write(name, {"schema": 2, "seeds": list(range(len(runs))), "runs": runs})

    paths = [seeds("old/result.json", [100.0, 101.0, 102.0]), seeds("new/result.json", [80.0, 81.0, 82.0])]
    found = {line.name: line for line in compare(read(paths[0]), read(paths[1]), 0.03).lines}["images_per_second"]
    assert (found.old, found.new) == (101.0, 81.0)
    assert found.estimate.ratio == pytest.approx(101 / 81, rel=1e-3)
    assert (found.estimate.values, found.verdict) == (3, "slower")
    assert read(paths[0]).date == "old"
    assert read(seeds("2026-01-01.json", [1.0])).date == "2026-01-01"


def test_another_scale_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(run, tmp_path / "other", batch_size=7, model="mlp_3x512")
    assert cli(run, other) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "different scale (model mlp_1x512 and mlp_3x512; batch_size 128 and 7)" in said


def test_on_another_machine_only_what_travels_is_compared(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads((run / "result.json").read_text())
    other = copy.deepcopy(whole["environment"])
    other["processor"], other["packages"]["torch"] = "another", "0.1"
    elsewhere = changed(run, tmp_path / "elsewhere", environment=other, images_per_second=1.0)
    assert cli(run, elsewhere, "--out", tmp_path / "out") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "only ratios that travel are compared" in said
    assert f"torch {whole['environment']['packages']['torch']} and 0.1" in said
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["lines"]
    assert all(line["name"].startswith("epochs to ") for line in written["lines"])


def test_with_nothing_that_travels_another_machine_is_refused(write: Callable[[str, Any], Path]) -> None:
    old, new = benchmarks(copy={"seconds": 1.0}), benchmarks(copy={"seconds": 1.0})
    new["machine_info"] = {**ENVIRONMENT, "processor": "EPYC"}
    with pytest.raises(UserError, match=r"processor Xeon and EPYC.*no ratio in common that would travel"):
        compare(read(write("old.json", old)), read(write("new.json", new)), 0.03)


def test_benchmarks_are_compared_in_seconds_and_ratios(write: Callable[[str, Any], Path]) -> None:
    old = benchmarks(a={"seconds": 2.0, "extra": {"times_as_fast": [3.0], "baseline": "copy"}}, gone={})
    new = benchmarks(a={"seconds": 2.0, "extra": {"times_as_fast": [2.0], "baseline": "copy"}}, fresh={})
    found = compare(read(write("old.json", old)), read(write("new.json", new)), 0.03)
    assert [(line.name, line.verdict) for line in found.lines] == [
        ("a, s", "same"),
        ("a, times as fast as copy", "slower"),
    ]
    assert found.lines[1].estimate.ratio == pytest.approx(1.5)
    assert found.skipped == (("gone, s", "in the old alone"), ("fresh, s", "in the new alone"))


def test_gpu_checks_are_compared(write: Callable[[str, Any], Path]) -> None:
    facts = {"gpu": "H200", "date": "20260101-000000", "contract": 1, "versions": {"torch": "2.13"}}
    paths = []
    for name, microseconds in (("old", 10.0), ("new", 11.0)):
        rows = [Row("prepare", 1000, None, {}, (microseconds, 9.0, 12.0)), Row("bad", 1, None, {"eager": "off"})]
        run = {"case": "mlp", "seconds": None, "images_per_second": 1e6, "share_of_matrix": 2.0 / microseconds}
        noted = {**facts, "condition_before": {"driver": "1"}, "engine": {"runs": [run]}}
        values = record(rows, 3200.0, 700.0, noted)
        paths.append(write(f"{name}.json", values))
    found = compare(read(paths[0]), read(paths[1]), 0.03)
    assert [(line.name, line.verdict) for line in found.lines] == [
        ("prepare, us", "slower"),
        ("prepare, share of the copy bandwidth", "slower"),
        ("run of mlp, images/s", "same"),
        ("run of mlp, share of the matrix rate", "slower"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 2, "runs": [', "is not whole JSON "),
        ("", "is not whole JSON"),
        ("[1, 2]", r"has the value \[1, 2\], where an object is expected"),
        ('{"name": "package", "version": "1.0"}', "nothing that is known here"),
        ('{"schema": 2, "time_to_memorize": {}}', "looks like a record .run., but lacks dataset"),
        ('{"schema": 2, "runs": []}', "has no runs"),
        ('{"kind": "gpu-check", "rows": 3}', "lacks gpu"),
        ('{"benchmarks": [], "machine_info": {}, "datetime": ""}', "lacks machine_info.processor"),
    ],
)
def test_what_is_no_record_is_one_line(
    write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = write("x.json", text)
    with pytest.raises(UserError, match=said):
        read(path)
    assert cli(path, path) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert str(path) in printed.err


def test_other_bad_input_is_one_line(
    run: Path, write: Callable[[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    binary = tmp_path / "binary.json"
    binary.write_bytes(bytes(range(256)))
    other = write("bench.json", benchmarks(a={}))
    for words, said in (
        ((run, other), "different kinds, run and benchmarks"),
        ((run, tmp_path / "missing.json"), "missing.json does not exist"),
        ((tmp_path / "empty", other), "holds no records"),
        ((binary, other), "is not whole JSON"),
        ((other, other, "--threshold", "0"), "--threshold 0.0 is out of range"),
        ((other, other, "--cases", "x"), "--cases 'x' has no effect on records"),
    ):
        assert cli(*words) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1, printed.err
        assert said in printed.err
