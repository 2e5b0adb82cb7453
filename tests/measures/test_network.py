"""What is read of a network: the layers that an input goes through, and the same outputs once batch norm is folded."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethink_fast.measures.measurement import Unreadable
from rethink_fast.measures.network import frozen, margins, read
from rethink_fast.measures.norms import path_norm
from rethink_fast.models import MODELS, build_model


def scramble(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights that change its input."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return model


@pytest.mark.parametrize("name", [name for name in MODELS if name != "inception_v3"])
def test_a_frozen_network_has_the_same_outputs_and_no_batch_norm(name: str) -> None:
    torch.manual_seed(0)
    model = scramble(build_model(name, num_classes=10, channels=3, size=(28, 28)))
    x = torch.randn(3, 3, 28, 28)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = frozen(model, x)
    expected = model.eval()(x)
    # float32: sums of up to 3,136 products, rounded in another order
    assert (folded(x) - expected).abs().max() < 1e-4 * expected.abs().max()
    left = sum(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    assert left == (13 if name == "wrn_28_1" else 0), "before a residual's sum nothing can be folded"
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the model is left alone"


def test_batch_norm_after_a_linear_layer_is_folded_and_elsewhere_frozen() -> None:
    torch.manual_seed(0)
    model = scramble(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    x = torch.randn(6, 5)
    folded = frozen(model.train(), x)
    assert torch.allclose(folded(x), model.eval()(x), atol=1e-5)
    assert sum(isinstance(each, nn.BatchNorm1d) for each in folded.modules()) == 1


@pytest.mark.parametrize(
    ("name", "kinds", "depths"),
    [
        ("mlp_3x512", ["linear"] * 4, [1, 2, 3, 4]),
        ("alexnet_small", ["conv", "pool", "conv", "pool", "linear", "linear", "linear"], [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_layers_come_in_order(name: str, kinds: list[str], depths: list[int]) -> None:
    x = torch.randn(2, 3, 28, 28)
    network = read(frozen(build_model(name, num_classes=10, channels=3, size=(28, 28)), x), x)
    assert [layer.kind for layer in network.layers] == kinds
    assert [layer.depth for layer in network.layers] == depths
    assert network.chain() == list(network.layers)


def test_shapes_kernels_and_strides_are_those_of_the_pass() -> None:
    x = torch.randn(1, 3, 28, 28)
    conv, pool, *_ = read(build_model("alexnet_small", num_classes=10, channels=3, size=(28, 28)), x).layers
    assert (conv.inside, conv.outside, conv.kernel, conv.stride) == ((3, 28, 28), (64, 28, 28), (5, 5), (1, 1))
    assert (pool.inside, pool.outside, pool.kernel, pool.stride) == ((64, 29, 29), (64, 14, 14), (3, 3), (2, 2))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x + self.first(x).relu())


class Scaled(nn.Module):
    """A parameter in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 2), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Twice(nn.Module):
    """A layer that is passed through twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())


@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (build_model("inception_small", num_classes=10, channels=3, size=(28, 28)), (1, 3, 28, 28), "branches"),
        (Residual(), (1, 4), "branches"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), (1, 4), "sigmoid"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (1, 4), "reads 30 of the 38 parameters"),
        (Scaled(), (1, 4), "reads 10 of the 12 parameters"),
        (Twice(), (1, 4), "reads 40 of the 20 parameters"),
        (nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten(), nn.Linear(12, 2)), (1, 3, 4), "convolutions of images"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, dilation=2), nn.Flatten(), nn.Linear(16, 2)), (1, 3, 4, 4), "nor dilated"),
    ],
)
def test_what_is_no_chain_says_why(model: nn.Module, x: tuple[int, ...], why: str) -> None:
    example = torch.randn(x)
    with pytest.raises(Unreadable, match=why):
        read(frozen(model, example), example).chain()


def test_margins_are_taken_from_the_largest_other_output() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [1.0, 1.0, 1.0]])
    assert margins(logits, torch.tensor([0, 2, 1])).tolist() == [1.0, -1.0, 0.0]


def test_a_functional_pool_is_seen() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(1, 2, 3), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.max_pool2d(self.conv(x).relu(), 2).flatten(1))

    x = torch.randn(1, 1, 6, 6)
    assert [layer.kind for layer in read(Pools().eval(), x).chain()] == ["conv", "pool", "linear"]


def test_the_path_norm_of_a_small_network_is_the_sum_over_its_paths() -> None:
    first, last = nn.Linear(2, 2), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        first.bias.copy_(torch.tensor([0.0, -1.0]))
        last.weight.copy_(torch.tensor([[2.0, -1.0]]))
        last.bias.fill_(0.5)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    # (1 + 4) 4 + (9 + 1) 1 + 0.25: a bias is a path from a one.
    assert path_norm(network, torch.randn(2, 1, 1, 2)) == pytest.approx(math.sqrt(30.25))
    assert first.weight[0, 1].item() == -2.0, "the network stays as it was"
