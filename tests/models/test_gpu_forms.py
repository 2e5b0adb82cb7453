"""The forms that layers have in compiled code for a GPU: the same functions, with the same gradients and statistics."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rethink_fast.models import build_model, inception_v3, layers
from rethink_fast.models.layers import relu_after_norm
from rethink_fast.train.inductor import inductor_for_gpu

BLOCKS = {
    "block35": inception_v3._block35(32),
    "block17": inception_v3._block17(128),
    "block8": inception_v3._BLOCK8,
    "to 17": inception_v3._TO_17,
    "to 8": inception_v3._TO_8,
    "fork": inception_v3._FORK,
}


def always(x: Tensor) -> bool:
    return True


@contextmanager
def gpu_forms() -> Iterator[None]:
    """Let models take these forms on the CPU, eager or compiled."""
    with mock.patch.object(layers, "in_gpu_graph", always):
        yield


class Convolutions(TorchDispatchMode):
    """Counts convolutions, and the elements that they and average pooling read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        if name in ("convolution", "avg_pool2d"):
            self.calls[name] += 1
            self.read[name] += args[0].numel()
        return function(*args, **(kwargs or {}))


def block(name: str, channels: int = 12) -> nn.Module:
    """A block in float64, on few channels."""
    torch.manual_seed(0)
    model, _ = inception_v3._chain(channels, [BLOCKS[name]])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return model.double()


def results(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What a training step's forward and backward pass give: output, gradients, statistics."""
    x = x.clone().requires_grad_()
    out = model(x)
    out.backward(torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape).sin())
    assert x.grad is not None
    gradients = {name: value.grad for name, value in model.named_parameters()}
    statistics = {name: value for name, value in model.named_buffers() if "running" in name}
    return {"output": out.detach(), "input": x.grad, **gradients, **statistics}


@pytest.mark.parametrize("name", BLOCKS)
def test_joined_convolutions_are_the_separate_ones(name: str) -> None:
    """In float64 the sums of another order differ by less than 1e-12 of the largest value."""
    model = block(name)
    x = torch.randn(3, 12, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = results(copy.deepcopy(model), x)
    with gpu_forms():
        found = results(model, x)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert (found[key] - value).abs().max() <= 1e-12 * value.abs().max().clamp(min=1), key


def test_the_joined_form_of_inception_v3_reads_less_and_is_of_training_alone() -> None:
    """94 convolutions, 28 of them beside another of the same input, the 9 that follow an average included."""
    with torch.device("meta"):
        model = build_model("inception_v3", num_classes=10, channels=3, size=(299, 299))
        x = torch.empty(1, 3, 299, 299)
    names = list(model.state_dict())
    counted = {}
    for training in (True, False):
        model.train(training)
        for joined in (True, False):
            with Convolutions() as counts:
                if joined:
                    with gpu_forms():
                        model(x)
                else:
                    model(x)
            counted[training, joined] = counts
    assert [counted[each].calls["convolution"] for each in counted] == [66, 94, 94, 94]
    averaged = [counted[each].read["avg_pool2d"] for each in counted]
    assert averaged[0] < averaged[1] / 4
    assert averaged[1] == averaged[2] == averaged[3]
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_form_of_relu_has_its_values_and_gradient(dtype: torch.dtype) -> None:
    values = torch.tensor([-2.0, -0.0, 0.0, 1e-40, 3.0, float("nan"), float("inf"), -float("inf")]).to(dtype)
    x, y = (values.clone().requires_grad_() for _ in range(2))
    with gpu_forms():
        found = relu_after_norm(x * 1)
    expected = (y * 1).relu()
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    for out in (found, expected):
        out.backward(torch.arange(1, 9).to(dtype))
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=0)


class Stem(nn.Module):
    """What Inductor fuses on a GPU: batch norm, ReLU, and max-pooling with overlapping windows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = layers.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(relu_after_norm(self.norm(x)), 3, 2)


@pytest.mark.slow
def test_compiled_as_for_a_gpu_the_values_are_those_of_eager_code() -> None:
    """Max-pooling's gradient is gathered. Float64: another order of sums is all that may differ."""
    model = Stem().double()
    noise = torch.randn(2, 3, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = noise.to(memory_format=torch.channels_last)
    expected = results(copy.deepcopy(model), x)
    torch._dynamo.reset()
    with gpu_forms():
        compiled: Any = torch.compile(model, backend=inductor_for_gpu, fullgraph=True, dynamic=False)
        found = results(compiled, x)
    for key, value in expected.items():
        there = found[key if key in found else f"_orig_mod.{key}"]
        assert (there - value).abs().max() <= 1e-12 * value.abs().max().clamp(min=1), key
