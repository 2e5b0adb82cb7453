"""What a person sees of a reproduction: one line a task, a live line with the time left, and the closing table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..bench.console import ConsoleProgress, loss_of, percent, while_training
from ..corruptions import KINDS
from ..text import duration
from ..train.loop import StepProgress
from ..train.setup import RunContext
from ..train.state import EpochMetrics, TrainState
from .scales import NAMES
from .spec import Task, TheoryTask

STYLES = {"pass": "green", "fail": "red", "not run": "yellow"}


def describe(task: Task) -> str:
    """Return a task in one line: network, data and what is out of the usual."""
    if isinstance(task, TheoryTask):
        parts = [task.name, task.dataset]
        for name, value in task.options:
            if value is not None:
                text = " and ".join(value).replace("_", " ") if isinstance(value, tuple) else f"{value:,}"
                parts.append(f"{name.replace('_', ' ')} {text}")
        return ", ".join([*parts, f"seed {task.seed}"])
    corruption, train = task.corruption, task.train
    words = [
        NAMES[task.model.model] if task.model.model in NAMES else str(task.model.model),
        KINDS[corruption.corruption].replace("_", " "),
    ]
    if corruption.probability is not None:
        words[-1] += f" ({corruption.probability:g})"
    words += train.augment
    if train.weight_decay:
        words.append(f"weight decay {train.weight_decay:g}")
    if task.model.dropout:
        words.append(f"dropout {task.model.dropout:g}")
    if train.optimizer:
        words.append(train.optimizer)
    return f"{', '.join(words)}, seed {corruption.seed}"


class TaskConsole(ConsoleProgress):
    """A ConsoleProgress that prints one line a task; the live line shows how far all tasks are."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._expected: dict[Task, float] = {}
        self._done: list[Task] = []
        self._task: Task | None = None
        self._began = self._task_began = time.perf_counter()

    def plan(self, expected: dict[Task, float]) -> None:
        """Take the tasks to come, and the seconds that each is expected to take."""
        self._expected, self._began = expected, time.perf_counter()

    def start(self, task: Task) -> None:
        """Begin a task."""
        self._task, self._task_began = task, time.perf_counter()

    def _head(self) -> str:
        what = describe(self._task) if self._task is not None else ""
        return f"{len(self._done) + 1}/{len(self._expected)}  {what}"

    def end_task(self, line: str) -> None:
        """Print a line for a task that has ended, with its time."""
        took = duration(time.perf_counter() - self._task_began)
        self.console.print(f"{self._head()}: {line}, {took}", soft_wrap=True)
        if self._task is not None:
            self._done.append(self._task)

    def on_load(self, what: str, done: int, total: int) -> None:
        self.show(f"{self._head() if self._task else ''}  {what}: {done:,} of {total:,}  {self._eta()}")

    def begin(self, setup: RunContext) -> None:
        """Print nothing: the line of the task has it."""

    def on_ready(self, outcome: TrainState) -> None:
        """Print nothing."""

    def on_progress(self, tick: StepProgress) -> None:
        self.show(f"{self._head()}  epoch {tick.epoch + 1}  {loss_of(tick)}{self._eta()}")

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        if row.train_accuracy is None:
            found = while_training(row)
        else:
            found = f"train {percent(row.train_accuracy)}  test {percent(row.test_accuracy)}"
        self.show(f"{self._head()}  epoch {row.epoch}  {found}  {self._eta()}")

    def _eta(self) -> str:
        """What is left, at the pace of the tasks that are done."""
        if self._task not in self._expected:
            return ""
        done = sum(self._expected[task] for task in self._done)
        pace = (self._task_began - self._began) / done if done else 1.0
        own = pace * self._expected[self._task] - (time.perf_counter() - self._task_began)
        ahead = pace * (sum(self._expected.values()) - done - self._expected[self._task])
        if own > 0:
            return f"ETA {duration(ahead + own)}"
        return f"ETA over {duration(ahead)}" if ahead > 0 else "takes longer than expected"

    def close(self, record: dict[str, Any], folder: str) -> None:
        """Print the line of a run that has ended; nothing if it was interrupted."""
        if record["interrupted"]:
            return
        reasons = {"target_reached": "fitted", "max_epochs": "all epochs used", "non_finite_loss": "loss not finite"}
        self.end_task(
            f"{reasons[record['stop_reason']]} after {record['epochs']} epochs, "
            f"train {percent(record['train_accuracy'])}, test {percent(record['test_accuracy'])}"
        )


def show_summary(console: Console, values: dict[str, Any], out: Path) -> None:
    """Print the findings, and for each experiment how many numbers have which verdict.

    values: as in reproduction.json.
    out: its folder.
    """
    table = Table("experiment", "finding", "holds", "with", header_style="bold")
    for name, experiment in values["experiments"].items():
        for finding in experiment["findings"]:
            verdict = finding["verdict"]
            table.add_row(name, finding["statement"], Text(verdict, STYLES[verdict]), finding["value"])
    console.print(table)
    for name, experiment in values["experiments"].items():
        counts: dict[str, int] = {}
        for rows in experiment["tables"]:
            for row in rows["rows"]:
                for value in row["values"]:
                    counts[value["verdict"]] = counts.get(value["verdict"], 0) + 1
        line = f"{name}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items()) or 'no row'}"
        why = experiment["skipped_because"]
        if counts or why:
            console.print(f"{line} ({why})" if why else line, soft_wrap=True)
    console.print(f"rethink-fast report {out} makes a page of it", soft_wrap=True)
