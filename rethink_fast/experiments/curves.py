"""Curves of plots, made from the results of training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..bench.seeds import spread
from ..config import Run
from .spec import Failed, NotRun, Results, Series


def available(makers: Iterable[Callable[[], Series]]) -> list[Series]:
    """Return the series that can be made: a curve whose runs are missing or failed is skipped."""
    curves = []
    for maker in makers:
        try:
            curves.append(maker())
        except (NotRun, Failed):
            continue
    return curves


def over_epochs(results: Results, run: Run, label: str, key: str, unit: float = 1.0) -> Series:
    """Return a column of metrics.csv over the epochs: the mean over the seeds that got so far, and their spread.

    key: name of the column.
    unit: epochs in a unit of the axis.
    Raises NotRun or Failed.
    """
    columns: dict[float, list[float]] = {}
    seeds = results.all(run)
    for result in seeds:
        for row in result.curve:
            value, epoch = row[key], row["epoch"]
            if value is not None and epoch is not None:
                columns.setdefault(epoch, []).append(value)
    epochs = tuple(sorted(columns))
    over = [spread(columns[epoch]) for epoch in epochs]
    x, y, std = (epoch / unit for epoch in epochs), (each["mean"] for each in over), (each["std"] for each in over)
    return Series(label, tuple(x), tuple(y), tuple(std) if len(seeds) > 1 else ())


def first_crossing(points: Iterable[tuple[float | None, float | None]], level: float) -> float | None:
    """Return the first x at which a falling curve is at most `level`, on straight lines between its points.

    points: (x, y) by rising x; one that lacks a number is skipped.
    Returns the x of the first point where that is low enough already; None where no point is.
    """
    before = None
    for x, y in points:
        if x is None or y is None:
            continue
        if y <= level:
            return x if before is None else before[0] + (before[1] - level) / (before[1] - y) * (x - before[0])
        before = x, y
    return None
