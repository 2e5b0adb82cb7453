"""A training step of every network, beside the plain loop's."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch.nn.functional as F

from rethink_fast.config import Model, ModelName, Run, Train
from rethink_fast.defaults import resolve
from rethink_fast.models import MODELS
from rethink_fast.train.setup import build_run
from rethink_fast.train.throughput import training_flops

from ..reference_loop import ReferenceLoop
from ..timing import PreparedCase
from . import Case
from .loader import CPU, synthetic
from .runs import CIFAR


def make_step(model: ModelName) -> PreparedCase:
    """The engine's step on a prepared batch, beside the plain loop's step on it: same network, same optimizer."""
    big = model == "inception_v3"
    dataset = synthetic("imagenet", 16, 75) if big else synthetic()
    run = Run("imagenet" if big else "cifar10", model=Model(model), train=Train(lr=1e-6, batch_size=8 if big else 32))
    setup = build_run(resolve(run, on_gpu=False, cores=1), dataset, CPU)
    loader, step = setup.train, setup.step
    step.model.train()
    inputs, labels, *_ = loader.preprocess(loader.warmup_batch(loader.batch_size), 0)
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
        return PreparedCase(partial(step.update, inputs, labels), wrong, flops=flops)
    step_of_loop = ReferenceLoop(model, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2))
    return PreparedCase(partial(step.update, inputs, labels), wrong, plain, "the plain loop's step", flops=flops)


def cases() -> list[Case]:
    """min_speedup: of the plain loop's step, from which it must not fall behind by more than noise allows."""
    out = [Case(f"step of {model}, 32 images", "step", partial(make_step, model), 0.8) for model in CIFAR]
    out.append(Case("step of inception_v3 at 75 px, 8 images", "step", partial(make_step, "inception_v3")))
    assert set(CIFAR) | {"inception_v3"} <= set(MODELS)
    return out
