"""The report of one or several runs as Markdown, every word of it escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..bench.console import percent
from ..bench.saved import Record
from ..bench.seeds import spread
from ..markdown import bullets, escape, heading, paragraph, table
from ..measures import view
from ..text import duration, number
from .runs import ShownRun, data_of, name_of, notes

HEADER = [
    *("run", "epochs", "train accuracy", "test accuracy", "best test accuracy", "train loss", "time to memorize"),
    *("train loss at most 0.05", "end", "data", "device", "folder"),
]
ENDS = {
    "target_reached": "reached its goal",
    "max_epochs": "epochs used up",
    "interrupted": "interrupted",
    "non_finite_loss": "loss not finite",
}


def text(runs: Sequence[ShownRun], pictures: Mapping[str, str], measured: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return the report.

    pictures: the title of each, by its file's name.
    measured: measures.json of the runs that have one, with their labels.
    """
    alone = len(runs) == 1
    lines = heading(1, runs[0].label if alone else f"{len(runs)} runs over one another")
    lines += paragraph(
        "Accuracies and losses are those of full passes in eval mode after each epoch. Test labels are never "
        "corrupted. The time to memorize is that of training alone, until every training label is reproduced."
    )
    lines += heading(2, "Curves") if pictures else paragraph("No epoch has been evaluated: there are no curves.")
    for name, title in pictures.items():
        lines += [*heading(3, title), f"![{escape(title)}]({name})", ""]
    lines += heading(2, "Results") + table(HEADER, [row for run in runs for row in _rows(run)]) + bullets(notes(runs))
    for label, values in measured:
        lines += view.section(values, view.TITLE if alone and len(measured) == 1 else f"Measures of {label}")
    return "\n".join([*lines, "Made by rethink-fast report.", ""])


def _rows(run: ShownRun) -> Iterator[list[str]]:
    for record in run.record.runs:
        yield [
            name_of(run, record),
            str(record["epochs"]),
            *(percent(record.get(key)) for key in ("train_accuracy", "test_accuracy")),
            _best(record),
            _loss(record.get("train_loss")),
            _moment(record, "accuracy>=1.0"),
            _moment(record, "loss<=0.05"),
            ENDS[record["stop_reason"]],
            data_of(record),
            _device(record),
            str(record.folder),
        ]
    if len(run.record.runs) > 1:
        records = run.record.runs
        means = [_mean(records, key) for key in ("train_accuracy", "test_accuracy", "best_test_accuracy")]
        times = [_mean_seconds(records, key) for key in ("accuracy>=1.0", "loss<=0.05")]
        blank = ["-"] * 4
        yield [f"{run.label}, mean ± standard deviation", "-", *means, "-", *times, *blank]


def _best(record: Record) -> str:
    epoch = record.get("best_test_epoch")
    return percent(record.get("best_test_accuracy")) + (f" after epoch {epoch}" if epoch is not None else "")


def _loss(value: float | None) -> str:
    return "-" if value is None else number(value)


def _moment(record: Record, name: str) -> str:
    moment = record["time_to_memorize"].get(name)
    return "not reached" if moment is None else f"{duration(moment['seconds'])}, {moment['epochs']} epochs"


def _mean(records: Sequence[Record], key: str) -> str:
    values = [record[key] for record in records if record.get(key) is not None]
    if not values:
        return "-"
    found = spread(values)
    return f"{percent(found['mean'])} ± {100 * found['std']:.2f} (n = {len(values)})"


def _mean_seconds(records: Sequence[Record], name: str) -> str:
    moments = [record["time_to_memorize"].get(name) for record in records]
    seconds = [moment["seconds"] for moment in moments if moment is not None]
    if not seconds:
        return "not reached"
    found = spread(seconds)
    few = f" of {len(records)}" if len(seconds) < len(records) else ""
    return f"{number(found['mean'])} ± {number(found['std'])} s (n = {len(seconds)}{few})"


def _device(record: Record) -> str:
    facts = record["environment"]
    where = facts["gpu"]["name"] if facts["gpu"] and record["device"] != "cpu" else facts["processor"]
    threads = f", {facts['threads']} thread{'s' * (facts['threads'] != 1)}" if record["device"] == "cpu" else ""
    return f"{where}{threads}, {record['precision']}"
