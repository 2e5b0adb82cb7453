"""Theorem 1: a two-layer ReLU network with 2n + d weights fits any labels of n points, built and then evaluated."""

from __future__ import annotations

from ..config import DatasetName
from .scales import Scale
from .spec import Check, Experiment, Finding, Result, Results, Row, Table, TheoryTask, Value

DATASETS: tuple[DatasetName, ...] = ("cifar10", "mnist")
LARGEST_MISS = 0.5
"""Labels are whole numbers: an output that misses by less is taken for the right one."""


def _number(key: str, factor: float = 1.0):  # type: ignore[no-untyped-def]
    return lambda result: factor * float(result.record[key])


def _share(result: Result) -> float:
    return 100 * result.record["labels_reproduced"] / result.record["n"]


def task(dataset: DatasetName) -> TheoryTask:
    """Return the computation: random labels on every training image of a data set."""
    return TheoryTask("theorem1", dataset)


def _exact(dataset: DatasetName) -> Finding:
    def check(results: Results) -> Check:
        records = [result.record for result in results.all(task(dataset))]
        record = max(records, key=lambda record: record["deviation"])
        passed = all(
            one["labels_reproduced"] == one["n"]
            and one["deviation"] < LARGEST_MISS
            and one["weights"] <= 2 * one["n"] + one["d"]
            for one in records
        )
        return Check(
            passed,
            f"{record['labels_reproduced']:,} of {record['n']:,} labels, {record['weights']:,} weights, largest miss "
            f"{record['deviation']:.2g}, built in {record['build_seconds']:.2f} s",
        )

    return Finding(
        f"the network of theorem 1 gives back every random label of {dataset}",
        f"all labels, a largest miss below {LARGEST_MISS:g}, at most 2n + d weights, evaluated by the definition",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """Return the experiment, on all training images at every scale: it is fast enough."""
    rows = []
    for dataset, n, d in (("cifar10", 50_000, 3072), ("mnist", 60_000, 784)):
        values = (
            Value("labels reproduced, %", _share, 100.0, 0.0, "the theorem is exact", comparable_at_any_scale=True),
            Value("weights", _number("weights"), float(2 * n + d), 0.0, "2n + d, counted"),
            Value("largest miss", _number("deviation")),
            Value("build, s", _number("build_seconds")),
            Value("evaluate, s", _number("evaluate_seconds")),
        )
        rows.append(Row((dataset,), task(dataset), values))  # type: ignore[arg-type]
    return Experiment(
        name="theorem1",
        title="Theorem 1: finite-sample expressivity",
        tasks=tuple(task(dataset) for dataset in DATASETS),
        tables=(Table("Random labels of all training images", ("data",), tuple(rows), unit=""),),
        findings=tuple(_exact(dataset) for dataset in DATASETS),
        deviations=(
            "The paper proves the theorem and computes nothing; its vector a is any that keeps the points apart, ours "
            "is random.",
            "Two equal images with different random labels have no such network: a seed that gives them is refused.",
        ),
    )
