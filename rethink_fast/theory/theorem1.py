"""Theorem 1 at work: random labels on all images of a data set, fitted by the network of two_layer.py, and counted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..corruptions import random_labels
from ..data.source import Dataset, Progress
from .pixels import images_and_labels
from .two_layer import fit


@dataclass(frozen=True)
class Theorem1Result:
    """What was fitted, and how exactly the network gives it back.

    labels_reproduced: labels, of n, that are the evaluated network's output rounded to a whole number.
    deviation: the largest difference between an output and its label in that evaluation.
    exact_deviation: the same in exact arithmetic.
    rounding, smallest_gap, spread, duplicates, tries: see `InterpolatingFit`.
    build_seconds: from the images to the weights.
    evaluate_seconds: n^2 neurons by the definition.
    """

    dataset: str
    data_source: str
    seed: int
    n: int
    d: int
    weights: int
    labels_reproduced: int
    deviation: float
    exact_deviation: float
    rounding: float
    smallest_gap: float
    spread: float
    duplicates: int
    tries: int
    build_seconds: float
    evaluate_seconds: float
    device: str

    @property
    def exact(self) -> bool:
        """Whether every label was reproduced."""
        return self.labels_reproduced == self.n

    def as_dict(self) -> dict[str, Any]:
        """Return every figure as a plain value."""
        return {**asdict(self), "exact": self.exact}


def run_theorem1(dataset: Dataset, seed: int, progress: Progress | None = None) -> Theorem1Result:
    """Fit random labels on every training image of a data set, evaluate the network, and return both.

    dataset: its images in memory.
    seed: of the random labels and the projection.
    progress: called with (what, done, total); may raise to stop.
    Raises UserError, for example where an image is in the data set twice and was given two different labels.
    """
    images, original = images_and_labels(dataset.train)
    points, index = images.flatten(1), dataset.train.index
    labels = random_labels(original.cpu(), index, num_classes=dataset.num_classes, seed=seed).to(points.device)
    if progress is not None:
        progress("building the network of theorem 1", 0, len(points))
    started = time.perf_counter()
    fitted = fit(points, labels, seed)
    built = time.perf_counter()
    outputs = fitted.network(points, progress)
    deviation = float((outputs - labels).abs().max())
    evaluated = time.perf_counter()
    return Theorem1Result(
        dataset=dataset.name,
        data_source=dataset.data_source,
        seed=seed,
        n=len(points),
        d=points.shape[1],
        weights=fitted.network.weights,
        labels_reproduced=int((outputs.round() == labels).sum()),
        deviation=deviation,
        exact_deviation=fitted.deviation,
        **{name: getattr(fitted, name) for name in ("rounding", "smallest_gap", "spread", "duplicates", "tries")},
        build_seconds=built - started,
        evaluate_seconds=evaluated - built,
        device=str(points.device),
    )
