"""Many networks trained side by side on one order of batches, each on its own samples: what a step of them is.

    loss of model k = sum over its samples of the batch of the cross entropy / their number

`Perceptrons` is the fast way for the perceptrons: batched products over the models, each on its own samples of the
batch, with the gradients written out and added to the momentum in place. `OneModel` is the way for any network: the
engine's own step, on the model's samples of each batch. tests/memorize/test_population.py compares both with plain
modules.

On a CPU one product of the shared batch with all first layers side by side is no faster than one model after another:
it computes the samples that a model does not train on as well, 1 / ratio of the arithmetic, which is what limits it.
mlp_1x512 on MNIST, batches of 128 at ratio 0.7, processor time of a step and model on one busy core of an AMD EPYC
(AVX2): engine 4.4 ms, the shared product 5.0 ms, this 2.6 ms. One product a model without the filling (2.7 ms), several
steps of a model in a row (2.6 ms), and updates by blocks of rows while they are in the cache (2.8 ms) gain nothing. Nor
do slices of 2 or 4 models, the gradient of the ReLU in place, and the gradient of the biases as a product (within 2 %);
the large products alone without the filling are 3 % faster on one core and 4 % slower on two. README.md has the floor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..defaults import ResolvedRun
from ..models.mlp import MLP
from ..rng import weight_seed
from ..train.evaluate import estimate_statistics
from ..train.optim import set_learning_rate
from ..train.setup import RunContext

threshold_backward = torch.ops.aten.threshold_backward
"""A gradient where the output of a ReLU is above 0, else 0: one pass."""
PERCEPTRONS = ("mlp_1x512", "mlp_3x512")
MOST = 64
"""Perceptrons in training at once: they share the order and the preparation of each batch."""
SLICE = 8
"""Perceptrons in one batched product on a CPU: enough to share among its cores, and few enough that their samples of a
batch are nearly as many."""


class Population(Protocol):
    """Networks in training."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def train(self, inputs: Tensor, labels: Tensor, included: Tensor, lr: float) -> Tensor:
        """Make one step of every network, and return the logits before it: [K, B, classes].

        A network without a sample in the batch makes no step. Logits of samples that are not its own mean nothing.

        inputs: [B, C, h, w]. labels: int64 [B]. included: bool [K, B], the samples of each network. lr: learning rate.
        """
        ...

    def before_scores(self) -> None:
        """Make the networks ready to be evaluated."""
        ...

    def logits(self, inputs: Tensor, models: Tensor) -> Tensor:
        """Return the logits of some networks in eval mode: [k, B, classes]. models: int64 [k], their places here."""
        ...

    def keep(self, models: Tensor) -> None:
        """Drop all networks but these. models: int64 [k], their places here, ascending."""
        ...


def side_by_side(run: ResolvedRun) -> bool:
    """Whether a run's models can be `Perceptrons`."""
    plain = run.train.optimizer == "sgd" and run.train.precision == "fp32" and run.model.dropout == 0
    return plain and run.model.model in PERCEPTRONS


def initial(setup: RunContext, model: int) -> nn.Module:
    """Return a model of a population with its first weights, a function of the run's seed and its number."""
    torch.manual_seed(weight_seed(setup.run.corruption.seed, model))
    return setup.new_network()


def start(setup: RunContext, models: Sequence[int], included: Tensor, check: Callable[[], None]) -> Population:
    """Return untrained models by their numbers: one alone where they cannot be trained side by side.

    included: bool [K, n], the samples of each by place. check: called in long passes; raises Interrupted to stop.
    """
    if not side_by_side(setup.run):
        (model,) = models
        return OneModel(setup, initial(setup, model), included[0], check)
    train = setup.run.train
    return Perceptrons(
        (initial(setup, model) for model in models),
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        device=setup.device,
    )


