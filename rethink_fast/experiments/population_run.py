"""A population of perceptrons, each on a random part of the training set: how much each sample is memorised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Model, ModelName, Run, Train
from ..data import Dataset
from ..data.source import Progress, limited
from ..defaults import resolve
from ..env import cores
from ..memorize import folder as files
from ..memorize.plan import check_covered, missing
from ..memorize.population import MOST
from ..memorize.result import ROUNDING
from ..memorize.run import finish
from ..memorize.training import train_models
from ..train.setup import build_run
from .grid_run import described
from .scales import corrupted_labels

MODEL: ModelName = "mlp_1x512"
RATIO = 0.7
STEPS = 40
"""Of memorization from 0 to 1, at which samples are counted."""


def memorization_of(
    dataset: Dataset,
    progress: Progress,
    folder: Path,
    device: torch.device,
    warn: Callable[[str], None],
    *,
    label_corruption: float,
    images: int | None,
    models: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Train a population, or the models that FOLDER/population lacks, and return its record.

    dataset: whole.
    progress: may raise Interrupted; the groups of models that are done are then kept.
    folder: of the task.
    device: where the models train.
    warn: takes a sentence for the user.
    label_corruption: probability that a label is replaced by a random class.
    images: training images, and as many test images at most; None for all.
    models: how many; each trains on RATIO of the images until all of its labels are right.
    learning_rate: of SGD with momentum 0.9.
    seed: of labels, subsets, order and first weights.
    Raises UserError.
    """
    run = Run(
        dataset.name,  # type: ignore[arg-type]
        corruption=corrupted_labels(label_corruption, seed),
        model=Model(MODEL),
        train=Train(lr=learning_rate, precision="fp32", compile="off"),
    )
    some = replace(dataset, train=limited(dataset.train, images), test=dataset.test and limited(dataset.test, images))
    setup = build_run(resolve(run, on_gpu=device.type == "cuda", cores=cores()), some, device)
    what, done = "models", 0

    def check() -> None:
        progress(what, done, models)

    check_covered(setup, models, RATIO, check)
    path, settings = folder / "population", files.identity(setup, RATIO)
    with files.own(path, settings):
        for group in missing(files.usable_groups(path, setup, warn), models, MOST):

            def tick(epoch: int, ended: int, images: int, start: int = group.start) -> None:
                nonlocal what, done
                what, done = f"epoch {epoch}, models", start + ended

            files.save(path, group, train_models(setup, group, RATIO, check, tick))
        found = finish(path, setup, settings, "top", check)
    scores = found.scores
    of = {"all": np.ones_like(scores.changed), "changed": scores.changed, "unchanged": ~scores.changed}
    return {
        **described(setup),
        "model": MODEL,
        "models": models,
        "population": found.values["result"],
        "at_least": {name: at_least(scores.memorization[which]) for name, which in of.items() if which.any()},
    }


def at_least(memorization: np.ndarray) -> list[float]:
    """Return the share of samples whose memorization is at least k / STEPS, for k from 0 to STEPS."""
    return [float((memorization >= k / STEPS - ROUNDING).mean()) for k in range(STEPS + 1)]
