"""The record of several runs that differ in the seed alone: each one's own, and mean and spread over them."""

from __future__ import annotations

import statistics
from typing import Any

from .record import SCHEMA_VERSION

FIGURES = (
    "train_accuracy",
    "train_top5_accuracy",
    "train_loss",
    "test_accuracy",
    "test_top5_accuracy",
    "best_test_accuracy",
    "best_test_epoch",
    "best_test_top5_accuracy",
    "epochs",
    "images_per_second",
    "train_seconds",
)


def spread(values: list[float]) -> dict[str, float]:
    """n, mean, sample standard deviation (0 of a single value), least and largest."""
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def combine(records: list[dict[str, Any]], *, wanted: int) -> dict[str, Any]:
    """One record of the records of single runs, of which `wanted` were asked for.

    summary: for each figure, and each milestone's seconds and epochs, the spread over the runs that have it: its n says
    how many reached the milestone. interrupted: whether runs are missing or were stopped.
    """
    figures: dict[str, list[float]] = {
        name: [record[name] for record in records if record.get(name) is not None] for name in FIGURES
    }
    for name in records[0]["time_to_memorize"]:
        for unit in ("seconds", "epochs"):
            moments = [record["time_to_memorize"].get(name) for record in records]
            figures[f"time_to_memorize {name} {unit}"] = [moment[unit] for moment in moments if moment is not None]
    return {
        "schema": SCHEMA_VERSION,
        "seeds": [record["corruption"]["seed"] for record in records],
        "memorized": sum(record["memorized"] for record in records),
        "interrupted": len(records) < wanted or any(record["interrupted"] for record in records),
        "summary": {name: spread(values) for name, values in figures.items() if values},
        "runs": records,
    }
