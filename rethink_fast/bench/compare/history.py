"""The committed records: every figure over time, the steps in it, and where a new record stands after the last one.

A step is found as in asv: the series is cut into segments of constant level such that the distances to the levels,
plus a price for each cut, are least (Potts' functional in the L1 norm). The price comes from the series' own noise.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .figures import Figure, NotARecord, Record, read
from .records import Comparison, differing, line

PRICE = 8.0
"""Of a cut, in standard deviations of the noise and for each doubling of the length: no cut in 99 of 100 series of
noise alone (tests/test_compare_history.py)."""
LEAST_NOISE = 1e-3
"""Of the logarithm of a figure: no step is smaller than a few times this, though the series be constant."""

OTHERS = ("reproduction.json", "comparison.json")
"""What may lie in a folder of records, is known, and is none."""


@dataclass(frozen=True)
class Step:
    """A change of level. at: the position of the new level's first value; ratio: the new level over the old."""

    at: int
    ratio: float
    better: bool


@dataclass(frozen=True)
class Series:
    """One figure over those records that have it, of one kind and scale, the oldest first.

    They are of one machine, unless the figure means the same on all.
    """

    name: str
    records: tuple[Record, ...]

    @property
    def figures(self) -> list[Figure]:
        """The figure in each record."""
        return [record.figures[self.name] for record in self.records]

    @property
    def values(self) -> list[float]:
        """The median of each record."""
        return [statistics.median(figure.values) for figure in self.figures]

    def levels(self) -> list[tuple[int, int, float]]:
        """Begin, end and median of each stretch without a step."""
        values = self.values
        cuts = [0, *steps([math.log(value) for value in values]), len(values)]
        return [(begin, end, statistics.median(values[begin:end])) for begin, end in itertools.pairwise(cuts)]

    def steps(self) -> list[Step]:
        """The changes from each level to the next."""
        more = self.figures[0].more_is_better
        pairs = itertools.pairwise(self.levels())
        return [Step(begin, after / before, (after > before) == more) for (_, _, before), (begin, _, after) in pairs]

    def last_level(self) -> Figure:
        """All samples since the last step, as one figure."""
        begin, _, _ = self.levels()[-1]
        some = self.figures[-1]
        values = tuple(value for figure in self.figures[begin:] for value in figure.values)
        return Figure(some.name, values, some.more_is_better, some.travels)


def load(folder: Path) -> list[Record]:
    """Every record of a folder, the oldest first. Raises UserError where there is none, or for what is none."""
    found, refused = scan(folder)
    if refused:
        raise refused[0][1]
    if not found:
        raise UserError(
            f"{folder} holds no records (*.json): give a record, or a folder of them such as benchmarks/results."
        )
    return found


def scan(folder: Path) -> tuple[list[Record], list[tuple[Path, NotARecord]]]:
    """Every record of a folder, the oldest first; and every *.json there that is none and not of OTHERS, with why."""
    found, refused = [], []
    for path in sorted(path for path in folder.glob("*.json") if path.name not in OTHERS):
        try:
            found.append(read(path))
        except NotARecord as error:
            refused.append((path, error))
    return sorted(found, key=lambda record: record.date), refused


def like(history: Sequence[Record], record: Record) -> list[Record]:
    """Those of the same kind, scale and machine, without the record itself."""
    others = _without(history, record)
    return [other for other in others if _one_scale(other, record) and _one_machine(other, record)]


def _without(history: Sequence[Record], record: Record) -> list[Record]:
    return [other for other in history if other.path.resolve() != record.path.resolve()]


def _one_scale(a: Record, b: Record) -> bool:
    return a.kind == b.kind and not differing(a.scale, b.scale)


def _one_machine(a: Record, b: Record) -> bool:
    return not differing(a.machine, b.machine)


def series(history: Sequence[Record]) -> list[Series]:
    """Every figure of records that are alike."""
    names = {name: None for record in history for name in record.figures}
    out = []
    for name in names:
        out.append(Series(name, tuple(record for record in history if name in record.figures)))
    return out


def groups(history: Sequence[Record]) -> list[list[Record]]:
    """The history, cut into those of one kind and scale."""
    return _cut(history, _one_scale)


def machines(history: Sequence[Record]) -> list[list[Record]]:
    """The history, cut into those of one machine and its versions."""
    return _cut(history, _one_machine)


def over_machines(group: Sequence[Record]) -> list[Series]:
    """Every figure of records of one kind and scale: over all of them if it travels, else for each machine apart."""
    names = {name: record.figures[name].travels for record in group for name in record.figures}
    together = {each.name: [each] for each in series(group) if names[each.name]}
    apart = [each for some in machines(group) for each in series(some)]
    return [each for name in names for each in together.get(name) or [one for one in apart if one.name == name]]


def _cut(history: Sequence[Record], alike: Callable[[Record, Record], bool]) -> list[list[Record]]:
    out: list[list[Record]] = []
    for record in history:
        group = next((group for group in out if alike(group[0], record)), None)
        if group is None:
            out.append([record])
        else:
            group.append(record)
    return out


def compare(history: Sequence[Record], record: Record, threshold: float) -> Comparison:
    """A record with the last level of each of its figures. Raises UserError where there is nothing like it."""
    others = like(history, record)
    if not others:
        rest = _without(history, record)
        near = next((other for other in rest if other.kind == record.kind), None)
        why = "there is none of its kind" if len(rest) == len(history) else "none of its kind but itself"
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
