"""Perceptrons on few images, on the CPU: runs of a grid with their measures, and pairs that differ in one label."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bench.callbacks import NullCallback
from ..config import Model, Run, Train
from ..corruptions import KINDS
from ..data import Dataset
from ..data.source import Progress, limited
from ..defaults import resolve
from ..errors import Interrupted, UserError
from ..measures.finished import CPU, FinishedRun
from ..measures.network import logits_of
from ..measures.norms import path_norm
from ..measures.stability import stability_curves
from ..measures.suite import Report, measure_run
from ..measures.training import engine
from ..models.mlp import MLP
from ..train.loop import fit
from ..train.setup import RunContext, build_run
from ..train.state import EpochMetrics, TrainState
from .scales import corrupted_labels

TARGET_LOSS, TARGET_ACCURACY = 0.05, 0.99
"""Where a run ends: all at one loss, as in Jiang et al. 2020, because margins and flatness grow with its logarithm."""
EPOCHS, BATCH, TEST_IMAGES = 500, 64, 2_000
PAIR_BATCH = 128


def train_and_measure(
    dataset: Dataset,
    progress: Progress,
    *,
    label_corruption: float,
    width: int,
    images: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Train a perceptron with one hidden layer until it fits, and return its record with its measures.

    dataset: whole, on the CPU.
    progress: may raise Interrupted.
    label_corruption: probability that a label is replaced by a random class.
    width: hidden units.
    images: training images, a fixed choice; up to TEST_IMAGES test images.
    learning_rate: of SGD with momentum 0.9.
    seed: of labels, order and first weights.
    Raises UserError where the run does not fit its labels.
    """
    how = Train(batch_size=BATCH, lr=learning_rate, target_loss=TARGET_LOSS, target_accuracy=TARGET_ACCURACY)
    some = _few(dataset, images)
    trained, first = (_setup(some, label_corruption, seed, replace(how, epochs=EPOCHS), width) for _ in range(2))
    outcome = _fitted(trained, progress)
    run = FinishedRun(Path(), {}, tuple(map(asdict, outcome.rows)), "", trained.model.eval(), first)
    inputs, labels = run.test_sample(TEST_IMAGES)
    record = {
        **described(trained),
        "model": f"mlp_1x{width}",
        "epochs": outcome.epoch,
        "train_accuracy": outcome.rows[-1].train_accuracy,
        "test_accuracy": (logits_of(run.model, inputs).argmax(1) == labels).double().mean().item(),
    }
    report = measure_run(replace(run, record=record), progress)
    measures = {name: each.as_dict() for name, each in report.measures.items()}
    return {**record, "measures": measures, "columns": columns(report)}


