"""Stability: pairs of perceptrons that differ in one label, on MNIST and CIFAR-10, with true and random labels."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..config import DatasetName
from .scales import Scale
from .spec import Check, Experiment, Finding, Measure, Result, Results, Summary, TheoryTask

LABELS = {"true": 0.0, "random": 1.0}
SETTINGS: dict[DatasetName, tuple[int, float, int]] = {"mnist": (2_000, 0.02, 30), "cifar10": (1_000, 0.01, 40)}
"""Images, learning rate and epochs of a pilot, whose numbers the margins are from: all labels are fitted by then."""
SHOWN = (1, 2, 4, 8, 16)
"""Epochs in the table, with the last one."""


def task(scale: Scale, dataset: DatasetName, labels: str) -> TheoryTask:
    """Return the pairs of one data set with true or random labels."""
    images, rate, epochs = SETTINGS[dataset]
    options = {
        "label_corruption": LABELS[labels],
        "images": 5 * images if scale.full else images,
        "learning_rate": rate,
        "pairs": 50 if scale.full else 4,
        "epochs": epochs,
    }
    return TheoryTask("stability", dataset, tuple(options.items()))


def _of(key: str, epoch: int = -1) -> Measure:
    """Return the mean over the pairs after an epoch, counted from 0."""
    return lambda result: statistics.fmean(pair[epoch][key] for pair in result.record["pairs"])


def _cells(scale: Scale) -> Callable[[Results], tuple[list[str], list[list[str]]]]:
    def cells(found: Results) -> tuple[list[str], list[list[str]]]:
        header = ["data", "labels", "epoch", "distance of weights", "mean test loss difference", "largest"]
        header += ["test predictions changed, %", "replaced sample learnt otherwise"]
        rows = []
        for dataset, (_, _, epochs) in SETTINGS.items():
            for labels in LABELS:
                of = task(scale, dataset, labels)
                for epoch in (*SHOWN, epochs):
                    keys = ("distance", "mean_loss", "largest_loss", "changed", "point")
                    d, mean, most, changed, point = (found.mean(of, _of(key, epoch - 1)) for key in keys)
                    numbers = [f"{d:.4f}", f"{mean:.4f}", f"{most:.2f}", f"{100 * changed:.2f}", f"{point:.2f}"]
                    rows.append([dataset, labels, str(epoch), *numbers])
        return header, rows

    return cells


def _every(scale: Scale, measure: Measure) -> Callable[[Results], dict[str, float]]:
    """Return a number of every task, by its name."""
    return lambda found: {
        f"{dataset}, {labels} labels": found.mean(task(scale, dataset, labels), measure)
        for dataset in SETTINGS
        for labels in LABELS
    }


def _largest(result: Result) -> float:
    return max(each["distance"] for each in result.record["self_pair"])


def _control(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        worst = max(_every(scale, _largest)(found).values())
        return Check(worst == 0, f"largest distance {worst:g}")

    return Finding("two networks that differ in nothing stay the same", "distance exactly 0 after every epoch", check)


def _grows(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        first, last = (_every(scale, _of("distance", epoch))(found) for epoch in (0, -1))
        growth = {name: last[name] / first[name] for name in first}
        least = min(growth, key=lambda name: growth[name])
        return Check(growth[least] >= 2, f"at least {growth[least]:.1f} times, {least}")

    return Finding(
        "one label moves the weights further with every epoch",
        "distance after the last epoch at least twice that after the first",
        check,
    )


def _uniform(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        point = _every(scale, _of("point"))(found)
        least = min(point, key=lambda name: point[name])
        return Check(point[least] == 1, f"{100 * point[least]:.0f} % of the pairs at least, {least}")

    return Finding(
        "uniform stability is refuted: each network of a pair learns its own label of the replaced sample",
        "the 0-1 error there differs by 1 in every pair, whatever the labels: beta is at least 1/2, its bound vacuous",
        check,
    )


def _average(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        changed = found.mean(task(scale, "mnist", "true"), _of("changed"))
        return Check(changed <= 0.02, f"{100 * changed:.2f} % of the test predictions")

    return Finding(
        "the average, which the bound does not see, is small on true labels",
        "at most 2 % of the test predictions change on MNIST (the pilot has 0.35 %)",
        check,
    )


def _tells_labels_apart(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        true, random = (found.mean(task(scale, "mnist", labels), _of("mean_loss")) for labels in LABELS)
        return Check(random > 2 * true, f"{random:.3f} against {true:.3f}")

    return Finding(
        "on MNIST the average tells true labels from random ones",
        "mean difference of the test loss more than twice as large with random labels (the pilot has 8 times)",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """The pairs at a scale."""
    tasks = tuple(task(scale, dataset, labels) for dataset in SETTINGS for labels in LABELS)
    pairs = dict(tasks[0].options)["pairs"]
    return Experiment(
        name="stability",
        title="Stability: what one label changes",
        tasks=tasks,
        summaries=(
            Summary(
                "Two networks trained alike but for one label",
                _cells(scale),
                (f"Means over {pairs} pairs. Distance: sqrt(|w - w'|^2 / (|w|^2 + |w'|^2)).",),
            ),
        ),
        findings=tuple(each(scale) for each in (_control, _grows, _uniform, _average, _tells_labels_apart)),
        deviations=(
            "The paper says of uniform stability that it knows nothing of the labels, and trains no pairs.",
            "Pairs share first weights, order and every draw; the perceptron is MLP 1x512, on the CPU.",
        ),
    )
