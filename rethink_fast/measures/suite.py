"""The measures of a finished run, and what differs between two runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..data.source import Progress
from .coherence import coherence
from .finished import FinishedRun, check_accuracy
from .golowich import golowich
from .held_out import held_out
from .measurement import Measurement, Unreadable
from .network import frozen, logits_of, read
from .neyshabur import neyshabur
from .norms import positions
from .ntk_complexity import ntk_complexity
from .pac_bayes import pac_bayes
from .sharpness import sharpness
from .spectral_complexity import spectral_complexity
from .speed import speed
from .vc_dimension import vc_dimension

SCHEMA = 1
MARGINS, NTK, NOISE, ASCENT, GRADIENTS = 5000, 4000, 1000, 1024, 500
"""Images that each measure takes at most."""
LEAST = 128
AFFORDED = 2e6
"""Multiply-adds of a forward pass up to which a measure that repeats it takes all its images; above, fewer."""


@dataclass(frozen=True)
class Report:
    """What was measured of one run.

    measures: in the order of the report, the gap first.
    not_measured: why, by name.
    subsampled: how many images a measure took of how many, by name.
    """

    run: FinishedRun
    measures: dict[str, Measurement]
    not_measured: dict[str, str]
    subsampled: dict[str, tuple[int, int]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for measures.json."""
        record = self.run.record
        return {
            "schema": SCHEMA,
            **{name: record[name] for name in ("dataset", "data_source", "model", "corruption", "n_train", "n_test")},
            "classes": self.run.classes,
            "weights": self.run.weights,
            "measures": {name: each.as_dict() for name, each in self.measures.items()},
            "not_measured": self.not_measured,
            "subsampled": {name: list(counts) for name, counts in self.subsampled.items()},
        }


def multiply_adds(run: FinishedRun) -> int:
    """Return those of a forward pass of one image; the number of parameters where the layers cannot be read."""
    example, _ = run.train_sample(2)
    try:
        layers = read(frozen(run.model, example), example).weighted
    except Unreadable:
        return sum(p.numel() for p in run.model.parameters())
    return sum(layer.weight.numel() * positions(layer) for layer in layers)


def share_of(run: FinishedRun) -> float:
    """Return the share of its images that a measure takes which makes many passes."""
    return min(1.0, AFFORDED / multiply_adds(run))


def measure_run(run: FinishedRun, progress: Progress = lambda *_: None) -> Report:
    """Measure a run by passes alone: nothing is trained.

    progress: called before each measure.
    Raises UserError where the images are not those of the run.
    """
    share = share_of(run)
    record, model, initial, n, k = run.record, run.model, run.initial, run.n, run.classes
    inputs, labels = run.train_sample(max(MARGINS, LEAST))
    check_accuracy(run, logits_of(model, inputs).argmax(1) == labels)
    losses = [loss for row in run.curve if (loss := row["online_loss"]) is not None]
    taken: dict[str, int] = {}

    def some(name: str, most: int, *, repeated: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        taken[name] = min(len(inputs), max(LEAST, round(most * share)) if repeated else most)
        return inputs[: taken[name]], labels[: taken[name]]

    planned: dict[str, Callable[[], Measurement]] = {
        "gap": lambda: held_out(record["train_accuracy"], record["test_accuracy"], record["n_test"], k),
        "vc_dimension": lambda: vc_dimension(model, inputs, n, train_error=1 - record["train_accuracy"], classes=k),
        "spectral_complexity": lambda: spectral_complexity(
            model, initial, *some("spectral_complexity", MARGINS, repeated=False), n=n, classes=k
        ),
        "golowich": lambda: golowich(model, initial, *some("golowich", MARGINS, repeated=False), n=n),
        "neyshabur": lambda: neyshabur(model, initial, *some("neyshabur", MARGINS, repeated=False), n=n),
        "pac_bayes": lambda: pac_bayes(model, initial, *some("pac_bayes", NOISE), n=n, classes=k),
        "sharpness": lambda: sharpness(model, *some("sharpness", ASCENT)),
        "ntk_complexity": lambda: ntk_complexity(*some("ntk_complexity", NTK, repeated=False), classes=k),
        "speed": lambda: speed(losses),
        "coherence": lambda: coherence(model, initial, *some("coherence", GRADIENTS)),
    }
    measures, skipped = {}, {}
    for done, (name, measure) in enumerate(planned.items()):
        progress(f"measuring {name.replace('_', ' ')}", done, len(planned))
        try:
            measures[name] = measure()
        except Unreadable as error:
            skipped[name] = str(error)
            taken.pop(name, None)
    subsampled = {name: (count, n) for name, count in taken.items() if count < n}
    return Report(run, measures, skipped, subsampled)
