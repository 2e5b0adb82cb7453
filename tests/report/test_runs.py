"""The report of runs: which curves it draws, how it tells runs from one another, what it says, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rethink_fast.cli.app import main
from rethink_fast.errors import UserError
from rethink_fast.report import write_report
from rethink_fast.report.html import page
from rethink_fast.report.plots import MOST_CURVES, RunCurves, curves, svg
from rethink_fast.report.runs import COLUMNS, curves_of, notes, open_runs
from tests.report.test_report import LABELS, ODD, stands_alone, well_formed

WORDS = [
    *("bench", "mnist", "--data", "synthetic", "--max-samples", "60", "--batch-size", "20"),
    *("--device", "cpu", "--epochs", "3", "--lr", "1e-3"),
]


def trained(folder: Path, *options: str) -> Path:
    with pytest.raises(SystemExit) as stopped:
        main([*WORDS, *options, "--out", str(folder)])
    assert stopped.value.code == 0
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of runs: true, random, partial, and two seeds."""
    top = tmp_path_factory.mktemp("runs")
    trained(top / "true")
    trained(top / "random", "--corruption", "random")
    trained(top / "partial", "--corruption", "partial", "--probability", "0.5")
    trained(top / "seeds", "--corruption", "random", "--seeds", "2")
    return top


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of them, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def change(folder: Path, name: str = "result.json", **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def option(folder: Path, section: str, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder, "config.json", **{section: {**config[section], **values}})


def column(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def labels(*folders: Path) -> list[str]:
    return [run.label for run in open_runs(folders)]


def test_curves_are_those_of_metrics_csv(runs: Path) -> None:
    """Losses as they are, accuracies in percent, one point an epoch, one curve a seed."""
    shown = open_runs([runs / "true", runs / "seeds"])
    for name in ("train_loss", "train_accuracy", "test_accuracy"):
        scale = 1 if name == "train_loss" else 100
        one, seeds = curves_of(shown, name)
        folders = [runs / "true", runs / "seeds/seed-0", runs / "seeds/seed-1"]
        for (x, y), folder in zip((*one.curves, *seeds.curves), folders, strict=True):
            assert x == [1, 2, 3]
            assert y == [scale * value for value in column(folder, name)]


def test_clean_and_corrupted_samples_are_shown_where_there_are_both(runs: Path) -> None:
    shown = open_runs([runs / "true", runs / "partial"])
    assert [len(run.curves) for run in curves_of(shown, "corrupted_accuracy")] == [0, 1]
    assert [len(run.curves) for run in curves_of(shown, "clean_accuracy")] == [0, 1]
    assert curves_of(open_runs([runs / "true"]), "clean_accuracy") == []
    files = {path.name for path in write_report(runs / "true")}
    assert files == {"train_loss.svg", "train_accuracy.svg", "test_accuracy.svg", "report.md", "report.html"}
    assert len(write_report(runs / "partial")) == len(COLUMNS) + 2


def test_an_epoch_that_was_not_evaluated_or_not_finite_has_no_point(runs: Path) -> None:
    with (runs / "true/metrics.csv").open(newline="") as file:
        head, first, second, third = csv.reader(file)
    second[head.index("train_loss")] = ""
    third[head.index("train_loss")] = "nan"
    with (runs / "true/metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, first, second, third])
    ((x, _),) = curves_of(open_runs([runs / "true"]), "train_loss")[0].curves
    assert x == [1]


@pytest.mark.parametrize(
    ("names", "section", "values", "expected"),
    [
        (("true", "random"), "", {}, ["true_labels", "random_labels"]),
        (("true", "partial"), "", {}, ["true_labels", "partially_corrupted_labels, probability 0.5"]),
        (("random", "seeds"), "", {}, ["seed 0", "2 seeds"]),
        (("true", "copy"), "train", {"lr": 0.5}, ["lr 0.001", "lr 0.5"]),
        (("true", "copy"), "train", {"augment": ["crop", "flip"]}, ["augment none", "augment crop+flip"]),
        (("true",), "", {}, ["true_labels, mlp_1x512"]),
    ],
)
def test_a_label_says_what_differs_and_nothing_else(
    runs: Path, names: tuple[str, ...], section: str, values: dict[str, Any], expected: list[str]
) -> None:
    if "copy" in names:
        option(Path(shutil.copytree(runs / "true", runs / "copy")), section, **values)
    found = labels(*(runs / name for name in names))
    assert [label.removesuffix(", true_labels").split("labels, mlp_1x512, ")[-1] for label in found] == expected


def test_the_same_run_again_is_told_by_its_folder(runs: Path) -> None:
    again = Path(shutil.copytree(runs / "true", runs / "again"))
    found = labels(runs / "true", again)
    assert [label.rsplit(", ", 1)[1] for label in found] == [str(runs / "true"), str(again)]


def test_each_model_has_its_name(runs: Path) -> None:
    other = Path(shutil.copytree(runs / "true", runs / "other"))
    change(other, model="mlp_3x512")
    assert labels(runs / "true", other) == ["mlp_1x512", "mlp_3x512"]


def said(*folders: Path) -> str:
    return "\n".join(notes(open_runs(folders)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"dataset": "cifar10"}, "different data"),
        ({"data_source": "mnist idx"}, "different data"),
        ({"n_train": 7}, "different data"),
        ({"interrupted": True}, "Stopped before its end, or still running: random_labels."),
        ({"stop_reason": "non_finite_loss"}, "The loss was not finite; such values have no point: random_labels."),
        ({"n_test": 0}, "No test set: random_labels."),
        ({"eval_interval": 5}, "Not evaluated in every epoch; the others have no point: random_labels."),
    ],
)
def test_what_a_reader_must_know_is_said(runs: Path, values: dict[str, Any], expected: str) -> None:
    assert expected not in said(runs / "true", runs / "random")
    change(runs / "random", **values)
    if "dataset" in values:
        expected = expected.replace("random_labels", "cifar10, random_labels")
    assert expected in said(runs / "true", runs / "random")


def test_what_holds_for_every_run_names_none(runs: Path) -> None:
    for name in ("true", "random"):
        change(runs / name, n_test=0)
    assert "No test set: all runs." in said(runs / "true", runs / "random")
    assert "No test set: this run." in said(runs / "true")


def test_a_missing_seed_and_a_differing_option_are_said(runs: Path) -> None:
    change(runs / "seeds", interrupted=True)
    option(runs / "true", "train", lr=0.5)
    text = said(runs / "true", runs / "seeds")
    assert "Not every seed that was asked for has ended: random_labels, 2 seeds." in text
    assert "The runs differ in lr 0.5 (true_labels, seed 0); lr 0.001 (random_labels, 2 seeds)." in text


def test_the_table_has_every_seed_and_their_mean(runs: Path) -> None:
    write_report(runs / "seeds")
    record = json.loads((runs / "seeds/result.json").read_text())
    rows = [line for line in (runs / "seeds/report.md").read_text().splitlines() if line.startswith("| random")]
    accuracies = [100 * run["test_accuracy"] for run in record["runs"]]
    assert [row.split(" | ")[3] for row in rows[:2]] == [f"{value:.2f} %" for value in accuracies]
    spread = record["summary"]["test_accuracy"]
    assert rows[2].split(" | ")[3] == f"{100 * spread['mean']:.2f} % ± {100 * spread['std']:.2f} (n = 2)"


def test_the_time_to_memorize_is_the_records(runs: Path) -> None:
    moments = {"accuracy>=1.0": {"seconds": 200.0, "epochs": 7, "steps": 21}, "loss<=0.05": None}
    change(runs / "true", time_to_memorize=moments, train_accuracy=0.99999)
    write_report(runs / "true")
    assert "| 99.99 % |" in (runs / "true/report.md").read_text(), "never rounded up to 100 %"
    assert "| 3 min 20 s, 7 epochs | not reached |" in (runs / "true/report.md").read_text()


MEASURES = {
    "schema": 1,
    **{"dataset": "mnist", "model": "mlp_1x512", "corruption": {"kind": "true_labels"}, "n_train": 60, "n_test": 60},
    "measures": {
        "gap": {"value": 0.125, "error": 0.01, "bound": None, "verdict": None, "bounds": "a gap", "seconds": 0.5}
        | {"note": "a note", "reference": "A. Author 2020"}
    },
    "not_measured": {"sharpness": "it has branches"},
    "subsampled": {"gap": [30, 60]},
}


def test_measures_are_in_the_report_where_a_run_has_them(runs: Path) -> None:
    assert "generalization" not in report(runs / "true")
    (runs / "true/measures.json").write_text(json.dumps(MEASURES))
    text = report(runs / "true")
    assert "## What generalization is made of, measured" in text
    assert "| gap | 0.125 ± 0.010 | - | - | a gap | 0.5 | A. Author 2020 |" in text
    for line in ("gap: a note", "gap: on 30 of 60 training images", "sharpness: not measured; it has branches"):
        assert f"- {line}" in text
    (runs / "seeds/seed-1/measures.json").write_text(json.dumps(MEASURES))
    both = report(runs / "true", runs / "seeds", out=runs / "out")
    assert "## Measures of true" in both
    assert "seeds (seed 1)" in both


def report(*folders: Path, out: Path | None = None) -> str:
    write_report(*folders, out=out)
    return ((out or folders[0]) / "report.md").read_text()


def test_the_page_stands_alone_and_is_well_formed(runs: Path) -> None:
    write_report(runs / "partial", runs / "seeds", out=runs / "out")
    text = (runs / "out/report.html").read_text()
    stands_alone(text)
    well_formed(text)
    assert text.count('class="plot"') == len(COLUMNS)


def test_no_word_of_a_run_acts_as_html_or_markdown(runs: Path) -> None:
    change(runs / "true", model=ODD, data_source=ODD)
    report(runs / "true", runs / "random", out=runs / "out")
    text = (runs / "out/report.html").read_text()
    stands_alone(text)
    well_formed(text)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("y", [[1.0, 2.0], [1e300, 0.0], [0.0], [5e-324]])
def test_a_picture_takes_any_label_and_any_numbers(label: str, y: list[float]) -> None:
    found = [RunCurves(f"{label}{n}", [([1.0, 2.0][: len(y)], y)]) for n in range(MOST_CURVES)]
    ElementTree.fromstring(svg(lambda: curves(found[:3], "train loss"), "x"))


def test_every_curve_has_a_colour_or_line_of_its_own() -> None:
    figure = curves([RunCurves(str(n), [([1.0], [1.0])]) for n in range(MOST_CURVES)], "train loss")
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == MOST_CURVES


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "is not a folder: name the folder of a run"),
    "a file": (lambda run: run.rename(run.with_name("away")).with_name("true").write_text(""), "is not a folder"),
    "no record": (lambda run: (run / "result.json").unlink(), "has no result.json and no reproduction.json"),
    "no curve": (lambda run: (run / "metrics.csv").unlink(), r"metrics.csv cannot be read \(No such file"),
    "a curve without numbers": (
        lambda run: (run / "metrics.csv").write_text("epoch\nx\n"),
        "is not a table of numbers",
    ),
    "a curve of something else": (lambda run: (run / "metrics.csv").write_text("a,b\n1,2\n"), "lacks epoch"),
    "a curve without epochs": (
        lambda run: (run / "metrics.csv").write_text("epoch,train_loss,train_accuracy,test_accuracy\n,1,1,1\n"),
        "lacks epoch",
    ),
    "a torn record": (lambda run: (run / "result.json").write_text("{"), "result.json is not whole JSON"),
    "another record": (lambda run: (run / "result.json").write_text("{}"), "result.json lacks schema"),
    "no seeds": (
        lambda run: (run / "result.json").write_text('{"runs": [], "seeds": [], "summary": {}}'),
        "result.json has no run",
    ),
    "no configuration": (lambda run: (run / "config.json").unlink(), "config.json cannot be read"),
    "other measures": (lambda run: (run / "measures.json").write_text("{}"), "measures.json lacks dataset"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_no_run_is_one_line_and_nothing_is_written(runs: Path, spoil: str) -> None:
    act, words = SPOILT[spoil]
    act(runs / "true")
    with pytest.raises(UserError, match=words) as error:
        write_report(runs / "random", runs / "true", out=runs / "out")
    assert "\n" not in str(error.value)
    assert str(runs / "true") in str(error.value)
    assert not (runs / "out").exists()


def test_folders_that_do_not_go_together_are_refused(runs: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run, but has runs in it: name those to draw, such as .*/partial\.$"):
        write_report(runs)
    with pytest.raises(UserError, match=r"is named twice"):
        write_report(runs / "true", runs / "random/../true", out=runs / "out")
    with pytest.raises(UserError, match=f"25 runs are more than a picture can tell apart: name at most {MOST_CURVES}"):
        write_report(*[runs / str(n) for n in range(25)], out=runs / "out")
    (runs / "random/reproduction.json").write_text("{}")
    with pytest.raises(UserError, match="is a reproduction, which is reported alone"):
        write_report(runs / "true", runs / "random", out=runs / "out")
    (runs / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder by --out"):
        write_report(runs / "true", out=runs / "file")


def test_a_run_of_no_epochs_has_no_curves_and_says_so(runs: Path) -> None:
    head = (runs / "true/metrics.csv").read_text().splitlines()[0]
    (runs / "true/metrics.csv").write_text(f"{head}\n")
    assert "No epoch has been evaluated: there are no curves." in report(runs / "true")


def test_the_command_prints_its_files_and_a_run_with_a_report_resumes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["report", "true", "seeds"])
    assert stopped.value.code == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in printed} >= {"report.html", "report.md", "train_loss.svg"}
    assert {path.parts[0] for path in printed} == {"reports"}
    assert all(path.is_file() for path in printed)
    report(runs / "seeds")
    with pytest.raises(SystemExit):
        main([*WORDS, "--corruption", "random", "--resume", "seeds"])
    assert "holds runs with several seeds" in capsys.readouterr().err


def test_a_page_of_runs_is_its_markdown(runs: Path) -> None:
    text = report(runs / "true")
    pictures = {path.name: path.read_text() for path in (runs / "true").glob("*.svg")}
    assert (runs / "true/report.html").read_text() == page(text, pictures)
