"""What a population gives: the object for Python, and the files that it is written to."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..env import environment
from ..files import to_json
from ..train.setup import RunContext
from ..train.throughput import training_flops
from .folder import write
from .influence import top, whole
from .presentations import SCORES
from .scores import Scores, find_changed, gap_identity
from .training import Trained

InfluenceName = Literal["top", "all"]
HIGH, ROUNDING = 0.25, 1e-9
"""Where Feldman and Zhang (2020) begin to count a sample as memorised, and what rounding a difference of shares has."""
COLUMNS = (
    *("index", "label", "clean_label", "corrupted", "memorization", "memorization_probability", "c_score"),
    *("standard_error", "in_count", "out_count"),
)


@dataclass(frozen=True)
class Memorization:
    """The scores of a population of models.

    folder: where it was written. values: memorize.json. scores: by sample.
    """

    folder: Path
    values: dict[str, Any]
    scores: Scores


def summary(setup: RunContext, settings: dict[str, Any], scores: Scores, parts: Sequence[Trained]) -> dict[str, Any]:
    """Return what goes into memorize.json: settings, result, timings and environment as plain values."""
    run, dataset = setup.run, setup.dataset
    images, seconds = sum(part.images for part in parts), sum(part.seconds for part in parts)
    flops, batch = training_flops(setup)
    epochs = np.concatenate([part.epochs for part in parts])
    memorization, changed = scores.memorization, scores.changed
    return {
        "settings": settings,
        "models": len(epochs),
        "dataset": dataset.name,
        "data_source": dataset.data_source,
        "n_train": len(scores.index),
        "n_test": len(dataset.test.index) if dataset.test is not None else 0,
        "classes": list(dataset.classes),
        "model": run.model.model,
        "parameters": setup.parameters,
        "corruption": {"kind": run.corruption.corruption, "probability": run.corruption.probability},
        "result": {
            "gap_identity": gap_identity(scores, parts, settings["ratio"]),
            "models_that_reached": int(np.concatenate([part.reached for part in parts]).sum()),
            "mean_epochs": float(epochs.mean()),
            "changed_labels": int(changed.sum()),
            "mean_memorization_changed": float(memorization[changed].mean()) if changed.any() else None,
            "mean_memorization_clean": float(memorization[~changed].mean()) if not changed.all() else None,
            "highly_memorized": int((memorization >= HIGH - ROUNDING).sum()),
            "mean_standard_error": float(scores.standard_error.mean()),
            "least_in_count": int(scores.in_count.min()),
            "least_out_count": int(scores.out_count.min()),
            "auroc_of_changed_labels": find_changed(scores, parts),
        },
        "timings": {
            "seconds": seconds,
            "images": images,
            "images_per_second": images / seconds,
            "tflop": images * flops / batch / 1e12,
            "tflop_per_second": images * flops / batch / 1e12 / seconds,
        },
        "environment": environment(),
    }


def keep(path: Path, found: Memorization, parts: Sequence[Trained], setup: RunContext, wanted: InfluenceName) -> None:
    """Write the results but for the picture, memorize.json last. Raises UserError."""
    scores, n_test = found.scores, found.values["n_test"]
    write(path / "scores.csv", table(scores))
    predictions = {"index": scores.index, "labels": scores.label, "pred_probs": scores.pred_probs}
    write(path / "predictions.npz", partial(np.savez_compressed, **predictions))  # type: ignore[arg-type]
    if n_test and setup.dataset.test is not None:
        influences: dict[str, np.ndarray] = {"test_index": setup.dataset.test.index.numpy()}
        if wanted == "all":
            influences |= {"train_index": scores.index, "influence": whole(parts)}
        else:
            places, values = top(parts)
            influences |= {"train_index": scores.index[places], "influence": values}
        write(path / "influence.npz", partial(np.savez, **influences))  # type: ignore[arg-type]
    write(path / "memorize.json", to_json(found.values) + "\n")


def table(scores: Scores) -> str:
    """Return the text of scores.csv: a row for each training sample, in ascending order of its index."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow((*COLUMNS, *SCORES))
    columns: list[Any] = [getattr(scores, name) for name in COLUMNS] + [scores.single[name] for name in SCORES]
    for row in zip(*(column.tolist() for column in columns), strict=True):
        writer.writerow([int(value) if isinstance(value, bool | int) else f"{value:.6g}" for value in row])
    return out.getvalue()
