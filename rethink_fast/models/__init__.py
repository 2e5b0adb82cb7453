"""Networks by name: the paper's (`MODELS`, architecture only), those of timm, and your own (own.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..errors import UserError, one_of
from .alexnet import AlexNetSmall
from .inception import InceptionSmall
from .inception_v3 import InceptionV3
from .mlp import MLP
from .own import FORM, build_own, is_own, name_of, source_of
from .wide_resnet import WideResNet


@dataclass(frozen=True)
class ModelEntry:
    """One network: how to build it, and what the paper and its layers need.

    build: takes num_classes, channels, size and dropout (and aux_head where `smallest_aux` is set).
    learning_rate: the paper's initial one (appendix A; for inception_v3 that of the TensorFlow package whose setup it
        reuses).
    smallest: the least height and width of the input, in pixels.
    smallest_aux: the same with the auxiliary head; None where there is none.
    """

    build: Callable[..., nn.Module]
    learning_rate: float
    smallest: int
    smallest_aux: int | None = None


MODELS = {
    "inception_small": ModelEntry(InceptionSmall, 0.1, 4),
    # The paper's text has 0.1 here too. With this initialisation the ReLUs die at 0.1: on random labels the loss stays
    # at ln 10 while the gradient vanishes within 100 steps. 0.01 memorises.
    "inception_small_no_bn": ModelEntry(partial(InceptionSmall, batch_norm=False), 0.01, 4),
    # Not of the paper: a quarter of the channels, for processors.
    "inception_small_quarter": ModelEntry(partial(InceptionSmall, width=0.25), 0.1, 4),
    "alexnet_small": ModelEntry(AlexNetSmall, 0.01, 4),
    "mlp_1x512": ModelEntry(partial(MLP, hidden=(512,)), 0.01, 1),
    "mlp_3x512": ModelEntry(partial(MLP, hidden=(512, 512, 512)), 0.01, 1),
    # Not of the paper: of its first author's script, and its rate there.
    "wrn_28_1": ModelEntry(WideResNet, 0.1, 1),
    "inception_v3": ModelEntry(InceptionV3, 0.045, 75, 299),
}


OWN_LEARNING_RATE = 0.01
"""Of networks from outside the package, where none is given: SGD with momentum at a rate that is seldom too high."""


def model_entry(name: str) -> ModelEntry:
    """Return what a network needs, by its name. Raises UserError for an unknown one."""
    if is_own(name):
        return ModelEntry(partial(build_own, name), OWN_LEARNING_RATE, 1)
    return MODELS[one_of("--model", name, (*MODELS, "timm/NAME", FORM))]


def build_model(
    name: str,
    *,
    num_classes: int,
    channels: int,
    size: tuple[int, int],
    dropout: float = 0.0,
    aux_head: bool = False,
) -> nn.Module:
    """Return a network, freshly initialised from torch's generator: float [B, channels, *size] -> [B, num_classes].

    name: a key of MODELS.
    num_classes: classes.
    channels: of the input.
    size: height and width of the input, in pixels.
    dropout: the probability of dropping an input of the last linear layer (of the last two in alexnet_small; in
        wrn_28_1 between the convolutions of each block).
    aux_head: return (logits, auxiliary logits) in training, and logits in evaluation.
    Raises UserError for a name, size, dropout or head that is not possible.
    """
    entry = model_entry(name)
    if not 0.0 <= dropout < 1.0:
        raise UserError(
            f"dropout {dropout} is out of range",
            "choose one in [0, 1)",
            option="dropout",
            value=dropout,
            allowed="[0, 1)",
        )
    if dropout and is_own(name):
        raise UserError(
            f"--dropout {dropout} has no effect with --model {name}",
            "omit it, and put dropout into the network",
            option="--dropout",
            value=dropout,
            allowed="0",
        )
    if aux_head and entry.smallest_aux is None:
        having = ", ".join(other for other, e in MODELS.items() if e.smallest_aux is not None)
        raise UserError(
            f"model {name!r} has no auxiliary head",
            f"omit it, or choose {having}",
            option="aux_head",
            value=True,
            allowed=having,
        )
    smallest = entry.smallest_aux if aux_head and entry.smallest_aux is not None else entry.smallest
    if min(size) < smallest:
        head = " with its auxiliary head" if aux_head else ""
        raise UserError(
            f"size {size[0]}x{size[1]} is too small for {name}{head}",
            f"choose {smallest} or more, or another model",
            option="size",
            value=size,
            allowed=f"at least {smallest}",
        )
    options: dict[str, Any] = {} if is_own(name) else {"dropout": dropout}
    if aux_head:
        options["aux_head"] = True
    return entry.build(num_classes=num_classes, channels=channels, size=size, **options)


__all__ = ["MODELS", "ModelEntry", "build_model", "is_own", "model_entry", "name_of", "source_of"]
