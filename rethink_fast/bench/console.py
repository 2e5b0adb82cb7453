"""What a person sees: a live line while training, a line per epoch, a closing table; plain lines without a terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

from rich.console import Console

from .. import kernels
from ..contention import overloaded
from ..corruptions import KINDS
from ..recipes import fast_recipe
from ..terminal import LiveLine, number_table
from ..text import duration
from ..train.loop import StepProgress
from ..train.setup import RunContext
from ..train.state import EpochMetrics, TrainState

SETS = ("train", "test")


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage for people; never rounded up to 100 %."""
    if fraction is None:
        return "-"
    if fraction < 1.0:
        fraction = min(fraction, 0.9999)
    return f"{100 * fraction:.2f} %"


def while_training(row: EpochMetrics) -> str:
    """Return what there is to show of an epoch that was not evaluated."""
    return f"while training: loss {row.online_loss:.4f}  train {percent(row.online_accuracy)}"


def loss_of(tick: StepProgress) -> str:
    """Return the loss as a live line has it, with two spaces after it; nothing while it is not known."""
    return "" if tick.loss is None else f"loss {tick.loss:.4f}  "


class ConsoleProgress(LiveLine):
    """Show a run on a console; a Callback of the training loop. Use as a context manager around the run.

    console: where to print.
    log: also log each warning, for a console that shows nothing.
    """

    def __init__(self, console: Console, *, log: bool = False) -> None:
        super().__init__(console)
        self._log = log
        self._train_accuracy: float | None = None
        self._epochs = 0
        self._begun = False
        self._first_epoch = 0
        self._started = time.perf_counter()

    def warn(self, line: str) -> None:
        """Print a line that must not be missed: a fallback, samples skipped, a file that was not written."""
        self.print(line)
        if self._log:
            logging.getLogger("rethink_fast").warning("%s", line)

    def on_load(self, what: str, done: int, total: int) -> None:
        """Show the progress of a long preparation of the data."""
        self.count(what, done, total)

    def begin(self, setup: RunContext) -> None:
        """Print in two lines what is about to run, and before the first run what makes it slow."""
        for line in (kernels.slow(setup.device), overloaded()) if not self._begun else ():
            if line is not None:
                self.warn(line)
        self._begun = True
        run, dataset = setup.run, setup.dataset
        self._epochs = run.train.epochs
        n_test = len(dataset.test.index) if dataset.test else 0
        self.print(
            f"{dataset.name}: {len(dataset.train.index):,} training and {n_test:,} test images, "
            f"{dataset.num_classes} classes, from {dataset.data_source}"
        )
        for where, split in (("training", dataset.train), ("test", dataset.test)):
            if split is not None and split.damaged:
                self.warn(f"skipped {len(split.damaged)} damaged {where} image(s), the first {split.damaged[0][0]}")
        self.print(
            f"{run.model.model}, {setup.parameters:,} parameters, at {run.data.size} px on {setup.device} in "
            f"{run.train.precision}; {KINDS[run.corruption.corruption]}, {percent(setup.label_flip_fraction)} of the "
            f"labels changed; seed {run.corruption.seed}"
        )
        for change in run.recipe_overrides:
            self.print(f"this is no longer the recipe {run.train.recipe}: {change}")
        if run.train.recipe == "fast":
            n = len(dataset.train.index)
            found_on = fast_recipe(run.model.model, n).images
            if not 0.5 <= n / found_on <= 2:
                self.print(
                    f"--recipe fast of {run.model.model} was found on {found_on:,} images, and this run has {n:,}"
                )

    def on_ready(self, outcome: TrainState) -> None:
        """Print how the step runs, and why."""
        self._first_epoch, self._started = outcome.epoch, time.perf_counter()
        decision = outcome.compile
        self.print(f"the step is {'compiled' if decision['enabled'] else 'eager'}: {decision['reason']}")

    def on_progress(self, tick: StepProgress) -> None:
        """Show the live line: epoch, loss, train accuracy of the last evaluation, images/s, and the most time left."""
        rate = tick.images_per_second
        done = tick.epoch + tick.step / tick.steps
        elapsed = time.perf_counter() - self._started
        left = elapsed / max(done - self._first_epoch, 1e-9) * (self._epochs - done)
        self.show(
            f"epoch {tick.epoch + 1}/{self._epochs}  step {tick.step}/{tick.steps}  {loss_of(tick)}"
            f"train {percent(self._train_accuracy)}  {rate:,.0f} images/s  ETA at most {duration(left)}"
        )

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        """Print a line for an epoch that was evaluated; show any other in the live line."""
        rate = f"{row.images_per_second:,.0f} images/s  {duration(row.train_seconds)}"
        if row.train_accuracy is None:
            self.show(f"epoch {row.epoch:>3}  {while_training(row)}  {rate}")
            return
        self._train_accuracy = row.train_accuracy
        subsets = ""
        if row.clean_accuracy is not None and row.corrupted_accuracy is not None:
            subsets = f"  clean {percent(row.clean_accuracy)}  corrupted {percent(row.corrupted_accuracy)}"
        self.print(
            f"epoch {row.epoch:>3}  loss {row.train_loss:.4f}  train {percent(row.train_accuracy)}{subsets}  "
            f"test {percent(row.test_accuracy)}  {rate}"
        )

    def close(self, record: dict[str, Any], folder: str) -> None:
        """Print the verdict and the tables of a run that has ended.

        record: as in result.json.
        folder: where the record is.
        """
        if record["stop_reason"] == "non_finite_loss":
            self.print(f"the loss became NaN or infinite at step {record['first_non_finite_step']}")
        self.print(_verdict(record))
        table = number_table("time to memorize", "seconds", "epochs", "steps")
        for name, moment in record["time_to_memorize"].items():
            cells = [f"{moment['seconds']:.2f}", str(moment["epochs"]), str(moment["steps"])] if moment else ["-"] * 3
            table.add_row(_milestone(name), *cells)
        self.console.print(table)
        rate = record["images_per_second"]
        self.print(f"{rate:,.0f} images/s in training" if rate else "no step was made")
        self.print(
            f"training {duration(record['train_seconds'])} (waiting for data {percent(record['data_wait_fraction'])}), "
            f"evaluation {duration(record['eval_seconds'])}, compilation {duration(record['compile_seconds'])}, "
            f"checkpoints {duration(record['checkpoint_seconds'])}, "
            f"peak memory {record['peak_memory_bytes'] / 2**20:,.0f} MiB"
        )
        contention = record["environment"]["contention"]
        if contention is not None and contention["busy"]:
            uses = [use for use in (contention["gpu_start"], contention["gpu_end"]) if use is not None]
            others = max((use["other_processes"] for use in uses), default=0)
            shared = f" and other processes shared the GPU ({others});" if others else ";"
            self.print(
                f"the machine was busy: in this session a thread that was ready to run had a processor for "
                f"{percent(contention['processor_share'])} of its time{shared} times of this run are unfit to compare"
            )
        self.print(f"record: {folder}")

    def close_seeds(self, record: dict[str, Any], folder: str) -> None:
        """Print mean and spread over the seeds.

        record: the record over all seeds.
        folder: where it is.
        """
        seeds = len(record["seeds"])
        self.print(f"{record['memorized']} of {seeds} runs memorized every label")
        table = number_table(f"over {seeds} seeds", "n", "mean", "std", "least", "most")
        for name, values in record["summary"].items():
            cells = [f"{values[key]:,.4g}" for key in ("mean", "std", "min", "max")]
            table.add_row(name.replace("_", " "), str(values["n"]), *cells)
        self.console.print(table)
        self.print(f"record: {folder}")


