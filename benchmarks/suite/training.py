"""A training step of every network, beside the plain loop's, and whole runs by the command line."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from rethink_fast.bench.cli import app
from rethink_fast.config import Model, Run, Train, resolve
from rethink_fast.models import MODELS, build_model
from rethink_fast.train.limits import training_flops
from rethink_fast.train.setup import set_up

from ..reference_loop import ReferenceLoop
from ..timing import Made
from . import Case
from .loader import CPU, synthetic

CIFAR = ("mlp_1x512", "mlp_3x512", "alexnet_small", "inception_small")
RUN = ("cifar10", "--data", "synthetic", "--limit", "512", "--model", "mlp_1x512", "--corruption", "random")
EPOCHS = 2


def make_step(model: str) -> Made:
    """The engine's step on a prepared batch, beside the plain loop's step on it: same network, same optimizer."""
    big = model == "inception_v3"
    dataset = synthetic("imagenet", 16, 75) if big else synthetic()
    run = Run("imagenet" if big else "cifar10", model=Model(model), train=Train(lr=1e-6, batch_size=8 if big else 128))
    setup = set_up(resolve(run, on_gpu=False, cores=1), dataset, CPU)
    loader, step = setup.train, setup.step
    step.model.train()
    inputs, labels, _ = loader.prepared(loader.example(loader.batch_size), 0)
    flops, _ = training_flops(setup)

    def wrong() -> str:
        network = copy.deepcopy(step.model)
        loss = F.cross_entropy(network(inputs), labels).item()
        step.begin_epoch(0)
        step.update(inputs, labels)
        found = step.loss_sum.item() / len(labels)
        # one forward pass of float32, in another order of sums at most
        return "" if abs(found - loss) <= 1e-4 * max(1.0, loss) else f"loss {found}, {loss} by plain torch"

    def plain() -> None:
        step_of_loop.step(inputs, labels)

    if big:
        return Made(partial(step.update, inputs, labels), wrong, flops=flops)
    step_of_loop = ReferenceLoop(model, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2))
    return Made(partial(step.update, inputs, labels), wrong, plain, "the plain loop's step", flops=flops)


def bench(epochs: int, folder: str) -> None:
    """`rethink-fast bench` in this process, its record in a folder."""
    words = ["bench", *RUN, "--epochs", str(epochs), "--out", str(Path(folder) / "run")]
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        code = app([*words, "--json"], exit_on_error=False, print_error=False)
    if code != 0:
        raise RuntimeError(f"rethink-fast {' '.join(words)} ended with {code}")


def make_run() -> Made:
    """A whole run by the command line: open, corrupt, train, evaluate, write the record."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bench(EPOCHS, folder)

    def wrong() -> str:
        with tempfile.TemporaryDirectory() as folder:
            bench(EPOCHS, folder)
            record = json.loads((Path(folder) / "run" / "result.json").read_text())
        steps = EPOCHS * 512 // 128
        if record["steps"] != steps or record["epochs"] != EPOCHS:
            return f"{record['steps']} steps in {record['epochs']} epochs, not {steps} in {EPOCHS}"
        # untrained it is log(10) = 2.30; what is trained on 512 images twice is below that and finite
        return "" if 0 < record["train_loss"] < 2.30 else f"a loss of {record['train_loss']} after {steps} steps"

    def plain() -> None:
        loop = ReferenceLoop("mlp_1x512", images, labels)
        for _ in range(EPOCHS):
            for _ in loop.epoch():
                pass
            loop.evaluate()

    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (512, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, 512)
    return Made(call, wrong, plain, "the plain loop, its data made before")


def make_network(model: str) -> Made:
    """Forward and backward pass of a network alone, by public functions that every revision has."""
    torch.manual_seed(0)
    network = build_model(model, num_classes=10, channels=3, size=(28, 28))
    inputs, labels = torch.randn(8, 3, 28, 28), torch.arange(8)

    def call() -> float:
        network.zero_grad()
        loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        return loss.item()

    wrong = lambda: "" if 1.0 < call() < 5.0 else f"a loss of {call()} before training"  # noqa: E731
    return Made(call, wrong)


def cases() -> list[Case]:
    """at_least: of the plain loop's step, from which it must not fall behind by more than noise allows."""
    out = [Case(f"step of {model}", "step", partial(make_step, model), 0.8) for model in CIFAR]
    out.append(Case("step of inception_v3 at 75 px, 8 images", "step", partial(make_step, "inception_v3")))
    out += [Case(f"network {name}, both ways", "step", partial(make_network, name), compared=True) for name in CIFAR]
    out.append(Case("run of mlp_1x512, 2 epochs of 512 images", "run", make_run, compared=True))
    assert set(CIFAR) | {"inception_v3"} <= set(MODELS)
    return out
