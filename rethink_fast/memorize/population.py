"""Many networks trained side by side on one order of batches, each on its own samples: what a step of them is.

    loss of model k = sum over its samples of the batch of the cross entropy / their number

`Perceptrons` is the fast way for the perceptrons: the batch is shared, so the first layers of all models are one
product, the later layers batched products, and the gradients are written out. `OneModel` is the way for any network:
the engine's own step, on the model's samples of each batch. tests/memorize/test_population.py compares both with plain
modules.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..defaults import ResolvedRun
from ..models import build_model
from ..models.mlp import MLP
from ..rng import weight_seed
from ..train.evaluate import estimate_statistics
from ..train.optim import set_learning_rate
from ..train.setup import RunContext

MOST = 64
"""Perceptrons side by side. On two cores a step of 64 costs 10 ms a model, of 16 13 ms, of one 24 ms (MNIST)."""
SLICE = 4
"""Models whose update is made at once: their weights and momentum (13 MB for mlp_1x512 on MNIST) stay in the cache
between the product that adds the gradient and the step that reads it."""


class Population(Protocol):
    """Networks in training."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def train(self, inputs: Tensor, labels: Tensor, included: Tensor, lr: float) -> Tensor:
        """Make one step of every network, and return the logits before it: [K, B, classes].

        A network without a sample in the batch makes no step. Logits of samples that are not its own may be zeros.

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
    return plain and run.model.model.startswith("mlp_")


def initial(setup: RunContext, model: int) -> nn.Module:
    """Return a model of a population with its first weights, a function of the run's seed and its number."""
    run = setup.run
    torch.manual_seed(weight_seed(run.corruption.seed, model))
    return build_model(
        run.model.model,
        num_classes=setup.dataset.num_classes,
        channels=setup.dataset.train.images.shape[2],
        size=setup.train.how.size,
        dropout=run.model.dropout,
        aux_head=run.model.aux_head,
    )


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
        # [K, out, in], so that each model's weights lie together and the first layers side by side are a view.
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

    def _forward(self, x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> list[Tensor]:
        """Return the inputs of each layer after the first, and the logits: [K, B, units] each."""
        k, units, width = weights[0].shape
        first = torch.addmm(biases[0].view(-1), x, weights[0].view(k * units, width).T)
        out = [first.view(len(x), k, units).transpose(0, 1)]
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            out[-1].relu_()
            out.append(torch.baddbmm(bias[:, None], out[-1], weight.transpose(1, 2)))
        return out

    @torch.no_grad()
    def train(self, inputs: Tensor, labels: Tensor, included: Tensor, lr: float) -> Tensor:
        x = inputs.to(self._weights[0].dtype).flatten(1)
        *hidden, logits = self._forward(x, self._weights, self._biases)
        count = included.sum(1)
        # The gradient of the loss by the logits: softmax less one-hot, over the model's number of samples.
        grad = logits.softmax(2)
        grad[:, torch.arange(len(labels), device=labels.device), labels] -= 1
        grad *= (included.to(grad.dtype) / count.clamp_min(1)[:, None])[..., None]
        steps = (count > 0).nonzero()[:, 0].tolist() if bool((count == 0).any()) else None
        for layer in range(len(hidden), 0, -1):
            below = hidden[layer - 1]
            grad_below = torch.bmm(grad, self._weights[layer]) * (below > 0)
            self._update(layer, grad, below, lr, steps)
            grad = grad_below
        self._update(0, grad, x, lr, steps)
        return logits

    def _update(self, layer: int, grad: Tensor, below: Tensor, lr: float, steps: list[int] | None) -> None:
        """Step a layer. grad: of the loss by its outputs, [K, B, out]. below: its inputs, [K, B, in] or shared [B, in].

        steps: the models to step, where not all.
        """
        weight, velocity = self._weights[layer], self._velocity[layer]
        places = [slice(k, k + SLICE) for k in range(0, len(self), SLICE)]
        for part in places if steps is None else [slice(k, k + 1) for k in steps]:
            v, w = velocity[part], weight[part]
            if below.ndim == 2:
                flat = grad[part].transpose(0, 1).flatten(1)
                into = v.view(-1, v.shape[2])
                torch.addmm(into, flat.T, below, beta=self._momentum, out=into)
            else:
                v.baddbmm_(grad[part].transpose(1, 2), below[part], beta=self._momentum)
            if self._decay:
                v.add_(w, alpha=self._decay)
            w.sub_(v, alpha=lr)
        which = slice(None) if steps is None else steps
        moved = self._bias_velocity[layer][which] * self._momentum + grad[which].sum(1)
        self._bias_velocity[layer][which] = moved
        self._biases[layer][which] -= lr * moved

    def before_scores(self) -> None: ...

    @torch.no_grad()
    def logits(self, inputs: Tensor, models: Tensor) -> Tensor:
        def chosen(values: list[Tensor]) -> list[Tensor]:
            return values if len(models) == len(self) else [value[models] for value in values]

        x = inputs.to(self._weights[0].dtype).flatten(1)
        return self._forward(x, chosen(self._weights), chosen(self._biases))[-1]

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
        self._least = 2 if self._step.statistics else 1

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
