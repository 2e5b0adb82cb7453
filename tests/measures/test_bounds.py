"""The bounds by counting and by norms, against what can be worked out by hand or by brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethink_fast import measures
from rethink_fast.measures.network import Layer, frozen, logits_of, margins, read
from rethink_fast.measures.norms import conv_norm, operator_norm
from rethink_fast.measures.spectral_complexity import complexity
from rethink_fast.measures.vc_dimension import images_needed, vc_bound
from rethink_fast.models import build_model

COUNTS = {
    # by hand from the layer plans: W, L, U (36 comparisons a pooled unit), R = sum_i i k_i with one output
    "mlp_1x512": (1_209_866, 2, 522, 514),
    "mlp_3x512": (1_735_178, 4, 1_546, 3_076),
    "alexnet_small": (1_387_786, 7, 627_786, 1_445_639),
    "inception_small": (1_649_402, 12, 1_182_282, 6_148_924),
}


def vc(name: str) -> measures.Measurement:
    model = build_model(name, num_classes=10, channels=3, size=(28, 28))
    return measures.vc_dimension(model, torch.randn(1, 3, 28, 28), 50_000, classes=10)


@pytest.mark.parametrize("name", COUNTS)
def test_units_and_layers_are_counted(name: str) -> None:
    details = vc(name).details
    assert (details["W"], details["L"], details["U"], details["R"]) == COUNTS[name]


@pytest.mark.parametrize(("name", "lower"), [("mlp_1x512", 301_056), ("mlp_3x512", 65_536), ("alexnet_small", None)])
def test_the_vc_dimension_is_vacuous_and_from_below_for_perceptrons(name: str, lower: int | None) -> None:
    found = vc(name)
    assert found.details["lower"] == lower
    assert found.verdict == "vacuous"
    assert found.bound is not None
    assert found.bound > math.sqrt(8 * math.log(2))


def signs(layers: Sequence[tuple[int, int]], m: int) -> float:
    """log2 of the sign patterns on m points: prod_i 2 (2 e m k_i i / W_i)^W_i, W_i parameters up to layer i."""
    patterns, total = 0.0, 0
    for depth, (weights, units) in enumerate(layers, 1):
        total += weights
        patterns += 1 + total * math.log2(2 * math.e * m * units * depth / total)
    return patterns


@pytest.mark.parametrize("width", [512, 20])
def test_no_more_points_than_the_upper_bound_can_be_shattered(width: int) -> None:
    """The closed form comes from this product: on one point more there are fewer sign patterns than labellings."""
    model = nn.Sequential(nn.Linear(2352, width), nn.ReLU(), nn.Linear(width, 10))
    found = measures.vc_dimension(model, torch.randn(1, 2352), 100)
    plan = [(2353 * width, width), (10 * (width + 1), 1)]
    m = math.floor(found.value) + 1
    assert signs(plan, m) < m
    assert signs(plan, m // 3) > m // 3, "and it is not far too large"


def test_images_needed_bring_the_vc_bound_down() -> None:
    assert vc_bound(1e6, images_needed(1e6)) == pytest.approx(0.1, rel=1e-6)


def test_a_network_that_is_not_piecewise_linear_has_no_vc_bound() -> None:
    with pytest.raises(measures.Unreadable, match="piecewise linear units, and this network has tanh"):
        measures.vc_dimension(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(1, 4), 10)


def matrix(weight: Tensor, size: int, *, circular: bool, stride: int = 1) -> Tensor:
    """The matrix of a convolution, a column for each unit image."""
    units = torch.eye(weight.shape[1] * size * size, dtype=torch.float64).view(-1, weight.shape[1], size, size)
    pad = weight.shape[-1] // 2
    padded = F.pad(units, (pad,) * 4, mode="circular") if circular else F.pad(units, (pad,) * 4)
    return F.conv2d(padded, weight, stride=stride).flatten(1).T


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_norm_of_a_circular_convolution_is_that_of_its_matrix(kernel: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(matrix(weight, 6, circular=True), ord=2).item()
    assert conv_norm(weight, (6, 6)) == pytest.approx(exact, rel=1e-10)
    reshaped = torch.linalg.matrix_norm(weight.flatten(1), ord=2).item()
    assert kernel == 1 or abs(reshaped / exact - 1) > 0.2, "the reshaped weight has another norm"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_zero_padded_convolution_stretches_by_no_more_than_its_bound(stride: int) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 4, 3, stride, padding=1, bias=False).double()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    (layer,) = read(conv, x).layers
    exact = torch.linalg.matrix_norm(matrix(conv.weight.detach(), 6, circular=False, stride=stride), ord=2).item()
    assert exact <= operator_norm(layer) * (1 + 1e-12)
    assert operator_norm(layer) < (1.2 if stride == 1 else 2) * exact


def test_what_cancels_going_round_does_not_cancel_with_zero_padding() -> None:
    """On an edge of 2 the outer taps of a kernel meet in one pixel of a circular convolution."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, -1], [0, 0, 0]]))
    (layer,) = read(conv, torch.randn(1, 1, 2, 2, dtype=torch.float64)).layers
    assert conv_norm(conv.weight.detach(), (2, 2)) == pytest.approx(0, abs=1e-12)
    assert torch.linalg.matrix_norm(matrix(conv.weight.detach(), 2, circular=False), ord=2).item() == pytest.approx(1)
    assert 1 <= operator_norm(layer) <= 2


