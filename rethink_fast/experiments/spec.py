"""What an experiment is made of: tasks to be carried out, and tables, plots and findings that are judged from them.

An experiment is a value: it names its tasks and holds small functions of their results. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..bench.seeds import spread
from ..config import DatasetName, Run
from ..defaults import ResolvedRun


@dataclass(frozen=True)
class TheoryTask:
    """A task that is not a plain run: a computation of theory_tasks.py.

    name: theorem1, table3, grid run, stability or memorization.
    options: further arguments of its function.
    seed: of the random labels, projections or filters; of the others as of a run.
    """

    name: str
    dataset: DatasetName
    options: tuple[tuple[str, Any], ...] = ()
    seed: int = 0


Task = Run | TheoryTask
ResolvedTask = ResolvedRun | TheoryTask


def with_seed(task: Task, number: int) -> Task:
    """Return the same task with its seed increased by `number`."""
    if isinstance(task, TheoryTask):
        return replace(task, seed=task.seed + number)
    return replace(task, corruption=replace(task.corruption, seed=task.corruption.seed + number))


@dataclass(frozen=True)
class Result:
    """What a task left.

    record: its result.json.
    curve: a dict for each epoch; () of a computation.
    """

    record: dict[str, Any]
    curve: tuple[dict[str, float | None], ...] = ()


Measure = Callable[[Result], float | None]
"""A number of one result, None where it has none (a milestone that was not reached)."""


class NotRun(Exception):
    """Raised by `Results` where a task has no result."""


class Failed(Exception):
    """Raised by `Results` where a task has ended without a usable result; says why."""


@dataclass(frozen=True)
class Spread:
    """A measure over seeds.

    n: seeds that have it.
    of: seeds that have run.
    mean, std: over those n; std is the sample standard deviation, 0 of a single one.
    """

    n: int
    of: int
    mean: float
    std: float
    least: float
    most: float


class Results:
    """The results of a reproduction so far, by task.

    results: what each finished task left, or in words why it failed.
    seeds: runs of each task.
    """

    def __init__(self, results: Mapping[Task, Result | str], seeds: int) -> None:
        self._results, self._seeds = results, seeds

    def all(self, task: Task) -> list[Result]:
        """Return the results of every seed that has run. Raises NotRun if none has, Failed if all of those failed."""
        return list(self._by_seed(task).values())

    def _by_seed(self, task: Task) -> dict[int, Result]:
        seeds = {number: self._results.get(with_seed(task, number)) for number in range(self._seeds)}
        usable = {number: result for number, result in seeds.items() if isinstance(result, Result)}
        if usable:
            return usable
        for result in seeds.values():
            if isinstance(result, str):
                raise Failed(result)
        raise NotRun

    def first(self, task: Task) -> Result:
        """Return the result of the first seed that has one. Raises NotRun or Failed."""
        return self.all(task)[0]

    def spread(self, task: Task, measure: Measure, baseline: Task | None = None) -> Spread:
        """Return a measure over the seeds.

        baseline: the task whose measure is subtracted, seed by seed.
        Raises NotRun, or Failed where no seed has the measure.
        """
        results = self._by_seed(task)
        others: dict[int, float | None] = dict.fromkeys(results, 0.0)
        if baseline is not None:
            others = {number: measure(result) for number, result in self._by_seed(baseline).items()}
        pairs = [(measure(result), others.get(number)) for number, result in results.items()]
        values = [one - other for one, other in pairs if one is not None and other is not None]
        if not values:
            raise Failed("not reached")
        over = spread(values)
        return Spread(len(values), len(results), over["mean"], over["std"], over["min"], over["max"])

    def mean(self, task: Task, measure: Measure) -> float:
        """Return the mean of a measure over the seeds. Raises NotRun or Failed."""
        return self.spread(task, measure).mean


@dataclass(frozen=True)
class Value:
    """One number of a row: the paper's (in words where it is none, None where there is none), and ours.

    tolerance: how far ours may be from the paper's, in the column's unit.
    reason: why the tolerance is so large.
    comparable_at_any_scale: whether the paper's number is expected of a smaller scale too (100 % of the training set,
    chance on the test set).
    extra_tolerance: what a result adds to the tolerance by the size of its own sample.
    baseline: the task whose measure is subtracted, seed by seed.
    """

    column: str
    measure: Measure
    paper: float | str | None = None
    tolerance: float = 0.0
    reason: str = ""
    comparable_at_any_scale: bool = False
    extra_tolerance: Measure | None = None
    baseline: Task | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table.

    labels: what it is, in the words of the table's columns.
    task: the run behind it; None where this scale has none.
    values: its numbers.
    """

    labels: tuple[str, ...]
    task: Task | None
    values: tuple[Value, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    labels: the columns that name a row.
    unit: of all its numbers.
    """

    title: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    unit: str = "%"


@dataclass(frozen=True)
class Series:
    """A curve of a plot.

    y: NaN for a gap.
    spread: a standard deviation for each point, or ().
    mark: a point to be marked: x, y, and why.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()
    mark: tuple[float, float, str] | None = None


@dataclass(frozen=True)
class Plot:
    """A figure of the paper.

    paper: its curves.
    ours: returns ours, with the same labels.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    paper: tuple[Series, ...]
    ours: Callable[[Results], list[Series]]
    x_limit: float | None = None
    y_limits: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """A table of what many results say together. cells: its header and its rows, in words."""

    title: str
    cells: Callable[[Results], tuple[list[str], list[list[str]]]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """Whether a finding holds, and the numbers that say so."""

    passed: bool
    value: str


@dataclass(frozen=True)
class Finding:
    """A qualitative finding of the paper, as an assertion.

    statement: the finding.
    margin: what has to hold, in words and numbers.
    check: decides whether it does; raises NotRun or Failed.
    """

    statement: str
    margin: str
    check: Callable[[Results], Check]


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper: its tasks in the order in which they are run, and what is made of them.

    deviations: what differs from the paper, or is not stated in it.
    skipped_because: why this scale skips it, or "".
    exports: files that are written next to the report, by name, once every task has a result.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    findings: tuple[Finding, ...] = ()
    deviations: tuple[str, ...] = ()
    skipped_because: str = ""
    summaries: tuple[Summary, ...] = ()
    exports: tuple[tuple[str, Callable[[Results], str]], ...] = ()
