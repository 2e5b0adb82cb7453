"""Networks alone, and whole runs by the command line: by what every revision has, so that two can be compared."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from rethink_fast.cli.app import app
from rethink_fast.config import ModelName
from rethink_fast.models import build_model

from ..timing import PreparedCase
from . import Case

CIFAR: tuple[ModelName, ...] = ("mlp_1x512", "mlp_3x512", "alexnet_small", "inception_small")
RUN = ("cifar10", "--data", "synthetic", "--max-samples", "512", "--model", "mlp_1x512", "--corruption", "random")
EPOCHS = 2


def bench(epochs: int, folder: str) -> None:
    """`rethink-fast bench` in this process, its record in a folder."""
    words = ["bench", *RUN, "--epochs", str(epochs), "--out", str(Path(folder) / "run")]
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        code = app([*words, "--json"], exit_on_error=False, print_error=False)
    if code != 0:
        raise RuntimeError(f"rethink-fast {' '.join(words)} ended with {code}")


def make_run() -> PreparedCase:
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
        from ..reference_loop import ReferenceLoop

        loop = ReferenceLoop("mlp_1x512", images, labels)
        for _ in range(EPOCHS):
            for _ in loop.epoch():
                pass
            loop.evaluate()

    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (512, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, 512)
    return PreparedCase(call, wrong, plain, "the plain loop, its data made before")


def make_network(model: str) -> PreparedCase:
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
    return PreparedCase(call, wrong)


def cases() -> list[Case]:
    out = [Case(f"network {name}, both ways", "step", partial(make_network, name), compared=True) for name in CIFAR]
    out.append(Case("run of mlp_1x512, 2 epochs of 512 images", "run", make_run, compared=True))
    return out