def test_a_grouped_convolution_has_the_norm_of_its_largest_group() -> None:
    torch.manual_seed(2)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    parts = [conv_norm(part, (6, 6)) for part in weight.chunk(2)]
    assert conv_norm(weight, (6, 6), groups=2) == max(parts)


def test_a_pool_with_overlap_stretches_by_the_windows_that_share_a_value() -> None:
    pool = Layer(inside=(1, 5, 5), outside=(1, 2, 2), depth=1, kernel=(3, 3), stride=(2, 2))
    assert operator_norm(pool) == 2
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    assert F.max_pool2d(x, 3, 2).norm() == 2, "the middle lies in four windows"


def test_the_spectral_complexity_of_identities() -> None:
    """L layers of k units, from 0: s = 1, b = k, so that R_A = L^1.5 k."""
    assert complexity([1.0] * 3, [7.0] * 3) == pytest.approx(3**1.5 * 7)


def trained() -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A network of two layers without biases, before and after some steps, on 40 points of three classes."""
    torch.manual_seed(3)
    x, y = torch.randn(40, 6), torch.randint(0, 3, (40,))
    initial = nn.Sequential(nn.Linear(6, 30, bias=False), nn.ReLU(), nn.Linear(30, 3, bias=False))
    model = nn.Sequential(nn.Linear(6, 30, bias=False), nn.ReLU(), nn.Linear(30, 3, bias=False))
    model.load_state_dict(initial.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, initial, x, y


def test_norm_based_bounds_by_their_formulas() -> None:
    model, initial, x, y = trained()
    (u, v), (u0, v0) = ([p.detach().double() for p in each.parameters()] for each in (model, initial))
    n, norm = 40, x.double().norm().item()
    gamma = margins(logits_of(model, x), y).double().quantile(0.1).item()
    assert gamma > 0
    s = [torch.linalg.matrix_norm(each, ord=2).item() for each in (u, v)]
    b = [(u - u0).norm(dim=1).sum().item(), (v - v0).norm(dim=1).sum().item()]
    r = s[0] * s[1] * sum((bi / si) ** (2 / 3) for bi, si in zip(b, s, strict=True)) ** 1.5
    bartlett = measures.spectral_complexity(model, initial, x, y)
    covering = 9 * math.log(n) / math.sqrt(n) * math.sqrt(math.log(2 * 180))
    assert bartlett.value == pytest.approx(4 / n + covering * 4 / gamma * norm / math.sqrt(n) * r, rel=1e-6)
    assert bartlett.bound == pytest.approx(0.1 + 2 * bartlett.value + 3 * math.sqrt(math.log(40) / 80), rel=1e-6)
    median = margins(logits_of(model, x), y).double().median().item()
    assert bartlett.details["normalised_margin_median"] == pytest.approx(median / (r * norm / n), rel=0.05)
    golowich = measures.golowich(model, initial, x, y)
    peeled = 1 + math.sqrt(2 * math.log(2) * 2)
    expected = 3 * norm / math.sqrt(n) * u.norm().item() * v.norm().item() * peeled / math.sqrt(n) / gamma
    assert golowich.value == pytest.approx(expected, rel=1e-6)
    neyshabur = measures.neyshabur(model, initial, x, y)
    product = (x.double() @ u0.T).norm().item()
    expected = v.norm().item() * ((u - u0).norm().item() * norm + product) / (gamma * n)
    assert neyshabur.value == pytest.approx(expected, rel=1e-6)


def test_a_sample_stands_for_the_whole_set() -> None:
    """The root mean square of the inputs is that of the sample, and n that of the set."""
    model, initial, x, y = trained()
    whole = measures.golowich(model, initial, torch.cat([x] * 4), torch.cat([y] * 4))
    sample = measures.golowich(model, initial, x, y, n=160)
    assert sample.value == pytest.approx(whole.value, rel=0.05)  # the percentile interpolates between other points


def test_measures_for_other_networks_say_so() -> None:
    x, y = torch.randn(4, 3, 28, 28), torch.tensor([0, 1, 2, 3])
    convolutional = build_model("alexnet_small", num_classes=10, channels=3, size=(28, 28))
    y = logits_of(frozen(convolutional, x), x).argmax(1)
    assert "local response" in measures.spectral_complexity(convolutional, convolutional, x, y).note
    for measure in (measures.golowich, measures.neyshabur):
        with pytest.raises(measures.Unreadable, match="for linear layers with ReLU between"):
            measure(convolutional, convolutional, x, y)
    deep = build_model("mlp_3x512", num_classes=10, channels=3, size=(28, 28))
    with pytest.raises(measures.Unreadable, match="for two layers, and this network has 4"):
        measures.neyshabur(deep, deep, x, logits_of(deep, x).argmax(1))
    with pytest.raises(measures.Unreadable, match="every label wrong"):
        measures.golowich(deep, deep, x, logits_of(deep, x).argmin(1))
