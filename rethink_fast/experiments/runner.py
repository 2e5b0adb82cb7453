"""`rethink-fast reproduce`: carries out the tasks of experiments that have no result yet, and judges what is there.

DIR/runs/KEY/ holds the record of each task, DIR/reproduction.json what they say of the paper; both are valid at every
moment. A reproduction that was stopped goes on where it was, and experiments share the tasks that they have in common.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from .. import kernels
from ..bench.record_folder import RecordFolder, read_curve
from ..bench.run import EXIT_BAD_INPUT
from ..bench.seeds import run_one
from ..bench.signals import GracefulStop
from ..config import Run, Session
from ..contention import overloaded
from ..crash import save_in
from ..data.digest import key_of
from ..defaults import ResolvedRun, resolve
from ..env import choose_device, cores, environment, unused_gpu
from ..errors import Interrupted, UserError
from ..files import check_writable, write_atomic, write_json, writing
from ..output import never_failing
from ..owned_folder import OwnedFolder
from ..train.checkpoint import Checkpoints
from ..train.distributed import Distributed
from ..train.setup import build_run
from . import EXPERIMENTS, Experiment, Scale, cache
from .console import TaskConsole, describe, show_summary
from .datasets import Sources
from .estimate import Estimates, show_plan
from .reproduction import REPRODUCTION
from .results import describe_task, keep, summary
from .selection import is_wanted, of_models, trained
from .spec import Failed, NotRun, ResolvedTask, Result, Results, Task, TheoryTask, with_seed
from .theory_tasks import compute
from .verdicts import judge

EXIT_FAILED = 1
CHECKPOINT_SECONDS = 30.0
MAKE_ROOM = "make room, and give the same command again"


@dataclass
class TaskEntry:
    """A task with one seed.

    task: as declared.
    resolved: with every default filled in.
    identity: what its numbers depend on, see cache.py.
    folder: where its result is kept.
    """

    task: Task
    resolved: ResolvedTask
    identity: dict[str, Any]
    folder: Path


def reproduce(
    names: Sequence[str],
    scale: Scale,
    out: Path,
    console: Console,
    *,
    seeds: int = 1,
    models: Sequence[str] = (),
    paths: dict[str, str] | None = None,
    download: bool = False,
    device: str = "auto",
) -> int:
    """Reproduce experiments, write OUT/reproduction.json, and return the exit code.

    The code is 0 if every task has a result and every finding holds, 1 if not, 2 if data was missing, 128 + N after
    signal N.

    names: keys of EXPERIMENTS.
    scale: how large the runs are.
    out: the folder, new or that of a reproduction to go on with.
    console: where to print.
    seeds: runs of each task.
    models: run the tasks of these networks, or of what stands in for them, only; keep what there is of the others; ()
        runs all.
    paths: where data sets are, by name; the others are looked for in the usual places.
    download: fetch CIFAR-10 and MNIST where they are not found.
    device: cpu, cuda, cuda:N or auto.
    Raises UserError for bad input.
    """
    if Distributed.from_environment().is_distributed:
        raise UserError("a reproduction is carried out by one process", "start it without torchrun")
    chosen = choose_device(device)
    declared = {name: EXPERIMENTS[name](scale) for name in names}
    models = trained(declared, models, scale)
    experiments = of_models(declared, models)
    tasks = [task for experiment in experiments.values() for task in experiment.tasks]
    sources = Sources(tasks, paths or {}, chosen, cores(), download=download)
    stop = GracefulStop()
    with stop.listening(), never_failing(console, stop.output_closed), OwnedFolder(out) as folder:
        for note in (folder.note, unused_gpu(device)):
            if note:
                console.print(note, soft_wrap=True)
        try:
            return Reproduction(experiments, scale, out, console, stop, seeds, models, sources, chosen).carry_out()
        except Interrupted:
            console.print(f"stopped: what is done is kept in {out}, and the same command goes on from there")
            return 128 + (stop.signal or 0)


@dataclass
class Reproduction:
    """One reproduction: its tasks, and the results so far.

    entries: each task with each seed whose data could be opened.
    results: of each finished task; in words why it failed.
    missing: why an experiment cannot run, whole or in part, by its name.
    """

    experiments: dict[str, Experiment]
    scale: Scale
    out: Path
    console: Console
    stop: GracefulStop
    seeds: int
    models: Sequence[str]
    sources: Sources
    device: torch.device
    entries: dict[Task, TaskEntry] = field(default_factory=dict)
    results: dict[Task, Result | str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.screen = TaskConsole(self.console)

    def carry_out(self) -> int:
        """Run every task without a result, judge all, and return the exit code."""
        save_in(self.out)
        for name in (REPRODUCTION, *(name for each in self.experiments.values() for name, _ in each.exports)):
            check_writable(self.out / name, MAKE_ROOM)
        with self.screen:
            for note in (kernels.slow(self.device), overloaded()):
                if note is not None:
                    self.console.print(note, soft_wrap=True)
            for name, experiment in self.experiments.items():
                self._enter(name, experiment)
            estimates = Estimates(self.scale, self.sources, self.device)
            expected = {
                entry.task: estimates.seconds(entry.resolved)
                for entry in self.entries.values()
                if entry.task not in self.results and is_wanted(entry.task, self.models)
            }
            self._show_plan(expected)
            self.write()
            self.screen.plan(expected)
            for task in expected:
                self.stop.check()
                self._carry_out(self.entries[task])
                self.write()
        values = self.write()
        show_summary(self.console, values, self.out)
        for path in self._export(Results(self.results, self.seeds)):
            self.console.print(f"{path} has every run", soft_wrap=True)
        return self._code(values)

    def _progress(self, what: str, done: int, total: int) -> None:
        self.stop.check()
        self.screen.on_load(what, done, total)

    def _enter(self, name: str, experiment: Experiment) -> None:
        """Resolve the tasks of an experiment and look for their results; one whose data is missing is skipped.

        So is one of another network, where its data set is not among those of the wanted.
        """
        opened = {task.dataset for task in experiment.tasks if is_wanted(task, self.models)}
        if experiment.skipped_because:
            self.missing[name] = experiment.skipped_because
        problems = {}
        for number in range(self.seeds):
            for declared in experiment.tasks:
                task = with_seed(declared, number)
                if task in self.entries or declared.dataset in problems or declared.dataset not in opened:
                    continue
                try:
                    self.sources.dataset(task, self._progress)
                except UserError as error:
                    problems[declared.dataset] = str(error)
                    continue
                self.entries[task] = self._entry(task)
                self._look_up(self.entries[task])
        if problems:
            whole = all(dataset in problems for dataset in opened)
            which = "" if whole else "in part: "
            self.missing[name] = which + "; ".join(problems.values())

    def _entry(self, task: Task) -> TaskEntry:
        on_gpu = self.device.type == "cuda"
        resolved = resolve(task, on_gpu=on_gpu, cores=cores()) if isinstance(task, Run) else task
        identity = cache.identity(resolved, self.sources.identity(task), self.device)
        return TaskEntry(task, resolved, identity, self.out / "runs" / key_of(identity))

    def _look_up(self, entry: TaskEntry) -> None:
        try:
            result = cache.load(entry.folder, entry.identity)
        except ValueError as error:
            self.console.print(f"{entry.folder} cannot be used ({error}): it is made again", soft_wrap=True)
            with writing(entry.folder, MAKE_ROOM):
                shutil.rmtree(entry.folder)
            return
        if result is not None:
            self.results[entry.task] = _usable(result)

    def _show_plan(self, expected: dict[Task, float]) -> None:
        counted: set[Task] = set()

        def line(experiment: Experiment) -> tuple[int, int, float]:
            tasks = [with_seed(task, number) for number in range(self.seeds) for task in experiment.tasks]
            tasks = [task for task in tasks if task in self.entries and is_wanted(task, self.models)]
            new = [task for task in tasks if task in expected and task not in counted]
            counted.update(new)
            return len(tasks), len(tasks) - len(new), sum(expected[task] for task in new)

        only = f", {' and '.join(self.models)} alone" if self.models else ""
        title = f"scale {self.scale.name}: {self.scale.words}; {self.seeds} seed(s), on {self.device}{only}"
        self.console.print(title, soft_wrap=True)
        show_plan(self.console, self.experiments, line, self.missing)

    def _carry_out(self, entry: TaskEntry) -> None:
        """Run one task, or resume it. A failure is kept as a sentence, and the others go on."""
        self.screen.start(entry.task)
        try:
            if isinstance(entry.resolved, ResolvedRun):
                record = self._train(entry.resolved, entry)
            else:
                record = self._compute(entry.resolved, entry)
        except UserError as error:
            self.results[entry.task] = str(error)
            self.screen.end_task(f"failed: {error}")
            return
        with writing(entry.folder, MAKE_ROOM):
            cache.mark_complete(entry.folder, entry.identity)
        curve = entry.folder / "metrics.csv"
        self.results[entry.task] = _usable(Result(record, read_curve(curve) if curve.exists() else ()))

    def _train(self, run: ResolvedRun, entry: TaskEntry) -> dict[str, Any]:
        setup = build_run(run, self.sources.dataset(run), self.device)
        session = Session(checkpoint_interval=CHECKPOINT_SECONDS)
        with RecordFolder(entry.folder, resumed=entry.folder.exists()) as folder:
            checkpoints = Checkpoints(entry.folder)
            try:
                checkpoints.load(setup)
                resumed = True
            except UserError:
                checkpoints.remove()
                resumed = False
            record = run_one(setup, folder, session, self.screen, self.stop, resumed=resumed)
            if not folder.kept:
                raise UserError(f"{entry.folder} cannot be written", MAKE_ROOM, value=entry.folder)
            if record["interrupted"]:
                raise Interrupted
            checkpoints.remove()
        return record

    def _compute(self, task: TheoryTask, entry: TaskEntry) -> dict[str, Any]:
        start = time.perf_counter()
        dataset, warn = self.sources.dataset(task), self.screen.warn
        result = compute(task, dataset, self._progress, folder=entry.folder, device=self.device, warn=warn)
        record = {**result, "seconds": time.perf_counter() - start, "environment": environment()}
        with writing(entry.folder, MAKE_ROOM):
            entry.folder.mkdir(parents=True, exist_ok=True)
            write_json(entry.folder / "result.json", record)
        self.screen.end_task("done")
        return record

    def write(self) -> dict[str, Any]:
        """Judge all results so far, add them to reproduction.json, and return its contents."""
        results = Results(self.results, self.seeds)
        keys = {task: entry.folder.name for task, entry in self.entries.items()}
        experiments = {name: judge(each, results, keys, self.seeds) for name, each in self.experiments.items()}
        for name, why in self.missing.items():
            experiments[name]["skipped_because"] = why
        runs = {keys[task]: describe_task(describe(task), self.results.get(task)) for task in self.entries}
        values = summary(self.scale, self.seeds, experiments, runs)
        keep(self.out, values)
        return values

    def _export(self, results: Results) -> list[Path]:
        """Write the files of the experiments that have every result, and return them."""
        written = []
        for experiment in self.experiments.values():
            for name, content in experiment.exports:
                with suppress(NotRun, Failed), writing(self.out, MAKE_ROOM):
                    write_atomic(self.out / name, content(results))
                    written.append(self.out / name)
        return written

    def _code(self, values: dict[str, Any]) -> int:
        if any(name in self.missing and not each.skipped_because for name, each in self.experiments.items()):
            return EXIT_BAD_INPUT
        verdicts = [row["verdict"] for each in values["experiments"].values() for row in each["findings"]]
        failed = any(isinstance(result, str) for result in self.results.values())
        return EXIT_FAILED if failed or "fail" in verdicts else 0


def _usable(result: Result) -> Result | str:
    """Return the result, or in words why its numbers say nothing."""
    if result.record.get("stop_reason") == "non_finite_loss":
        return f"the loss became NaN or infinite at step {result.record['first_non_finite_step']}"
    return result


def default_out(scale: Scale) -> Path:
    """Return reproductions/SCALE in the current folder: the same for each experiment, so that they share runs."""
    return Path("reproductions") / scale.name