class Perceptrons:
    """Perceptrons of one shape, trained by SGD with momentum as torch.optim.SGD has it.

    models: made by models.mlp. weight_decay: on weights, not on biases.
    """

    def __init__(
        self,
        models: Any,
        *,
        momentum: float,
        weight_decay: float,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        layers = [_linear(model) for model in models]
        self._momentum, self._decay = momentum, weight_decay
        # [K, out, in]: side by side the first layers are a view.
        self._weights = [
            torch.stack([part.weight.detach() for part in layer]).to(device, dtype)
            for layer in zip(*layers, strict=True)
        ]
        self._biases = [
            torch.stack([part.bias.detach() for part in layer]).to(device, dtype) for layer in zip(*layers, strict=True)
        ]
        self._velocity = [torch.zeros_like(value) for value in self._weights]
        self._bias_velocity = [torch.zeros_like(value) for value in self._biases]

    def __len__(self) -> int:
        return len(self._weights[0])

    @torch.no_grad()
    def train(self, inputs: Tensor, labels: Tensor, included: Tensor, lr: float) -> Tensor:
        x = inputs.to(self._weights[0].dtype).flatten(1)
        count, classes = included.sum(1), self._biases[-1].shape[1]
        own_first = (~included).to(torch.uint8).argsort(dim=1, stable=True)
        out = x.new_zeros(len(self), len(labels), classes)
        for part in self._slices(count):
            # As wide as the model with most samples: the others are filled up with samples of weight zero.
            mine = own_first[part, : int(count[part].max())]
            share = included[part].gather(1, mine).to(x.dtype) / count[part, None]
            logits = self._step(part, x[mine], labels[mine], share, lr)
            out[part].scatter_(1, mine[..., None].expand(-1, -1, classes), logits)
        return out

    def _slices(self, count: Tensor) -> list[slice]:
        """Return the models that make a step, so many at once as are fast."""
        if bool((count == 0).any()):
            return [slice(k, k + 1) for k in count.nonzero()[:, 0].tolist()]
        size = SLICE if count.device.type == "cpu" else len(self)
        return [slice(k, k + size) for k in range(0, len(self), size)]

    def _step(self, part: slice, x: Tensor, labels: Tensor, share: Tensor, lr: float) -> Tensor:
        """Step some models, and return their logits before it: [k, m, classes].

        x: [k, m, pixels]. labels: int64 [k, m]. share: [k, m], the weight of each sample in its model's loss.
        """
        weights, biases, velocity, bias_velocity = (
            [value[part] for value in values]
            for values in (self._weights, self._biases, self._velocity, self._bias_velocity)
        )
        layer_inputs = [x]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            outputs = torch.baddbmm(bias[:, None], layer_inputs[-1], weight.transpose(1, 2))
            if number < len(weights) - 1:
                layer_inputs.append(outputs.relu_())
        # The gradient of the loss by the logits: softmax less one-hot, by the samples' weights.
        grad = outputs.softmax(2)
        grad.scatter_add_(2, labels[..., None], torch.full_like(share, -1.0)[..., None])
        grad *= share[..., None]
        for number in range(len(weights) - 1, -1, -1):
            weight, bias, v, bias_v = weights[number], biases[number], velocity[number], bias_velocity[number]
            below = layer_inputs[number]
            grad_below = threshold_backward(torch.bmm(grad, weight), below, 0) if number else grad
            v.baddbmm_(grad.transpose(1, 2), below, beta=self._momentum)
            if self._decay:
                v.add_(weight, alpha=self._decay)
            weight.sub_(v, alpha=lr)
            bias.sub_(bias_v.mul_(self._momentum).add_(grad.sum(1)), alpha=lr)
            grad = grad_below
        return outputs

    def before_scores(self) -> None: ...

    @torch.no_grad()
    def logits(self, inputs: Tensor, models: Tensor) -> Tensor:
        def chosen(values: list[Tensor]) -> list[Tensor]:
            return values if len(models) == len(self) else [value[models] for value in values]

        weights, biases = chosen(self._weights), chosen(self._biases)
        k, units, width = weights[0].shape
        x = inputs.to(weights[0].dtype).flatten(1)
        first = torch.addmm(biases[0].view(-1), x, weights[0].view(k * units, width).T)
        out = first.view(len(x), k, units).transpose(0, 1)
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            out = torch.baddbmm(bias[:, None], out.relu_(), weight.transpose(1, 2))
        return out

    def keep(self, models: Tensor) -> None:
        for values in (self._weights, self._biases, self._velocity, self._bias_velocity):
            values[:] = [value[models] for value in values]


def _linear(model: nn.Module) -> list[nn.Linear]:
    assert isinstance(model, MLP)
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


class OneModel:
    """One network of any kind, trained by the engine's step. setup: its step and optimizer are taken over.

    included: bool [n], its samples by place. check: called in passes over them; raises Interrupted to stop.
    """

    def __init__(self, setup: RunContext, model: nn.Module, included: Tensor, check: Callable[[], None]) -> None:
        self._step, self._check, self._classes = setup.step, check, setup.dataset.num_classes
        self._own = copy.copy(setup.train)
        self._own.split = replace(setup.train.split, index=setup.train.split.index[included.cpu()])
        self._step.restart(model.to(setup.device))
        replace(setup, train=self._own).fit_optimizer()
        # With one value a channel batch norm has no statistics in training.
        self._least = 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1

    def __len__(self) -> int:
        return 1

    def train(self, inputs: Tensor, labels: Tensor, included: Tensor, lr: float) -> Tensor:
        mine = included[0].nonzero()[:, 0]
        out = torch.zeros(1, len(labels), self._classes, device=inputs.device)
        if len(mine) < self._least:
            return out
        set_learning_rate(self._step.optimizer, lr)
        model, kept = self._step.model, []
        hook = model.register_forward_hook(lambda *call: kept.append(call[2]))
        model.train()
        try:
            self._step.update(inputs[mine], labels[mine])
        finally:
            hook.remove()
        logits = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        out[0, mine] = logits.detach().float()
        return out

    def before_scores(self) -> None:
        estimate_statistics(self._step, self._own, self._check)

    @torch.no_grad()
    def logits(self, inputs: Tensor, models: Tensor) -> Tensor:
        self._step.model.eval()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._step.autocast, cache_enabled=False):
            found: Tensor = self._step.model(inputs)
        return found.float()[None]

    def keep(self, models: Tensor) -> None: ...
