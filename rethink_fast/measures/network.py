"""What the measures read of a network: its layers with their shapes, in order, with batch norm folded into them.

The layers are those that a forward pass really goes through, seen one operator at a time, so that any module will do.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .measurement import Unreadable

BATCH = 500
LAYERS = {"convolution": "conv", "addmm": "linear", "mm": "linear", "max_pool2d_with_indices": "pool"}
VIEWS = ("view", "_unsafe_view", "reshape", "expand", "t", "transpose", "permute", "clone", "detach", "alias")
ALONG = ("relu", "relu_", "mean", "_adaptive_avg_pool2d", "avg_pool2d", "constant_pad_nd", *VIEWS)
"""What may stand between the layers of a chain: ReLU, averages, zero padding and views, none of which is learned."""
LINEAR = ("cat", "add", "add_")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer as the input goes through it; a max-pool where it has no weights.

    kind: conv, linear or pool.
    inside, outside: shapes of its input and output, without the batch.
    depth: the number of layers on the longest path to it and through it, from 1.
    kernel, stride: (h, w) of a convolution or a pool; (1, 1) else.
    """

    kind: str = "pool"
    inside: tuple[int, ...]
    outside: tuple[int, ...]
    depth: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return 0


@dataclass(frozen=True, kw_only=True)
class WeightedLayer(Layer):
    """A convolution or a linear layer.

    weight: [out, in / groups, h, w], or [out, in].
    bias: [out]; None without.
    """

    weight: Tensor
    bias: Tensor | None
    groups: int = 1

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


@dataclass(frozen=True)
class TracedNetwork:
    """A network, layer by layer.

    layers: in the order in which the input goes through them.
    foreign: operators that are neither layers nor linear nor ReLU.
    branches: whether some operator joins two paths.
    normalised: whether a local response normalization was skipped.
    """

    layers: tuple[Layer, ...]
    foreign: tuple[str, ...]
    branches: bool
    normalised: bool

    @property
    def weighted(self) -> list[WeightedLayer]:
        """The layers that have weights."""
        return [layer for layer in self.layers if isinstance(layer, WeightedLayer)]

    def chain(self) -> list[Layer]:
        """Return the layers, one after another, ReLU and pooling between. Raises Unreadable for any other network."""
        if self.foreign:
            raise Unreadable(f"it needs layers with ReLU between, and this network has {', '.join(self.foreign)}")
        if self.branches:
            raise Unreadable("it needs layers one after another, and this network has branches")
        return list(self.layers)


