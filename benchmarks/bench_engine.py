"""How fast the engine trains, beside the plain loop in the same process.

`python -m benchmarks.bench_engine --data PATH [--model mlp_1x512] [--precision bf16] [--batch-size 1000] [--json FILE]`

Three things, on all of CIFAR-10: images/s in training of `reference_loop`, with its fastest number of workers, and of
the engine, interleaved, with random labels; the floating-point operations that the engine gets done, as a share of what
a large matrix product reaches in the same rounds; and what the way of the data costs, for each corruption, as the share
of a step that is saved when the network is given the same prepared batch again and again. Everything is a ratio of two
neighbours in time, and its median, least and greatest over the rounds are reported. The reference is float32 with
batches of 128; the engine is too, unless given otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from rethink_fast.config import (
    Corruption,
    CorruptionName,
    Model,
    ModelName,
    PrecisionName,
    ResolvedRun,
    Run,
    Train,
    resolve,
)
from rethink_fast.data import Dataset
from rethink_fast.data.loader import Batch, Loader, ModelInput
from rethink_fast.env import choose_device, cores, environment
from rethink_fast.errors import Interrupted, UserError
from rethink_fast.files import user_path, write_json
from rethink_fast.models import MODELS
from rethink_fast.train.loop import StepProgress, fit
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.state import EpochMetrics, TrainState
from rethink_fast.train.throughput import matrix_rate, training_flops

from .reference_loop import (
    BATCH,
    ReferenceLoop,
    best_workers,
    endless,
    open_cifar10,
    random_labels,
    rate,
    training_images,
)

PAIRS = 9
SHORT_PAIRS = 31  # for differences of a few hundredths, which is less than a neighbour's work on the machine takes away
TRIAL = 0.05  # of --seconds, for each number of workers
CORRUPTIONS: dict[CorruptionName, float | None] = {
    "true": None,
    "partial": 0.5,
    "random": None,
    "shuffled-pixels": None,
    "random-pixels": None,
    "gaussian": None,
}
STILL = 1e-12
"""A learning rate that leaves the weights where they are. With a real one the repeated batch is soon known by heart,
and vanishing gradients underflow, which is slow on a CPU: the two sides would no longer do the same arithmetic."""


class Silent:
    """A listener who has nothing to say and keeps nothing."""

    def on_ready(self, outcome: TrainState) -> None:
        pass

    def on_progress(self, tick: StepProgress) -> None:
        pass

    def on_epoch(self, row: EpochMetrics, outcome: TrainState) -> None:
        pass

    def save(self, outcome: TrainState) -> None:
        pass


class Clock:
    """A check that stops the engine after so many seconds of training: evaluations do not count, and are not cut.

    A run that is interrupted in one would begin the next slice with it, and might not come to train.
    """

    def __init__(self, seconds: float, model: nn.Module) -> None:
        self.seconds, self.model = seconds, model
        self.spent = 0.0
        self.last: float | None = None

    def __call__(self) -> None:
        if not self.model.training:
            self.last = None
            return
        now = time.perf_counter()
        if self.last is not None:
            self.spent += now - self.last
            if self.spent >= self.seconds:
                raise Interrupted
        self.last = now


class Engine:
    """The engine as `rethink-fast bench` runs it, in slices: each goes on where the one before was interrupted.

    The first slice is short, for what only the first one pays. choice: whether to compile, from another engine.
    """

    def __init__(self, setup: RunContext, choice: dict[str, Any] | None = None) -> None:
        self.setup = setup
        self.outcome = TrainState(compile=choice) if choice is not None else None
        self.slice(0.0)

    def slice(self, seconds: float) -> float:
        """Images/s in training over so many seconds of training."""
        images, spent = 0, 0.0
        while not images or spent < seconds:
            before = replace(self.outcome) if self.outcome is not None else TrainState()
            self.outcome = fit(self.setup, Silent(), Clock(seconds - spent, self.setup.model), outcome=self.outcome)
            images += self.outcome.images - before.images
            spent += self.outcome.train_seconds - before.train_seconds
            if self.outcome.stop_reason != "interrupted":  # at its end: once more from the first epoch
                self.outcome = TrainState(compile=self.outcome.compile)
        return images / spent


class SameBatch(Loader):
    """A loader with nothing to do: in training, every batch is the first one of epoch 0, prepared once."""

    def __init__(self, of: Loader) -> None:
        super().__init__(of.split, of.labels, of.corrupted, of.how, batch_size=of.batch_size, base=of.base)
        self._batch = next(of.epoch(0))
        self._prepared = of.prepared(self._batch, 0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for _ in range(start, len(self)):
            yield self._batch

    def prepared(self, batch: Batch, epoch: Tensor | int | None) -> ModelInput:
        return self._prepared if epoch is not None else super().prepared(batch, None)


def make_setup(
    dataset: Dataset, model: ModelName, corruption: CorruptionName, device: torch.device, how: Train = Train()
) -> RunContext:
    """Set up a run as the command line resolves it."""
    return build_run(resolved(model, corruption, device, how), dataset, device)


def resolved(model: ModelName, corruption: CorruptionName, device: torch.device, how: Train = Train()) -> ResolvedRun:
    """Return the complete options of a run on CIFAR-10."""
    run = Run("cifar10", corruption=Corruption(corruption, CORRUPTIONS[corruption]), model=Model(model), train=how)
    return resolve(run, on_gpu=device.type == "cuda", cores=cores())


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(engine: Engine, model: ModelName, seconds: float) -> dict[str, Any]:
    """Reference, engine and matrix product interleaved."""
    setup, device = engine.setup, engine.setup.device
    images = training_images(setup.dataset)
    labels = random_labels(len(images))
    trial = best_workers(model, images, labels, seconds=seconds * TRIAL, device=device)
    workers = next(iter(trial))
    steps = endless(ReferenceLoop(model, images, labels, workers=workers, device=device))
    next(steps)  # as the engine's short first slice
    step_flops, step_images = training_flops(setup)
    flops, dtype = step_flops / step_images, setup.train.how.dtype
    theirs, ours, matrix = [], [], []
    for _ in range(PAIRS):
        theirs.append(rate(steps, seconds / (2 * PAIRS), device))
        ours.append(engine.slice(seconds / (2 * PAIRS)))
        matrix.append(matrix_rate(device, dtype))
    steps.close()
    return {
        "images": len(images),
        "precision": setup.run.train.precision,
        "batch_size": setup.run.train.batch_size,
        "compiled": setup.step.compiled,
        "workers": workers,
        "workers_tried": trial,
        "reference": spread(theirs),
        "engine": spread(ours),
        "ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        "flops_per_image": flops,
        "matrix_flops": spread(matrix),
        "matrix_share": spread([a * flops / b for a, b in zip(ours, matrix, strict=True)]),
    }


def overhead(engine: Engine, model: ModelName, corruption: CorruptionName, seconds: float) -> dict[str, float]:
    """The share of the engine's step that goes when the batch is there already, prepared.

    of_fastest: the same of the fastest slice of each side, which is the truer one on a machine that is not left alone.
    """
    assert engine.outcome is not None
    used, choice = engine.setup, engine.outcome.compile
    run = replace(resolved(model, corruption, used.device), train=replace(used.run.train, lr=STILL))
    made = build_run(run, used.dataset, used.device)
    used.step.reset_graphs()
    # The network and step there are, so that nothing is compiled again.
    full = replace(made, model=used.model, step=used.step)
    whole, bare = Engine(full, choice), Engine(replace(full, train=SameBatch(full.train)), choice)
    rates = [[side.slice(seconds / (2 * SHORT_PAIRS)) for side in (whole, bare)] for _ in range(SHORT_PAIRS)]
    fastest = [max(side) for side in zip(*rates, strict=True)]
    return {**spread([1 - a / b for a, b in rates]), "of_fastest": 1 - fastest[0] / fastest[1]}


def show(found: dict[str, Any], console: Console) -> None:
    """The tables, for people."""

    def add(table: Table, name: str, values: dict[str, float], form: str) -> None:
        cells = (format(value, form) for value in values.values())
        table.add_row(name, *cells)

    speed, title = found["speed"], f"{found['model']}, {found['speed']['images']:,} images, {PAIRS} rounds"
    table = Table("", "median", "least", "greatest", title=title)
    add(table, f"reference loop, {speed['workers']} workers, images/s", speed["reference"], ",.0f")
    way = "compiled" if speed["compiled"] else "eager"
    add(table, f"engine, {speed['precision']}, {way}, images/s", speed["engine"], ",.0f")
    add(table, "engine over reference", speed["ratio"], ".2f")
    add(table, "engine, share of the matrix rate", speed["matrix_share"], ".1%")
    console.print(table)
    title = f"what the data path takes of a step, {SHORT_PAIRS} rounds"
    table = Table("corruption", "median", "least", "greatest", "of the fastest", title=title)
    for name, values in found["data_path"].items():
        add(table, name, values, ".1%")
    console.print(table)
    tried = ", ".join(f"{n} gave {rate:,.0f}" for n, rate in speed["workers_tried"].items())
    console.print(
        f"on {found['device']}, batches of {speed['batch_size']}; workers of the reference: {tried} images/s; "
        f"{speed['flops_per_image'] / 1e6:.2f} MFLOP an image, "
        f"matrix product {speed['matrix_flops']['median'] / 1e9:,.0f} GFLOP/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10, in any form that rethink-fast reads")
    parser.add_argument("--model", default="mlp_1x512", choices=list(MODELS))
    parser.add_argument("--precision", default="fp32", choices=get_args(PrecisionName), help="of the engine")
    parser.add_argument("--batch-size", type=int, default=BATCH, help="of the engine")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of the two, interleaved; as long again for the rest"
    )
    parser.add_argument("--json", type=user_path, help="write everything measured to this file")
    arguments = parser.parse_args()
    device = choose_device("auto")
    dataset = open_cifar10(arguments.data, device)
    found: dict[str, Any] = {"model": arguments.model, "device": str(device), "data_source": dataset.data_source}
    how = Train(precision=arguments.precision, batch_size=arguments.batch_size)
    engine = Engine(make_setup(dataset, arguments.model, "random", device, how))
    found["speed"] = compare(engine, arguments.model, arguments.seconds)
    each = arguments.seconds / len(CORRUPTIONS)
    found["data_path"] = {name: overhead(engine, arguments.model, name, each) for name in CORRUPTIONS}
    found["environment"] = environment()
    show(found, Console(highlight=False))
    if arguments.json is not None:
        write_json(arguments.json, found)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench_engine: {error}")
