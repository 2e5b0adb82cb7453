"""A folder of records, and how a new record compares with the last of those that are like it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .metrics import MeasuredRecord, Metric, read
from .records import RecordComparison, compare_figure, differing

LAST = 10
"""The old side of a comparison is at most so many records: older ones may be of other code."""

IGNORED_FILES = ("reproduction.json", "comparison.json")
"""Known files of a folder of records that are not records."""


def load(folder: Path) -> list[MeasuredRecord]:
    """Return every record of a folder, the oldest first. Raises UserError for none, and for a file that is not one."""
    paths = sorted(path for path in folder.glob("*.json") if path.name not in IGNORED_FILES)
    records = sorted((read(path) for path in paths), key=lambda record: record.date)
    if not records:
        raise UserError(
            f"{folder} holds no records (*.json)",
            "give a record, or a folder of them such as benchmarks/results",
            value=folder,
        )
    return records


def compare(history: Sequence[MeasuredRecord], record: MeasuredRecord, threshold: float) -> RecordComparison:
    """Compare a record with the last records of the same kind, scale and machine. Raises UserError without any."""
    earlier = [other for other in history if other.path.resolve() != record.path.resolve()]
    same_kind = [other for other in earlier if other.kind == record.kind]
    alike = [other for other in same_kind if not _differing(other, record)][-LAST:]
    if not alike:
        why = "there is none of its kind" if len(earlier) == len(history) else "none of its kind but itself"
        if same_kind:
            why = f"the nearest differs in {_differing(same_kind[0], record)}"
        raise UserError(
            f"{record.path} has no like in a history of {len(history)} records: {why}",
            "give a folder that holds one",
            value=record.path,
        )
    known = {name: _together(name, alike) for other in alike for name in other.figures}
    lines = [compare_figure(known[name], figure, threshold) for name, figure in record.figures.items() if name in known]
    note = f"the old is the median of the last {len(alike)} records like it, {alike[0].date} to {alike[-1].date}"
    missing = [(name, "not in the history") for name in record.figures if name not in known]
    return RecordComparison(
        str(alike[0].path.parent), str(record.path), threshold, tuple(lines), (note,), tuple(missing)
    )


def _differing(old: MeasuredRecord, new: MeasuredRecord) -> str:
    return differing({**old.scale, **old.machine}, {**new.scale, **new.machine})


def _together(name: str, records: Sequence[MeasuredRecord]) -> Metric:
    """The samples of one figure in all records that have it."""
    figures = [record.figures[name] for record in records if name in record.figures]
    values = tuple(value for figure in figures for value in figure.values)
    return Metric(name, values, figures[-1].more_is_better, figures[-1].machine_independent)