def frozen(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy in eval mode, with every batch norm that follows a layer folded into its weights.

    A batch norm elsewhere stays, with its running statistics; so does one whose layer feeds something else as well, as
    in a residual network of pre-activations.

    example: float [1 or more, ...], an input.
    """
    model = copy.deepcopy(model).eval()
    outputs: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                outputs[id(output)] = name, output
            elif id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], name))

        return module.register_forward_hook(hook)

    kinds = nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d
    hooks = [watch(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    with torch.no_grad():
        expected = model(example)
        for each in hooks:
            each.remove()
        folded = _folded(model, pairs)
        if not _agrees(folded(example), expected):
            folded = model
            for pair in pairs:
                tried = _folded(folded, [pair])
                folded = tried if _agrees(tried(example), expected) else folded
    return folded.requires_grad_()


def _agrees(outputs: Tensor, expected: Tensor) -> bool:
    """Whether outputs are the same but for float32 sums of up to some thousand products in another order."""
    return bool((outputs - expected).abs().max() <= 1e-4 * expected.abs().max())


def _folded(model: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    model = copy.deepcopy(model)
    for layer, norm in pairs:
        _fold(model, layer, norm)
    return model


def _fold(model: nn.Module, layer: str, norm: str) -> None:
    before, after = model.get_submodule(layer), model.get_submodule(norm)
    assert isinstance(before, nn.Conv2d | nn.Linear)
    assert isinstance(after, nn.BatchNorm1d | nn.BatchNorm2d)
    if after.running_mean is None or after.running_var is None:
        raise Unreadable("it needs the running statistics of batch norm, and this network keeps none")
    fuse = fuse_conv_bn_weights if isinstance(before, nn.Conv2d) else fuse_linear_bn_weights
    before.weight, before.bias = fuse(
        before.weight, before.bias, after.running_mean, after.running_var, after.eps, after.weight, after.bias
    )
    parent, _, name = norm.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())


def read(model: nn.Module, example: Tensor) -> TracedNetwork:
    """Return the layers that an input goes through.

    model: as `frozen` returns it.
    example: float [1 or more, ...], an input.
    Raises Unreadable where a parameter is in a layer of another kind.
    """
    model = copy.deepcopy(model)
    normalisations = [name for name, each in model.named_modules() if isinstance(each, nn.LocalResponseNorm)]
    for name in normalisations:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Identity())
    example = example[:1]
    recorder = _Recorder(model, example)
    with torch.no_grad(), recorder:
        model(example)
    network = TracedNetwork(
        tuple(recorder.layers), tuple(dict.fromkeys(recorder.foreign)), recorder.branches, bool(normalisations)
    )
    learned = sum(p.numel() for p in model.parameters())
    seen = sum(layer.parameters for layer in network.layers)
    if seen != learned:
        raise Unreadable(f"it reads {seen:,} of the {learned:,} parameters: the others are in layers of other kinds")
    return network


class _Recorder(TorchDispatchMode):
    """Follows what depends on the input: how many layers are behind it, and by which operator, views aside, it came."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.foreign: list[str] = []
        self.branches = False
        self._depth = {id(example): 0}
        self._origin = {id(example): 0}
        self._kept: list[Any] = [example]
        self._count = 0
        self._parameters = {p.untyped_storage().data_ptr(): p for p in model.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(args) if isinstance(each, Tensor)]
        data = [each for each in tensors if id(each) in self._depth]
        if data:
            self._note(func.overloadpacket.__name__, args, tensors, data, out)
        return out

    def _note(self, name: str, args: Any, tensors: list[Tensor], data: list[Tensor], out: Any) -> None:
        kind = LAYERS.get(name)
        depth = max(self._depth[id(each)] for each in data) + (kind is not None)
        origins = {self._origin[id(each)] for each in data}
        learned = [p for each in tensors if (p := self._parameters.get(each.untyped_storage().data_ptr())) is not None]
        self.branches = self.branches or len(origins) > 1
        if kind is not None:
            self.layers.append(self._layer(kind, args, learned, data[0], tree_leaves(out)[0], depth))
        elif name not in ALONG and not (name in LINEAR and len(data) > 1):
            self.foreign.append(name)
        self._count += 1
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._kept.append(each)
                self._depth[id(each)] = depth
                self._origin[id(each)] = min(origins) if name in VIEWS else self._count

    def _layer(self, kind: str, args: Any, learned: Sequence[Tensor], data: Tensor, out: Tensor, depth: int) -> Layer:
        common: dict[str, Any] = {"kind": kind, "inside": tuple(data.shape[1:]), "outside": tuple(out.shape[1:])}
        common["depth"] = depth
        if kind == "pool":
            kernel = args[1]
            stride = args[2] if len(args) > 2 and args[2] else kernel
            return Layer(**common, kernel=_pair(kernel), stride=_pair(stride))
        weights = [p for p in learned if p.dim() == (4 if kind == "conv" else 2)]
        if len(weights) != 1:
            raise Unreadable(
                "it reads linear layers and convolutions of images, each with a weight, and this network has others"
            )
        common |= {"weight": weights[0], "bias": next((p for p in learned if p.dim() == 1), None)}
        if kind == "linear":
            return WeightedLayer(**common)
        stride, dilation, transposed, groups = args[3], args[5], args[6], args[8]
        if transposed or any(each != 1 for each in dilation):
            raise Unreadable("it reads convolutions that are neither transposed nor dilated")
        return WeightedLayer(**common, kernel=_pair(weights[0].shape[2:]), stride=_pair(stride), groups=groups)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    return sizes[0], sizes[-1]


@torch.no_grad()
def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs in eval mode, by batches: float [n, ...] -> float32 [n, classes]."""
    training = model.training
    model.eval()
    outputs = torch.cat([model(part).float() for part in inputs.split(BATCH)])
    model.train(training)
    return outputs


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the output of the label less the largest other one: float [n]."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(1)
