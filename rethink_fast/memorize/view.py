"""What a person sees of a population: its setting, its progress, and the tables at its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.table import Table

from ..bench.console import ConsoleProgress, percent
from ..corruptions import KINDS
from ..text import duration
from ..train.setup import RunContext
from .population import side_by_side

NAMES = {"aum": "AUM", "el2n": "EL2N", "c_score": "C-score", "first_learned": "first epoch learned"}
NAMES |= {"memorization_probability": "memorization, by probability", "forgetting": "forgetting events"}


class Progress:
    """The live line of the models that this process trains. models: how many in all."""

    def __init__(self, screen: ConsoleProgress, models: int, epochs: int) -> None:
        self._screen, self._models, self._epochs = screen, models, epochs
        self._done, self._began = 0, time.perf_counter()

    def begin(self, group: range) -> None:
        """Take up some models."""
        self._group, self._started = group, time.perf_counter()

    def tick(self, epoch: int, done: int, images: int) -> None:
        """Show an epoch: models done, images/s, and the time left, at most while no group is done."""
        now, group = time.perf_counter(), self._group
        rest = (now - self._started) / epoch * (self._epochs - epoch) * (len(group) - done) / len(group)
        later = self._models - self._done - len(group)
        per_model = (
            (self._started - self._began) / self._done if self._done else (now - self._started + rest) / len(group)
        )
        self._screen.show(
            f"{self._done + done} of {self._models} models done; {group.start} to {group.stop - 1}: epoch {epoch}, "
            f"{len(group) - done} in training  {images / (now - self._started):,.0f} images/s  "
            f"ETA at most {duration(rest + later * per_model)}"
        )

    def end(self) -> None:
        """Count the models as done."""
        self._done += len(self._group)


def begin(screen: ConsoleProgress, setup: RunContext, models: int, ratio: float, there: int) -> None:
    """Say what is about to be trained, and how."""
    run, dataset = setup.run, setup.dataset
    n_test = len(dataset.test.index) if dataset.test is not None else 0
    screen.print(
        f"{dataset.name}: {len(dataset.train.index):,} training and {n_test:,} test images, {dataset.num_classes} "
        f"classes, from {dataset.data_source}; {KINDS[run.corruption.corruption]}, "
        f"{percent(setup.label_flip_fraction)} of the labels changed"
    )
    how = (
        "side by side"
        if side_by_side(run)
        else "one after another (side by side: perceptrons by sgd in fp32 without dropout)"
    )
    screen.print(
        f"{models} models of {run.model.model}, {setup.parameters:,} parameters each, on {setup.device} in "
        f"{run.train.precision}, {how}; each on {percent(ratio)} of the images; seed {run.corruption.seed}"
    )
    if there:
        screen.print(f"{there} of them are there already")


def show(screen: ConsoleProgress, values: dict[str, Any], folder: Path) -> None:
    """Print the gap identity, the scores against changed labels, and the rate."""
    result, timings = values["result"], values["timings"]
    gap = result["gap_identity"]
    if result["models_that_reached"] < values["models"]:
        screen.warn(
            f"{values['models'] - result['models_that_reached']} of {values['models']} models did not reach the target "
            f"accuracy on their samples in the epochs given: the scores are of models that have not fitted them"
        )
    screen.print(
        f"mean memorization {gap['mean_memorization']:.4f}; train accuracy {gap['train_accuracy']:.4f} - held-out "
        f"accuracy {gap['held_out_accuracy']:.4f} = {gap['train_accuracy'] - gap['held_out_accuracy']:.4f}: "
        f"{_verdict(gap, '')}"
    )
    if gap["test_holds"] is not None:
        screen.print(
            f"train accuracy - test accuracy {gap['test_accuracy']:.4f} = "
            f"{gap['train_accuracy'] - gap['test_accuracy']:.4f}: {_verdict(gap, 'test_')}"
        )
    elif gap["test_accuracy"] is not None:
        screen.print(
            f"test accuracy {gap['test_accuracy']:.4f}, not compared: its labels are clean, and some of those of the "
            f"held-out images are changed"
        )
    else:
        screen.warn("no test set: influence is skipped")
    screen.print(
        f"standard error of one sample's memorization: {result['mean_standard_error']:.2f} on average, from at least "
        f"{result['least_in_count']} models with it and {result['least_out_count']} without"
    )
    found = result["auroc_of_changed_labels"]
    if found is not None:
        screen.print(
            f"mean memorization of {result['changed_labels']:,} changed labels "
            f"{result['mean_memorization_changed']:.3f}, of the others {result['mean_memorization_clean']:.3f}"
        )
        table = Table(header_style="bold")
        table.add_column("AUROC of changed labels")
        table.add_column(f"{values['models']} models", justify="right")
        table.add_column("one model", justify="right")
        for name, row in found.items():
            cells = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("population", "one_model")]
            table.add_row(NAMES.get(name, name), *cells)
        screen.console.print(table)
    screen.print(
        f"{timings['images_per_second']:,.0f} images/s over models, {timings['tflop_per_second']:.3g} TFLOP/s, "
        f"evaluation included; {timings['tflop']:.3g} TFLOP in {duration(timings['seconds'])}"
    )
    screen.print(f"record: {folder}")


def _verdict(gap: dict[str, Any], prefix: str) -> str:
    held = "within" if gap[f"{prefix}holds"] else "NOT within"
    return f"difference {gap[f'{prefix}difference']:+.4f}, {held} the tolerance of {gap[f'{prefix}tolerance']:.4f}"
