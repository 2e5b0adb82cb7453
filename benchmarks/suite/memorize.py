"""A step of a population of perceptrons side by side, beside the same models one after another."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rethink_fast.config import Data, Model, Run
from rethink_fast.defaults import resolve
from rethink_fast.memorize.population import OneModel, Perceptrons, initial
from rethink_fast.memorize.training import subsets
from rethink_fast.train.setup import build_run
from rethink_fast.train.throughput import training_flops

from ..timing import PreparedCase
from . import Case
from .loader import CPU, synthetic

POPULATION, RATIO, LR = 64, 0.7, 1e-6
CLOSE = 1e-4
"""Relative: a forward pass of float32, sums of 784 terms in another order."""


def make_population() -> PreparedCase:
    """A batch prepared and trained on by 64 models at MNIST's shape; one after another each prepares it."""
    run = resolve(Run("mnist", Data(max_samples=2000), model=Model("mlp_1x512")), on_gpu=False, cores=1)
    setup = build_run(run, synthetic("mnist"), CPU)
    flops, images = training_flops(setup)
    loader, models = setup.train, range(POPULATION)
    included, index = subsets(setup, models, RATIO), setup.dataset.train.index
    batch = next(loader.epoch(0))
    mine = included[:, torch.searchsorted(index, batch.index)]
    momentum, decay = run.train.momentum, run.train.weight_decay
    population = Perceptrons(
        (initial(setup, model) for model in models), momentum=momentum, weight_decay=decay, device=CPU
    )
    alone = OneModel(setup, initial(setup, 0), included[0], lambda: None)

    def call() -> torch.Tensor:
        inputs, labels, *_ = loader.preprocess(batch, 0)
        return population.train(inputs, labels, mine, LR)

    def one_after_another() -> None:
        for model in models:
            inputs, labels, *_ = loader.preprocess(batch, 0)
            alone.train(inputs, labels, mine[model : model + 1], LR)

    def wrong() -> str:
        """After a step large enough to show: the logits of the first and the last model, and of plain modules."""
        inputs, labels, *_ = loader.preprocess(batch, 0)
        some = torch.tensor([0, POPULATION - 1])
        plain = [initial(setup, model) for model in some.tolist()]
        population.train(inputs, labels, mine, 0.1)
        for model, own in zip(plain, mine[some], strict=True):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
            F.cross_entropy(model(inputs[own]), labels[own]).backward()
            optimizer.step()
        with torch.no_grad():
            expected = torch.stack([model(inputs) for model in plain])
        apart = ((population.logits(inputs, some) - expected).abs().max() / expected.abs().max()).item()
        return "" if apart <= CLOSE else f"logits {apart:.1e} of the largest from those of plain modules"

    trained = flops * int(mine.sum()) // images
    return PreparedCase(call, wrong, one_after_another, "one after another", flops=trained)


def cases() -> list[Case]:
    return [Case(f"step of {POPULATION} mlp_1x512 side by side, 128 images of MNIST", "step", make_population)]
