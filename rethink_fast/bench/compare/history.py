"""The committed records: every figure over time, the steps in it, and where a new record stands after the last one.

A step is found as in asv: the series is cut into segments of constant level such that the distances to the levels,
plus a price for each cut, are least (Potts' functional in the L1 norm). The price comes from the series' own noise.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .figures import Figure, Record, read
from .records import Comparison, differing, line

PRICE = 8.0
"""Of a cut, in standard deviations of the noise and for each doubling of the length: no cut in 99 of 100 series of
noise alone (tests/test_compare_history.py)."""
LEAST_NOISE = 1e-3
"""Of the logarithm of a figure: no step is smaller than a few times this, though the series be constant."""


@dataclass(frozen=True)
class Series:
    """One figure over the records of one kind, scale and machine, the oldest first. labels: their dates."""

    name: str
    labels: tuple[str, ...]
    figures: tuple[Figure, ...]

    @property
    def values(self) -> list[float]:
        """The median of each record."""
        return [statistics.median(figure.values) for figure in self.figures]

    def steps(self) -> list[int]:
        """Where a new level begins, positions from 1."""
        return steps([math.log(value) for value in self.values])

    def last_level(self) -> Figure:
        """All samples since the last step, as one figure."""
        begin = ([0, *self.steps()])[-1]
        some = self.figures[-1]
        values = tuple(value for figure in self.figures[begin:] for value in figure.values)
        return Figure(some.name, values, some.more_is_better, some.travels)


def load(folder: Path) -> list[Record]:
    """Every record of a folder, the oldest first. Raises UserError where there is none, or for what is none."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UserError(
            f"{folder} holds no records (*.json): give a record, or a folder of them such as benchmarks/results."
        )
    return sorted(found, key=lambda record: record.date)


def like(history: Sequence[Record], record: Record) -> list[Record]:
    """Those of the same kind, scale and machine, without the record itself."""
    return [
        other
        for other in history
        if other.kind == record.kind
        and other.path.resolve() != record.path.resolve()
        and not differing(other.scale, record.scale)
        and not differing(other.machine, record.machine)
    ]


def series(history: Sequence[Record]) -> list[Series]:
    """Every figure of records that are alike."""
    names = {name: None for record in history for name in record.figures}
    out = []
    for name in names:
        having = [record for record in history if name in record.figures]
        labels = tuple(record.date for record in having)
        out.append(Series(name, labels, tuple(record.figures[name] for record in having)))
    return out


def groups(history: Sequence[Record]) -> list[list[Record]]:
    """The history, cut into those that are alike."""
    out: list[list[Record]] = []
    for record in history:
        for group in out:
            if like([group[0]], record):
                group.append(record)
                break
        else:
            out.append([record])
    return out


def compare(history: Sequence[Record], record: Record, threshold: float) -> Comparison:
    """A record with the last level of each of its figures. Raises UserError where there is nothing like it."""
    others = like(history, record)
    if not others:
        near = next((other for other in history if other.kind == record.kind), None)
        why = "there is none of its kind"
        if near is not None:
            apart = differing({**near.scale, **near.machine}, {**record.scale, **record.machine})
            why = f"the nearest differs in {apart}"
        raise UserError(f"{record.path} has no like in a history of {len(history)} records: {why}.")
    known = {each.name: each for each in series(others)}
    usable = [name for name in record.figures if name in known]
    lines = [line(known[name].last_level(), record.figures[name], threshold) for name in usable]
    note = f"the old is the last level of {len(others)} records, {others[0].date} to {others[-1].date}"
    missing = [(name, "not in the history") for name in record.figures if name not in known]
    folder = others[0].path.parent
    return Comparison(str(folder), str(record.path), threshold, tuple(lines), (note,), tuple(missing))


def steps(values: Sequence[float]) -> list[int]:
    """Where the level of a series changes: positions of the first value of each new level."""
    n = len(values)
    if n < 2:
        return []
    jumps = [abs(b - a) for a, b in itertools.pairwise(values)]
    noise = max(statistics.median(jumps) / (0.6745 * math.sqrt(2.0)), LEAST_NOISE)
    price = PRICE * noise * math.log2(2 * n) / 2
    best, cut = [-price], [0]
    for end in range(1, n + 1):
        costs = []
        for begin in range(end):
            middle = statistics.median(values[begin:end])
            costs.append(best[begin] + price + sum(abs(value - middle) for value in values[begin:end]))
        begin = min(range(end), key=costs.__getitem__)
        best.append(costs[begin])
        cut.append(begin)
    found, end = [], n
    while end > 0:
        end = cut[end]
        found.append(end)
    return sorted(found)[1:]
