"""RMSProp of the ImageNet recipe, compared with its formula."""

from __future__ import annotations

import torch

from rethink_fast.config import Model, Run, Train
from rethink_fast.defaults import resolve
from rethink_fast.train.optim import init_optimizer_state, make_optimizer


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