def _milestone(name: str) -> str:
    kind, level = name.replace("<=", ">=").split(">=")
    return f"train loss <= {level} (the paper's rule)" if kind == "loss" else f"train accuracy {100 * float(level):g} %"


def _top5(record: dict[str, Any], which: str) -> str:
    value = record[f"{which}_top5_accuracy"]
    return "" if value is None else f" (top 5 {percent(value)})"


def _verdict(record: dict[str, Any]) -> str:
    kind = record["corruption"]["kind"]
    scores = ", ".join(f"{which} {percent(record[f'{which}_accuracy'])}{_top5(record, which)}" for which in SETS)
    if record["best_test_accuracy"] != record["test_accuracy"]:
        scores += f", at best {percent(record['best_test_accuracy'])} after epoch {record['best_test_epoch']}"
    chance = f" (chance {percent(1 / record['num_classes'])})" if record["test_accuracy"] is not None else ""
    state = (
        "memorized"
        if record["memorized"]
        else {
            "target_reached": "reached the accuracy asked for",
            "max_epochs": "not memorized in the epochs given",
            "interrupted": "interrupted",
            "non_finite_loss": "stopped: loss not finite",
        }[record["stop_reason"]]
    )
    return f"{record['model']} on {record['dataset']}, {kind}: {state}. {scores}{chance}"
