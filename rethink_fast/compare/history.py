"""A folder of records, and how a new record compares with the last of those that are like it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .metrics import MeasuredRecord, Metric, read
from .records import RecordComparison, differing, line

LAST = 10
"""The old side of a comparison is at most so many records: older ones may be of other code."""

IGNORED_FILES = ("reproduction.json", "comparison.json")
"""Known files of a folder of records that are not records."""


def load(folder: Path) -> list[MeasuredRecord]:
    """Return every record of a folder, the oldest first. Raises UserError for none, and for a file that is not one."""
    paths = sorted(path for path in folder.glob("*.json") if path.name not in IGNORED_FILES)
    found = sorted((read(path) for path in paths), key=lambda record: record.date)
    if not found:
        raise UserError(
            f"{folder} holds no records (*.json)",
            "give a record, or a folder of them such as benchmarks/results",
            value=folder,
        )
    return found


def compare(history: Sequence[MeasuredRecord], record: MeasuredRecord, threshold: float) -> RecordComparison:
    """Compare a record with the last records of the same kind, scale and machine. Raises UserError without any."""
    others = [other for other in history if other.path.resolve() != record.path.resolve()]
    alike = [
        other
        for other in others
        if other.kind == record.kind
        and not differing(other.scale, record.scale)
        and not differing(other.machine, record.machine)
    ][-LAST:]
    if not alike:
        near = next((other for other in others if other.kind == record.kind), None)
        why = "there is none of its kind" if len(others) == len(history) else "none of its kind but itself"
        if near is not None:
            apart = differing({**near.scale, **near.machine}, {**record.scale, **record.machine})
            why = f"the nearest differs in {apart}"
        raise UserError(
            f"{record.path} has no like in a history of {len(history)} records: {why}",
            "give a folder that holds one",
            value=record.path,
        )
    known = {name: _together(name, alike) for other in alike for name in other.figures}
    lines = [line(known[name], figure, threshold) for name, figure in record.figures.items() if name in known]
    note = f"the old is the median of the last {len(alike)} records like it, {alike[0].date} to {alike[-1].date}"
    missing = [(name, "not in the history") for name in record.figures if name not in known]
    return RecordComparison(
        str(alike[0].path.parent), str(record.path), threshold, tuple(lines), (note,), tuple(missing)
    )


def _together(name: str, records: Sequence[MeasuredRecord]) -> Metric:
    """The samples of one figure in all records that have it."""
    figures = [record.figures[name] for record in records if name in record.figures]
    values = tuple(value for figure in figures for value in figure.values)
    return Metric(name, values, figures[-1].more_is_better, figures[-1].machine_independent)
