"""The paper's networks: parameter counts, layer plans, padding, what they refuse, and that they can memorise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rethink_fast.errors import UserError
from rethink_fast.models import MODELS, build_model
from rethink_fast.models.alexnet import AlexNetSmall, ResponseNorm
from rethink_fast.models.inception import InceptionModule, InceptionSmall
from rethink_fast.models.inception_v3 import InceptionV3
from rethink_fast.models.layers import LAST_LAYER_STD, BatchNorm2d, pad_for_stride_2
from rethink_fast.models.wide_resnet import WideBlock

SMALL = [name for name in MODELS if name != "inception_v3"]


def build(
    name: str, *, num_classes: int = 10, channels: int = 3, size: tuple[int, int] = (28, 28), **options: Any
) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes=num_classes, channels=channels, size=size, **options)


def to_channels_last(model: nn.Module) -> nn.Module:
    # torch's overloads take a memory format after a dtype and a device only
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return noise.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("inception_small", 1_649_402),
        ("inception_small_no_bn", 1_649_402),
        ("alexnet_small", 1_387_786),
        ("mlp_1x512", 1_209_866),
        ("mlp_3x512", 1_735_178),
    ],
)
def test_parameter_count_of_the_paper(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == parameters


def test_parameter_count_of_the_narrow_inception_is_that_of_the_readme() -> None:
    assert sum(p.numel() for p in build("inception_small_quarter").parameters()) == 119_442


def test_parameter_counts_that_the_authors_script_prints() -> None:
    """Of its WRN-28-1, and of its perceptron on 32x32x3, whose layers have no biases: ours has 512 + 10."""
    wide, perceptron = build("wrn_28_1", size=(32, 32)), build("mlp_1x512", size=(32, 32))
    assert sum(p.numel() for p in wide.parameters()) == 369_498
    assert sum(p.numel() for p in perceptron.parameters() if p.ndim > 1) == 1_577_984
    assert sum(p.numel() for p in perceptron.parameters()) == 1_577_984 + 522


def test_layer_plan_and_initial_weights_of_wrn_28_1() -> None:
    """28 layers: 25 convolutions 3x3, 2 of them of stride 2, and the linear one; beside them 2 convolutions 1x1."""
    model = build("wrn_28_1", size=(32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    plan = [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions]
    stage = [[(width, 3, stride)] + [(width, 3, 1)] * 7 for width, stride in ((16, 1), (32, 2), (64, 2))]
    shortcuts = [(32, 1, 2), (64, 1, 2)]
    assert [each for each in plan if each[1] == 3] == [(16, 3, 1), *stage[0], *stage[1], *stage[2]]
    assert [each for each in plan if each[1] == 1] == shortcuts
    # The script's sqrt(2 / (k k out)); the standard deviation of n weights is within 4 / sqrt(2 n) of it.
    for layer in convolutions:
        weights, std = layer.weight, math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
        assert weights.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * weights.numel()))
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert linear[0].weight.std().item() == pytest.approx(math.sqrt(2 / (64 + 10)), rel=4 / math.sqrt(2 * 640))
    assert not linear[0].bias.any()


def test_a_block_of_wrn_28_1_is_its_equation() -> None:
    """x + conv(relu(norm(conv(relu(norm x))))); where the width changes, the shortcut convolves relu(norm x) itself."""
    for inputs, stride in ((16, 1), (8, 2)):
        block = WideBlock(inputs, 16, stride, 0.0).eval()
        x = torch.randn(2, inputs, 8, 8)
        active = F.relu(x / math.sqrt(1 + 1e-5))
        inner = F.relu(F.conv2d(active, block.conv1.weight, stride=stride, padding=1) / math.sqrt(1 + 1e-5))
        past = F.conv2d(active, block.shortcut.weight, stride=2) if block.shortcut is not None else x
        torch.testing.assert_close(block(x), past + F.conv2d(inner, block.conv2.weight, padding=1))


@pytest.mark.parametrize(("aux_head", "parameters"), [(False, 23_834_568), (True, 27_161_264)])
def test_parameter_count_of_inception_v3(aux_head: bool, parameters: int) -> None:
    with torch.device("meta"):
        model = build("inception_v3", num_classes=1000, size=(299, 299), aux_head=aux_head)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_learning_rates_of_the_paper() -> None:
    """0.1 for Inception, 0.01 for Alexnet and the MLPs; without batch norm 0.1 stalls, and 0.01 stands in."""
    rates = {name: MODELS[name].learning_rate for name in SMALL}
    assert rates == {
        "inception_small": 0.1,
        "inception_small_no_bn": 0.01,
        "inception_small_quarter": 0.1,
        "alexnet_small": 0.01,
        "mlp_1x512": 0.01,
        "mlp_3x512": 0.01,
        "wrn_28_1": 0.1,
    }


def test_layer_plan_of_inception_small() -> None:
    """Channels and sizes of Figure 3: 28 -> 14 -> 7 at the two downsample modules."""
    model = build("inception_small").eval()
    assert isinstance(model, InceptionSmall)
    sizes = []
    x = channels_last(1, 3, 28, 28)
    for stage in model.stages:
        x = stage(x)
        sizes.append((x.shape[1], x.shape[2], x.shape[3]))
    modules = [stage for stage in model.stages if isinstance(stage, InceptionModule)]
    branches = [(module.conv1.conv.out_channels, module.conv3.conv.out_channels) for module in modules]
    assert branches == [(32, 32), (32, 48), (112, 48), (96, 64), (80, 80), (48, 96), (176, 160), (176, 160)]
    channels = [96, 64, 80, 160, 160, 160, 160, 144, 240, 336, 336]
    sides = [28, 28, 28, 14, 14, 14, 14, 14, 7, 7, 7]
    assert sizes == [(c, side, side) for c, side in zip(channels, sides, strict=True)]


def test_layer_plan_of_inception_v3() -> None:
    """The published grids, 35x35x288 -> 17x17x768 -> 8x8x2048 for 299 pixels; shapes only, on the meta device."""
    with torch.device("meta"):
        model = build("inception_v3", num_classes=1000, size=(299, 299))
        grid = torch.empty(1, 3, 299, 299)
    assert isinstance(model, InceptionV3)
    shapes = []
    for stage in (*model.up_to_17, *model.from_17):
        grid = stage(grid)
        shapes.append(tuple(grid.shape[1:]))
    assert shapes == [
        *((32, 149, 149), (32, 147, 147), (64, 147, 147), (64, 73, 73), (80, 73, 73), (192, 71, 71), (192, 35, 35)),
        *((256, 35, 35), (288, 35, 35), (288, 35, 35)),
        *((768, 17, 17),) * 5,
        *((1280, 8, 8), (2048, 8, 8), (2048, 8, 8)),
    ]


def test_every_weight_of_inception_v3_has_the_published_shape() -> None:
    """In order: each convolution has no bias and is followed by batch norm with scale and shift."""
    lines = (Path(__file__).parent / "inception_v3_shapes.txt").read_text().splitlines()[1:]
    published = [tuple(map(int, line.split()[1:])) for line in lines]
    with torch.device("meta"):
        model = build("inception_v3", num_classes=1000, size=(299, 299), aux_head=True)
    expected = []
    for shape in published:
        expected += [shape, shape[:1], shape[:1]] if len(shape) == 4 else [shape, shape[:1]]
    assert [tuple(p.shape) for p in model.parameters()] == expected
    assert len(published) == 94 + 2 + 2


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (4, 7), (7, 4), (1, 2), (28, 14)])
def test_stride_2_windows_are_tensorflows_same(size: tuple[int, int]) -> None:
    """ceil(n / 2) windows, the first at 0 where n is even and at -1 where it is odd, by the definition of SAME."""
    x = torch.arange(1, math.prod(size) + 1, dtype=torch.float64).view(1, 1, *size)
    padded = pad_for_stride_2(x)
    summed = F.conv2d(padded, torch.ones(1, 1, 3, 3, dtype=torch.float64), stride=2)[0, 0]
    largest = F.max_pool2d(padded, 3, 2)[0, 0]
    rows, columns = ([range(2 * k - n % 2, 2 * k - n % 2 + 3) for k in range((n + 1) // 2)] for n in size)
    assert summed.shape == largest.shape == (len(rows), len(columns))
    for i, window_rows in enumerate(rows):
        for j, window_columns in enumerate(columns):
            values = [
                x[0, 0, r, c].item()
                for r in window_rows
                for c in window_columns
                if 0 <= r < size[0] and 0 <= c < size[1]
            ]
            assert summed[i, j].item() == sum(values)
            assert largest[i, j].item() == max(values)


def test_batch_norm_of_inception_small_learns_a_shift_only() -> None:
    model = build("inception_small")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 19
    for norm in norms:
        assert [name for name, _ in norm.named_parameters()] == ["bias"]
        assert bool((norm.weight == 1).all())
        assert "weight" not in norm.state_dict()
        assert (norm.eps, norm.momentum) == (1e-3, 0.1)
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))
    without = build("inception_small_no_bn")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in without.modules())
    assert all(m.bias is not None for m in without.modules() if isinstance(m, nn.Conv2d))


def test_local_response_normalization_is_the_tutorials() -> None:
    """x / (1 + (0.001 / 9) sum of x^2 over the 4 channels either side)^0.75, after the pooling."""
    model = build("alexnet_small")
    assert isinstance(model, AlexNetSmall)
    norm = model.features[0].get_submodule("norm").double()
    x = 30 * channels_last(2, 64, 3, 3, dtype=torch.float64).numpy()
    expected = np.empty_like(x)
    for c in range(64):
        squares = (x[:, max(0, c - 4) : c + 5] ** 2).sum(axis=1)
        expected[:, c] = x[:, c] / (1 + 0.001 / 9 * squares) ** 0.75
    # float64 on both sides: a sum of 9 terms, a few roundings and a power, far below 1e3 units of 2.2e-16.
    np.testing.assert_allclose(norm(torch.from_numpy(x)).numpy(), expected, rtol=1e3 * 2.2e-16)
    names = [type(m).__name__ for m in model.features[0].children()]
    assert names == ["Conv2d", "MaxPool2d", "ResponseNorm"]


@pytest.mark.parametrize("channels", [3, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_local_response_normalization_on_a_processor_is_torchs(dtype: torch.dtype, channels: int) -> None:
    """By a product with a banded matrix, where torch pools over channels: values and gradients, under autocast too."""
    x, up = 30 * channels_last(2, channels, 3, 3, dtype=dtype), channels_last(2, channels, 3, 3, dtype=dtype)
    norm = ResponseNorm()
    found = []
    for forward in (norm, super(ResponseNorm, norm).forward):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = forward(leaf)
        y.backward(up.to(y.dtype))
        assert leaf.grad is not None
        found.append((y.dtype, y.detach().double(), leaf.grad.double()))
    (dtype_here, y_here, grad_here), (dtype_torch, y_torch, grad_torch) = found
    assert dtype_here == dtype_torch
    # Sums of at most 9 terms in another order, and roots for a power: far below 1e3 roundings; a gradient in bfloat16
    # is rounded once more, and torch's squares are rounded to bfloat16 too.
    rtol = 1e3 * 2.2e-16 if dtype == torch.float64 else 4 * 2**-8
    torch.testing.assert_close(y_here, y_torch, rtol=rtol, atol=0)
    torch.testing.assert_close(grad_here, grad_torch, rtol=rtol, atol=rtol * grad_torch.abs().max().item())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "wrn_28_1"])
def test_initial_weights_are_he_normal_and_small_at_the_end(name: str) -> None:
    model = build(name, size=(75, 75) if name == "inception_v3" else (28, 28))
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    *hidden, last = layers
    expected = [math.sqrt(2 / layer.weight[0].numel()) for layer in hidden] + [LAST_LAYER_STD]
    for layer, std in zip((*hidden, last), expected, strict=True):
        n = layer.weight.numel()
        # The deviation of a sample's standard deviation is std / sqrt(2 n), of its mean std / sqrt(n); 5 of them.
        assert abs(layer.weight.std().item() - std) < 5 * std / math.sqrt(2 * n)
        assert abs(layer.weight.mean().item()) < 5 * std / math.sqrt(n)
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("name", MODELS)
def test_smallest_size_trains_every_parameter(name: str) -> None:
    side = MODELS[name].smallest
    model = build(name, channels=1, size=(side, side), num_classes=7)
    logits = model(channels_last(2, 1, side, side))
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, torch.arange(2)).backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert bool(p.grad.isfinite().all()), parameter_name


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (7, 13)), (3, (32, 32)), (4, (5, 64))])
def test_other_sizes(name: str, channels: int, size: tuple[int, int]) -> None:
    model = build(name, channels=channels, size=size).eval()
    assert model(channels_last(2, channels, *size)).shape == (2, 10)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_all_the_way_and_the_same_function(name: str) -> None:
    side = 75 if name == "inception_v3" else 14
    model = build(name, size=(side, side)).double().eval()
    x = channels_last(1, 3, side, side, dtype=torch.float64)
    expected = model(x.contiguous())
    model = to_channels_last(model)
    formats = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, inputs, _out: formats.append(inputs[0]))
    logits = model(x)
    assert all(seen.is_contiguous(memory_format=torch.channels_last) for seen in formats)
    # Another order of summation in float64: fan-in <= 1e4 and <= 50 layers give 50 * 1e4 * 2.2e-16 < 2e-10.
    torch.testing.assert_close(logits, expected, rtol=2e-10, atol=2e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inception_small", "alexnet_small"])
def test_compiles_into_one_graph(name: str) -> None:
    model = build(name, size=(14, 14))
    x = channels_last(4, 3, 14, 14)
    expected = model(x)
    assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(x), expected)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_autocast_keeps_float32_weights_and_gradients(name: str) -> None:
    model = to_channels_last(build(name, size=(14, 14)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(channels_last(4, 3, 14, 14))
        loss = F.cross_entropy(logits, torch.arange(4))
    loss.backward()
    assert logits.dtype == torch.bfloat16
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_dropout_acts_in_training_only(name: str) -> None:
    side = 75 if name == "inception_v3" else 8
    x = channels_last(2, 3, side, side)
    model = build(name, size=(side, side), dropout=0.5)
    assert not torch.equal(model(x), model(x))
    evaluated = model.eval()(x)
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropouts] == [0.5] * len(dropouts)
    for dropout in dropouts:
        dropout.p = 0.0
    assert torch.equal(model(x), evaluated)
    model.train()
    assert torch.equal(model(x), model(x))


def test_auxiliary_head_speaks_in_training_only() -> None:
    with torch.device("meta"):
        model = build("inception_v3", num_classes=11, size=(299, 299), aux_head=True)
        x = torch.empty(2, 3, 299, 299)
    logits, aux = model(x)
    assert logits.shape == aux.shape == (2, 11)
    assert model.eval()(x).shape == (2, 11)


@pytest.mark.parametrize("name", SMALL)
def test_fits_random_labels_at_its_learning_rate(name: str) -> None:
    """16 images of noise with random labels: SGD with momentum 0.9 takes the loss from ln 10 below a tenth of it."""
    model = to_channels_last(build(name, size=(6, 6)))
    images = channels_last(16, 3, 6, 6)
    labels = torch.randint(10, (16,), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=MODELS[name].learning_rate, momentum=0.9)
    losses: list[float] = []
    while len(losses) < 100 and (not losses or losses[-1] > 0.23):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.23, losses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "inception_smal"}, "model 'inception_smal' is unknown.*Did you mean 'inception_small'"),
        ({"name": "inception_small", "size": (3, 28)}, "size 3x28 is too small for inception_small: choose 4"),
        ({"name": "alexnet_small", "size": (28, 3)}, "size 28x3 is too small for alexnet_small: choose 4"),
        ({"name": "inception_v3", "size": (74, 74)}, "size 74x74 is too small for inception_v3: choose 75"),
        (
            {"name": "inception_v3", "size": (298, 299), "aux_head": True},
            "size 298x299 is too small for inception_v3 with its auxiliary head: choose 299",
        ),
        ({"name": "mlp_1x512", "aux_head": True}, "'mlp_1x512' has no auxiliary head.*inception_v3"),
        ({"name": "mlp_1x512", "dropout": 1.0}, "dropout 1.0 is out of range"),
        ({"name": "mlp_1x512", "dropout": -0.1}, "dropout -0.1 is out of range"),
    ],
    ids=lambda value: value.get("name", "") if isinstance(value, dict) else "",
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_torch_s_without_the_counter(training: bool) -> None:
    ours, theirs = BatchNorm2d(3, eps=1e-3), nn.BatchNorm2d(3, eps=1e-3)
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    for norm in (ours, theirs):
        norm(x)  # running statistics that are not the first ones
        norm.train(training)
    assert torch.equal(ours(x), theirs(x))
    there = theirs.state_dict()
    assert ours.state_dict().keys() == there.keys()
    assert all(torch.equal(value, there[name]) for name, value in ours.state_dict().items() if "running" in name)
    counters = [int(norm.state_dict()["num_batches_tracked"]) for norm in (ours, theirs)]
    assert counters == [0, 1 + training]
    models = [build(name, size=(75, 75)) for name in MODELS]
    norms = [module for model in models for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(isinstance(norm, BatchNorm2d) for norm in norms)
