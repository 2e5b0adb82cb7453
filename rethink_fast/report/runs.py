"""Runs as a report shows them: their curves, what tells one from another, and what a reader must know of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bench.record_folder import CONFIG_SHAPE, CURVES
from ..bench.saved import ADVICE, Record
from ..config import OPTIONS
from ..corruptions import KINDS
from ..errors import UserError, bad_path
from ..schema import BadFile, read
from .plots import MOST_CURVES, RunCurves
from .wording import busy

TITLES = (
    *("train loss", "train accuracy", "test accuracy", "accuracy on training samples that kept their label"),
    "accuracy on training samples with a corrupted label",
)
COLUMNS = dict(zip(CURVES, TITLES, strict=True))
"""The title of each picture, by the column of metrics.csv that it shows."""
SUBSETS = ("clean_accuracy", "corrupted_accuracy")
NEEDED = ("epoch", "train_loss", "train_accuracy", "test_accuracy")
LABEL = ("dataset", "corruption", "model", "seed")
"""What tells runs from one another, as far as it differs; other options are named where these do not suffice."""
NOTES: dict[str, Callable[[Record], bool]] = {
    "Stopped before its end, or still running": lambda record: record["interrupted"],
    "The loss was not finite; such values have no point": lambda record: record["stop_reason"] == "non_finite_loss",
    "No test set": lambda record: not record["n_test"],
    "Not evaluated in every epoch; the others have no point": lambda record: (record.get("eval_interval") or 1) > 1,
    "The machine was busy with other work, so the times are too long": lambda record: busy(record["environment"]),
}
"""What is said of the runs for which it holds."""
FIX = "name the folder of a run, such as runs/DATE-TIME-..., or --out of rethink-fast reproduce"
Rows = tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class ShownRun:
    """What one folder has: a run, or one for each seed.

    label: what tells it from the others.
    options: what affects its results, in words by name.
    rows: for each run those of its metrics.csv.
    """

    folder: Path
    label: str
    record: Record
    options: dict[str, str]
    rows: tuple[Rows, ...]


def open_runs(folders: Sequence[Path]) -> list[ShownRun]:
    """Open the folders of runs, or of the runs of several seeds.

    Raises UserError where one is neither, lacks its curve, or is named twice, and for more than a picture can show.
    """
    if len(folders) > MOST_CURVES:
        raise UserError(f"{len(folders)} runs are more than a picture can tell apart", f"name at most {MOST_CURVES}")
    twice = [path for path, count in Counter(folder.resolve() for folder in folders).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice", "name it once", value=twice[0])
    records = [_open(folder) for folder in folders]
    options = [_options(record) for record in records]
    labels = _labels(options, folders)
    return [
        ShownRun(folder, label, record, words, tuple(_rows(run) for run in record.runs))
        for folder, label, record, words in zip(folders, labels, records, options, strict=True)
    ]


def _open(folder: Path) -> Record:
    if not folder.is_dir():
        raise bad_path(folder, "is not a folder", FIX)
    if not os.path.lexists(folder / "result.json"):
        inside = sorted(path.parent for path in folder.glob("*/result.json"))
        if inside:
            raise bad_path(folder, "is not a run, but has runs in it", f"name those to draw, such as {inside[0]}")
        raise bad_path(folder, "has no result.json and no reproduction.json", FIX)
    record = Record.load(folder)
    if not record.runs:
        raise BadFile(folder / "result.json", "has no run", FIX)
    return record


def _rows(run: Record) -> Rows:
    rows = run.metrics()
    for row in rows:
        lacking = next((name for name in NEEDED if name not in row or (name == "epoch" and row[name] is None)), None)
        if lacking is not None:
            raise BadFile(run.folder / "metrics.csv", f"lacks {lacking}", ADVICE)
    return rows


def _options(record: Record) -> dict[str, str]:
    """Return the options of a run that affect its results, in words; for several seeds how many there are."""
    run = record.runs[0]
    config = read(run.folder / "config.json", CONFIG_SHAPE, ADVICE)
    values: dict[str, Any] = {
        name: value
        for section in ("data", "corruption", "model", "train")
        for name, value in config[section].items()
        if name in OPTIONS and OPTIONS[name].metadata["affects"] == "results"
    }
    words = {name: f"{name.replace('_', ' ')} {_word(value)}" for name, value in values.items()}
    kind, chance = run["corruption"]["kind"], words.pop("probability", "")
    words |= {"dataset": run["dataset"], "model": run["model"]}
    words["corruption"] = f"{kind}, {chance}" if kind == KINDS["partial"] else kind
    words["seed"] = f"{len(record.runs)} seeds" if "runs" in record else f"seed {run['corruption']['seed']}"
    return words


def _word(value: Any) -> str:
    return ("+".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def differing(options: Sequence[dict[str, str]]) -> list[str]:
    """Return the names of the options in which runs differ."""
    names = dict.fromkeys((*LABEL, *(name for each in options for name in each)))
    return [name for name in names if len({each.get(name) for each in options}) > 1]


def _labels(options: Sequence[dict[str, str]], folders: Sequence[Path]) -> list[str]:
    """Return a label for each run, no two alike."""
    differ = differing(options)
    short = [name for name in LABEL if name in differ] or ["corruption", "model"]
    for names in (short, dict.fromkeys((*short, *differ))):
        labels = [", ".join(each[name] for name in names if name in each) for each in options]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{label}, {folder}" for label, folder in zip(labels, folders, strict=True)]


def curves_of(runs: Sequence[ShownRun], column: str) -> list[RunCurves]:
    """Return the curves of a column, losses or accuracies in percent; none where no run has a point.

    An epoch without an evaluation has no point. The two subsets of the training samples are shown of runs that have
    both. A run without points is in the list, so that it has the same colour in every picture.
    """
    scale, needed = (1 if column == "train_loss" else 100), SUBSETS if column in SUBSETS else (column,)
    found = []
    for run in runs:
        kept = [[row for row in rows if all(row.get(name) is not None for name in needed)] for rows in run.rows]
        curves = [([row["epoch"] or 0 for row in rows], [scale * (row[column] or 0) for row in rows]) for rows in kept]
        found.append(RunCurves(run.label, [curve for curve in curves if curve[0]]))
    return found if any(run.curves for run in found) else []


def notes(runs: Sequence[ShownRun]) -> Iterator[str]:
    """Yield what a reader must know before comparing the curves, a sentence each."""
    every = [(name_of(run, record), record) for run in runs for record in run.record.runs]
    if len({data_of(record) for _, record in every}) > 1:
        yield "The runs are of different data: their accuracies are not of the same images."
    for name in differing([run.options for run in runs]):
        if name not in LABEL:
            yield f"The runs differ in {'; '.join(f'{run.options.get(name, name)} ({run.label})' for run in runs)}."
    partial = [run.label for run in runs if "runs" in run.record and run.record.get("interrupted")]
    if partial:
        yield f"Not every seed that was asked for has ended: {'; '.join(partial)}."
    for sentence, holds in NOTES.items():
        names = [name for name, record in every if holds(record)]
        if names:
            every_run = "all runs" if len(every) > 1 else "this run"
            yield f"{sentence}: {'; '.join(names) if len(names) < len(every) else every_run}."


def name_of(run: ShownRun, record: Record) -> str:
    """Return the label of a run, with its seed where its folder has several."""
    return f"{run.label} (seed {record['corruption']['seed']})" if "runs" in run.record else run.label


def data_of(record: Record) -> str:
    """Return the data of a run in words."""
    return (
        f"{record['dataset']} from {record['data_source']}: {record['n_train']:,} training and "
        f"{record['n_test']:,} test images, {record['image_size']} px"
    )
