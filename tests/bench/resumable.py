"""Runs in this process that stop at a step and go on from their checkpoint, as a resumed process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.errors import Interrupted
from rethink_fast.train.checkpoint import Checkpoints
from rethink_fast.train.loop import StepProgress, fit
from rethink_fast.train.preprocessing import wants_windows
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.state import EpochMetrics, TrainState

CPU = torch.device("cpu")


class Saving:
    """Callback that writes checkpoints into a folder."""

    def __init__(self, setup: RunContext, folder: Path) -> None:
        self.setup, self.checkpoints = setup, Checkpoints(folder)

    def on_ready(self, outcome: TrainState) -> None: ...

    def on_progress(self, tick: StepProgress) -> None: ...

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None: ...

    def save(self, outcome: TrainState) -> None:
        self.checkpoints.save(self.setup, outcome)


def made(
    dataset: str = "mnist", *, data: str = "synthetic", size: int | None = None, limit: int = 40, **given: Any
) -> RunContext:
    """A run that is set up. given: cache_images, and options of Corruption, Model and Train by name."""
    cache_images = given.pop("cache_images", "auto")
    seed, kind = given.pop("seed", 0), given.pop("corruption", "random")
    model = Model(given.pop("model", None), dropout=given.pop("dropout", 0.0), aux_head=given.pop("aux_head", False))
    train = Train(**{"batch_size": 16, "epochs": 3, "lr": 1e-3, **given})
    where = Data(data=data, size=size, max_samples=limit, cache_images=cache_images)
    run = resolve(Run(dataset, where, Corruption(kind, seed=seed), model, train), on_gpu=False, cores=1)  # type: ignore[arg-type]
    options = DataOptions(
        data,
        size=run.data.size,
        max_samples=limit,
        cache_images=cache_images,
        workers=1,
        crop_margin="crop" in train.augment,
        random_windows=wants_windows(run),
    )
    return build_run(run, load_dataset(dataset, options), CPU)


def trained(setup: RunContext, folder: Path, *, stop_after: int | None = None, resumed: bool = False) -> TrainState:
    """Train, from the folder's checkpoint if resumed. stop_after: steps of this session before it is interrupted."""
    outcome = Checkpoints(folder).load(setup)[0] if resumed else None
    calls = 0

    def check() -> None:
        nonlocal calls
        if calls == stop_after:
            raise Interrupted
        calls += 1

    return fit(setup, Saving(setup, folder), check, outcome=outcome)


def figures(outcome: TrainState) -> list[dict[str, Any]]:
    """The rows of the curve without what a clock measured."""
    timed = ("train_seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in outcome.as_dict()["rows"]]