def stability_of(
    dataset: Dataset,
    progress: Progress,
    *,
    label_corruption: float,
    images: int,
    learning_rate: float,
    pairs: int,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Train pairs of networks that differ in one label, and one that differs in nothing, and return their record.

    dataset, progress, label_corruption, images, learning_rate, seed: as in `train_and_measure`.
    pairs: how many labels are replaced, each alone.
    epochs: of every training.
    """
    how = Train(batch_size=PAIR_BATCH, lr=learning_rate, epochs=epochs, deterministic=True)
    setup = _setup(_few(dataset, images), label_corruption, seed, how)
    run = FinishedRun(Path(), {}, (), "", setup.model, setup)
    inputs, labels = run.train_sample(images)
    trained = 0

    def check() -> None:
        progress("networks", trained, pairs + 2)

    def trainer(*args: Any, **kwargs: Any) -> nn.Module:
        nonlocal trained
        found = engine(run, check)(*args, **kwargs)
        check()
        trained += 1
        return found

    changes = torch.linspace(0, len(labels) - 1, pairs).long().tolist()
    own, *found = stability_curves(
        trainer,
        torch.arange(len(labels)),
        labels,
        inputs,
        run.test_sample(TEST_IMAGES),
        classes=run.classes,
        changes=(None, *changes),
        epochs=epochs,
    )
    return {
        **described(setup),
        "model": "mlp_1x512",
        "epochs": epochs,
        "pairs": [[asdict(each) for each in pair] for pair in found],
        "self_pair": [asdict(each) for each in own],
    }


def _few(dataset: Dataset, images: int) -> Dataset:
    """Return some of the images, and up to TEST_IMAGES test images. Raises UserError where there are none."""
    if dataset.test is None:
        raise UserError(f"{dataset.data_source} has no test images", "name a data set that has some")
    return replace(dataset, train=limited(dataset.train, images), test=limited(dataset.test, TEST_IMAGES))


def _setup(dataset: Dataset, label_corruption: float, seed: int, train: Train, width: int = 512) -> RunContext:
    """Return a run before its first step, whose test images are not evaluated in training."""
    run = Run(
        dataset.name,  # type: ignore[arg-type]
        corruption=corrupted_labels(label_corruption, seed),
        model=Model("mlp_1x512"),
        train=replace(train, precision="fp32", compile="off", device="cpu"),
    )
    setup = build_run(resolve(run, on_gpu=False, cores=1), dataset, CPU, network=_perceptron(width))
    return replace(setup, test=None)


def described(setup: RunContext) -> dict[str, Any]:
    """Return what the record of a computation says of the run behind it."""
    dataset, run = setup.dataset, setup.run
    corruption = run.corruption
    return {
        "dataset": dataset.name,
        "data_source": dataset.data_source,
        "corruption": {
            "kind": KINDS[corruption.corruption],
            "probability": corruption.probability,
            "seed": corruption.seed,
        },
        "num_classes": dataset.num_classes,
        "n_train": len(dataset.train.index),
        "n_test": len(dataset.test.index) if dataset.test else 0,
        "batch_size": run.train.batch_size,
        "precision": run.train.precision,
        "device": str(setup.device),
    }


def _perceptron(width: int) -> Callable[..., nn.Module]:
    """Return what builds a perceptron of this width, with the arguments of models.build_model."""

    def build(name: str, *, aux_head: bool, **how: Any) -> nn.Module:
        return MLP(hidden=(width,), **how)

    return build


class _Epochs(NullCallback):
    """Remembers how many epochs have ended."""

    done = 0

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        self.done = row.epoch


def _fitted(setup: RunContext, progress: Progress) -> TrainState:
    """Train to the end. Raises Interrupted, and UserError where that is not a fit."""
    epochs = _Epochs()
    outcome = fit(setup, epochs, lambda: progress("epochs, at most", epochs.done, EPOCHS))
    if outcome.stop_reason == "interrupted":
        raise Interrupted
    if outcome.stop_reason != "target_reached":
        raise UserError(
            f"the loss is not down to {TARGET_LOSS:g} after {outcome.epoch} epochs, and measures are of fits"
        )
    return outcome


def columns(report: Report) -> dict[str, float]:
    """Return the measures of a perceptron that a grid compares: larger is expected to go with a larger gap.

    Norms and flatness are divided by sqrt(n), as in Jiang et al. 2020.
    """
    run, found = report.run, report.measures
    root, noise = math.sqrt(run.n), found["pac_bayes"].details
    weights = math.sqrt(sum(p.detach().double().square().sum().item() for p in run.model.parameters()))
    inputs, _ = run.train_sample(2)
    return {
        "parameters": float(sum(p.numel() for p in run.model.parameters())),
        "weight_norm": weights / root,
        "distance_from_start": noise["distance"] / root,
        "path_norm": path_norm(run.model, inputs) / root,
        "inverse_margin": found["spectral_complexity"].details["gamma"] ** -2,
        "spectral_complexity": found["spectral_complexity"].value,
        "frobenius_norms": found["golowich"].value,
        "neyshabur_2019": found["neyshabur"].value,
        "pac_bayes": found["pac_bayes"].value,
        "flatness": 1 / noise["sigma"] / root,
        "flatness_by_magnitude": 1 / noise["sigma_by_magnitude"] / root,
        "sharpness": found["sharpness"].value,
        "ntk_complexity": found["ntk_complexity"].value,
        "speed": found["speed"].value,
        "epochs_to_fit": float(run.record["epochs"]),
        "inverse_coherence": 1 / found["coherence"].value,
    }
