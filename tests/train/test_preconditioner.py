"""Preconditioned Adam: the matrix is the one of its docstring, is applied to the first layer alone, and is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from rethink_fast.config import Data, Model, Run, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.models import build_model
from rethink_fast.train.compile import warm_up
from rethink_fast.train.optim import make_optimizer, optimizer_state
from rethink_fast.train.preconditioner import DAMPING, SAMPLES, PreconditionedAdam
from rethink_fast.train.setup import RunContext, build_run
from tests.train import fake_cuda

SIZE = (4, 4)


def optimizer_of(name: str, model: torch.nn.Module, precision: str = "fp32") -> torch.optim.Optimizer:
    train = Train(optimizer=name, lr=0.01, precision=precision)  # type: ignore[arg-type]
    run = Run("cifar10", model=Model("mlp_1x512"), train=train)
    return make_optimizer(model, resolve(run, on_gpu=False, cores=1).train)


def perceptron(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model("mlp_1x512", num_classes=10, channels=3, size=SIZE)


def preconditioned(model: torch.nn.Module, precision: str = "fp32") -> PreconditionedAdam:
    optimizer = optimizer_of("preconditioned-adam", model, precision)
    assert isinstance(optimizer, PreconditionedAdam)
    return optimizer


def inputs(n: int = 600, seed: int = 1) -> Tensor:
    """Images whose directions differ in scale by a thousand."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(n, 48, generator=generator) * torch.logspace(0, -3, 48)
    turn = torch.linalg.qr(torch.randn(48, 48, generator=generator)).Q
    return (flat @ turn).view(n, 3, *SIZE)


def update(model: torch.nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, steps: int = 3) -> list[Tensor]:
    labels = torch.arange(len(images)) % 10
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_the_matrix_is_the_inverse_root_of_the_damped_moments() -> None:
    optimizer, images = preconditioned(perceptron()), inputs()
    optimizer.fit(iter(images.split(128)))
    flat = images.flatten(1).double()
    moments = flat.T @ flat / len(flat)
    damped = moments / (DAMPING * moments.diagonal().mean()) + torch.eye(48, dtype=torch.float64)
    # the matrix squared, times what it is the inverse root of: condition 5e4, float32's 6e-8 of that
    product = optimizer.matrix.double() @ optimizer.matrix.double() @ damped
    torch.testing.assert_close(product, torch.eye(48, dtype=torch.float64), rtol=0, atol=2e-2)
    assert torch.linalg.eigvalsh(optimizer.matrix).min() > 0


def test_only_the_first_samples_are_seen() -> None:
    first, second = preconditioned(perceptron()), preconditioned(perceptron())
    images = inputs(SAMPLES + 700)
    first.fit(iter(images.split(1100)))
    second.fit(iter(images[:SAMPLES].split(1100)))
    assert torch.equal(first.matrix, second.matrix)


def test_the_first_layer_s_gradient_is_multiplied_and_no_other() -> None:
    plain, turned = perceptron(), perceptron()
    images = inputs(40)
    adam, optimizer = optimizer_of("adam", plain), preconditioned(turned)
    optimizer.matrix.copy_(torch.eye(48))
    same = zip(update(plain, adam, images), update(turned, optimizer, images), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    # A single step of Adam is the sign of the gradient: with the negative matrix the first layer goes the other way.
    start = [parameter.detach().clone() for parameter in perceptron(5).parameters()]
    plain, turned = perceptron(5), perceptron(5)
    adam, optimizer = optimizer_of("adam", plain), preconditioned(turned)
    optimizer.matrix.copy_(-torch.eye(48))
    moved = zip(start, update(plain, adam, images, 1), update(turned, optimizer, images, 1), strict=True)
    signs = [-1 if place == 0 else 1 for place in range(len(start))]
    for sign, (before, a, b) in zip(signs, moved, strict=True):
        torch.testing.assert_close(a - before, sign * (b - before))


def test_the_matrix_is_part_of_what_is_kept() -> None:
    optimizer = preconditioned(perceptron(), "bf16")
    kept = optimizer_state(optimizer)["optimizer.matrix"]
    assert kept is optimizer.matrix
    assert kept.dtype == torch.bfloat16


def test_a_network_that_begins_with_a_convolution_is_refused() -> None:
    model = build_model("inception_small", num_classes=10, channels=3, size=(28, 28))
    with pytest.raises(UserError, match="is for networks whose first layer is linear"):
        optimizer_of("preconditioned-adam", model)


def test_a_step_without_gradients_changes_nothing() -> None:
    """As torch's optimizers skip such parameters."""
    model = perceptron()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    preconditioned(model).step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[RunContext], RunContext]]:
    yield from fake_cuda.doubles(monkeypatch)


def test_its_libraries_are_loaded_off_the_training_clock(
    cuda: Callable[[RunContext], RunContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset("cifar10", DataOptions("synthetic", max_samples=70, workers=1))
    train = Train(optimizer="preconditioned-adam", lr=1e-3, batch_size=10, compile="off")
    run = Run("cifar10", Data(max_samples=70), model=Model("mlp_1x512"), train=train)
    setup = cuda(build_run(resolve(run, on_gpu=False, cores=1), data, torch.device("cpu")))
    calls: list[None] = []
    real = RunContext.fit_optimizer
    monkeypatch.setattr(RunContext, "fit_optimizer", lambda setup: calls.append(real(setup)))
    before = setup.step.state()
    warm_up(setup)
    assert len(calls) == 1
    assert all(torch.equal(value, before[name]) for name, value in setup.step.state().items())
