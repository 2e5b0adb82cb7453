"""RMSProp of the ImageNet recipe, compared with its formula, with torch's, and compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rethink_fast.config import Model, Run, Train
from rethink_fast.defaults import resolve
from rethink_fast.train.optim import init_optimizer_state, learning_rate_from, make_optimizer, optimizer_state, update
from rethink_fast.train.rmsprop import RMSprop
from rethink_fast.train.step import Step


def test_rmsprop_is_its_formula_from_the_first_step() -> None:
    model = torch.nn.Linear(3, 2).double()
    run = Run("imagenet", model=Model("inception_v3"), train=Train(recipe="paper", weight_decay=0.01))
    train = resolve(run, on_gpu=True, cores=1).train
    assert (train.optimizer, train.lr, train.batch_size) == ("rmsprop", 0.045, 32)
    optimizer = make_optimizer(model, train)
    init_optimizer_state(optimizer)
    values = [parameter.detach().clone() for parameter in model.parameters()]
    squares, momenta = ([torch.zeros_like(value) for value in values] for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for parameter, value, square, momentum in zip(model.parameters(), values, squares, momenta, strict=True):
            gradient = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            parameter.grad = gradient.clone()
            gradient += 0.01 * value if value.ndim > 1 else 0.0
            square.mul_(0.9).add_(gradient**2, alpha=0.1)
            momentum.mul_(0.9).add_(gradient / (square.sqrt() + 1.0))
            value.sub_(momentum, alpha=0.045)
        optimizer.step()
    for parameter, value in zip(model.parameters(), values, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=0.0)


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).double()


OPTIONS: dict[str, Any] = {"alpha": 0.9, "eps": 1e-3, "momentum": 0.8}


def of(model: nn.Module, lr: float | Tensor, weight_decay: float = 0.01) -> RMSprop:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return RMSprop(groups, lr=lr, **OPTIONS)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_rmsprop_is_that_of_torch(as_tensor: bool, weight_decay: float) -> None:
    """Float64: torch rounds the product of rate and momentum with the sum, we before it."""
    model, other = network(), network()
    ours = of(model, torch.tensor(0.1, dtype=torch.float64) if as_tensor else 0.1, weight_decay)
    theirs = torch.optim.RMSprop(
        [{"params": [p], "weight_decay": weight_decay if p.ndim > 1 else 0.0} for p in other.parameters()],
        lr=0.1,
        **OPTIONS,
    )
    for step in range(5):
        for each in (model, other):
            gradients(each, step)
        if step == 3:  # a parameter that takes no part
            next(model.parameters()).grad = next(other.parameters()).grad = None
        ours.step()
        theirs.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-14, atol=1e-15)


@pytest.mark.slow
def test_the_compiled_update_is_the_eager_one_at_every_rate() -> None:
    """Compiled once for all rates, which may be different tensors. Float64: contractions are all that may differ."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    rates = torch.tensor([0.1, 0.1, 0.05, 0.0], dtype=torch.float64)
    made = []
    for compiled in (False, True):
        model = network()
        optimizer = of(model, rates[0].clone())
        init_optimizer_state(optimizer)
        for step, rate in enumerate(rates):
            gradients(model, step)
            with learning_rate_from(optimizer, rate):
                update(optimizer, compiled=compiled)
        made.append([*model.parameters(), *optimizer_state(optimizer).values()])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for eager, found in zip(*made, strict=True):
        torch.testing.assert_close(found, eager, rtol=1e-14, atol=1e-15)


def test_a_compiled_step_has_a_compiled_update_where_the_rate_is_a_tensor() -> None:
    """A rate that is a number, as on a CPU, would be compiled in, and each later rate compiled again."""
    model, calls = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), []
    optimizer = of(model, 0.1)
    optimizer._compiled = lambda *_: calls.append(optimizer.param_groups[0]["lr"])
    step = Step(model, optimizer, precision="fp32", compiled=True)
    step._compiled_loss = step._loss_of
    batch = torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    step.update(*batch)
    assert not calls
    optimizer.param_groups[0]["lr"] = rate = torch.tensor(0.1)
    step.update(*batch)
    assert calls == [rate]
    step.compiled = False
    step.update(*batch)
    assert calls == [rate]
