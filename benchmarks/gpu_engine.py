"""The engine's part of `make gpu-check`: the time to memorize all of CIFAR-10 with random labels, by either recipe.

Each run stops at 99.9 % train accuracy or after 10 times its target, compilation and evaluation apart. Beside
it stand the share of the matrix rate that its arithmetic reached, and what the data path takes of a step: the rate of
the run's network on one prepared batch against that of the whole step, interleaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rethink_fast.config import Corruption, Data, Model, ModelName, PrecisionName, RecipeName, Run, Train
from rethink_fast.data import Dataset
from rethink_fast.defaults import resolve
from rethink_fast.env import cores
from rethink_fast.train.loop import fit
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.throughput import training_flops

from .engine import CORRUPTIONS, Clock, Engine, Silent, overhead

UNTIL = 0.999
MILESTONE = "accuracy>=0.999"
PATIENCE = 10.0
"""A run is stopped after so many times its target."""
PATH_SECONDS = 1.0
"""Of training, for each corruption's data path."""


@dataclass(frozen=True)
class Case:
    """One run. target: the seconds of training that the issue asks for on an H200."""

    model: ModelName
    recipe: RecipeName
    target: float

    @property
    def name(self) -> str:
        return f"{self.model} --recipe {self.recipe}"


CASES = (
    Case("mlp_1x512", "paper", 6),
    Case("mlp_1x512", "fast", 1),
    Case("alexnet_small", "paper", 15),
    Case("alexnet_small", "fast", 3),
    Case("inception_small", "paper", 25),
    Case("inception_small", "fast", 5),
)


def case_of(model: str, recipe: str) -> Case:
    """Return the one of CASES of this network and recipe."""
    (case,) = (case for case in CASES if (case.model, case.recipe) == (model, recipe))
    return case


def setup_of(case: Case, dataset: Dataset, device: torch.device, *, precision: PrecisionName = "bf16") -> RunContext:
    """Set up the run of a case."""
    train = Train(recipe=case.recipe, target_accuracy=UNTIL, precision=precision)
    run = Run("cifar10", Data(), Corruption("random"), Model(case.model), train)
    return build_run(resolve(run, on_gpu=device.type == "cuda", cores=cores()), dataset, device)


@dataclass(frozen=True)
class Result:
    """seconds, epochs: to 99.9 %, or None where the run was stopped before; the rest is about the whole run."""

    case: str
    target: float
    seconds: float | None
    epochs: int | None
    train_accuracy: float | None
    train_seconds: float
    compile_seconds: float
    eval_seconds: float
    images_per_second: float
    flops_per_image: float
    share_of_matrix: float
    data_path: dict[str, float]


def run_case(
    case: Case, dataset: Dataset, device: torch.device, matrix_rate: float, *, precision: PrecisionName = "bf16"
) -> Result:
    """Run one case. matrix_rate: FLOP/s in that precision."""
    setup = setup_of(case, dataset, device, precision=precision)
    flops, images = training_flops(setup)
    outcome = fit(setup, Silent(), Clock(PATIENCE * case.target, setup.model))
    moment = outcome.milestones.as_dict()[MILESTONE]
    last = outcome.evaluated
    rate = outcome.images / outcome.train_seconds
    path = {}
    if case.recipe == "paper":  # once for each network
        engine = Engine(setup, outcome.compile)
        path = {name: overhead(engine, case.model, name, PATH_SECONDS) for name in CORRUPTIONS}
    return Result(
        case=case.name,
        target=case.target,
        seconds=moment["seconds"] if moment else None,
        epochs=moment["epochs"] if moment else None,
        train_accuracy=last.train_accuracy if last else None,
        train_seconds=outcome.train_seconds,
        compile_seconds=outcome.compile_seconds,
        eval_seconds=outcome.eval_seconds,
        images_per_second=rate,
        flops_per_image=flops / images,
        share_of_matrix=rate * flops / images / matrix_rate,
        data_path={name: values["median"] for name, values in path.items()},
    )


def sweep(
    model: ModelName,
    batch: int,
    rates: Sequence[float],
    dataset: Dataset,
    device: torch.device,
    *,
    epochs: int,
    seconds: float,
) -> list[dict[str, float | int | None]]:
    """Train by Adam at each learning rate, with one step that is compiled once.

    epochs, seconds: of a run, at most.
    """
    setup: RunContext | None = None
    runs: list[dict[str, float | int | None]] = []
    for lr in rates:
        train = Train(
            batch_size=batch,
            optimizer="adam",
            lr=lr,
            schedule="linear",
            epochs=epochs,
            target_accuracy=UNTIL,
            precision="bf16",
        )
        run = Run("cifar10", Data(), Corruption("random"), Model(model), train)
        setup = build_run(resolve(run, on_gpu=device.type == "cuda", cores=cores()), dataset, device, like=setup)
        outcome = fit(setup, Silent(), Clock(seconds, setup.model))
        moment, last = outcome.milestones.as_dict()[MILESTONE], outcome.evaluated
        runs.append(
            {
                "lr": lr,
                "seconds": moment["seconds"] if moment else None,
                "epochs": moment["epochs"] if moment else None,
                "train_accuracy": last.train_accuracy if last else None,
                "epochs_trained": outcome.epoch,
                "train_seconds": outcome.train_seconds,
            }
        )
    return runs


def table(results: list[Result]) -> str:
    """One line a run."""
    lines = [f"{'to 99.9 %':32}  {'seconds':>8}  target  epochs  {'images/s':>10}  of matrix  data path"]
    for result in results:
        seconds = f"{result.seconds:8.2f}" if result.seconds is not None else f"{'-':>8}"
        epochs = f"{result.epochs:6}" if result.epochs is not None else f"{'-':>6}"
        path = f"{max(result.data_path.values()):.1%} at most" if result.data_path else ""
        lines.append(
            f"{result.case:32}  {seconds}  {result.target:6.0f}  {epochs}  {result.images_per_second:10,.0f}  "
            f"{result.share_of_matrix:9.1%}  {path}"
        )
    return "\n".join(lines)
