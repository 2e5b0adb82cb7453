"""Train some models of a population, and collect what the scores are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.loader import Loader
from ..errors import UserError
from ..rng import included as is_included
from ..train.loop import EVAL_EARLY_MARGIN
from ..train.setup import RunContext
from .auroc import auroc
from .plan import check_samples
from .population import Population, start
from .presentations import FALLS, SCORES, Presentations

Tick = Callable[[int, int, int], None]
"""Called after each epoch with (epoch, models that are done, images trained so far)."""


@dataclass
class Trained:
    """What some models leave. n samples and t test images by place, k models in ascending order of their numbers.

    included, right: bool [k, n]. test_right: bool [k, t]; t is 0 without a test set.
    label_in, label_out: float64 [n], sums of the probability of the label over the models with, without the sample.
    held_out: float64 [n, classes], sum of the class probabilities over the models without the sample.
    scores: float64 [n] by name of presentations.SCORES, sums over the models with the sample. auroc: float64 [k] by
    name, of one model on its own samples, for changed labels; NaN where none or all are.
    epochs: int64 [k]. reached: bool [k], whether the target accuracy was. images: samples trained on. seconds: it took.
    """

    included: np.ndarray
    right: np.ndarray
    test_right: np.ndarray
    label_in: np.ndarray
    label_out: np.ndarray
    held_out: np.ndarray
    scores: dict[str, np.ndarray]
    auroc: dict[str, np.ndarray]
    epochs: np.ndarray
    reached: np.ndarray
    images: int
    seconds: float


@dataclass
class _Outputs:
    """By model, as each is done. probabilities: float32 [n, classes]."""

    right: dict[int, Tensor] = field(default_factory=dict)
    test_right: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    reached: dict[int, bool] = field(default_factory=dict)


def subsets(setup: RunContext, models: Sequence[int], ratio: float) -> Tensor:
    """Return which samples each model trains on: bool [K, n] by place in the training set's index, on the CPU."""
    seed, index = setup.run.corruption.seed, setup.dataset.train.index
    return torch.stack([is_included(seed, model, index, ratio) for model in models])


def train_models(setup: RunContext, models: range, ratio: float, check: Callable[[], None], tick: Tick) -> Trained:
    """Train models by their numbers, until each fits its samples or the epochs are over.

    One order for all: each model learns from its own samples of every batch. One that reaches the target of the run
    stops there, as a run of bench does; it is evaluated once its online accuracy is near, and in the last epoch.

    check: called before each batch; raises Interrupted to stop.
    Raises UserError where outputs are not finite, or a model has hardly a sample.
    """
    began = time.perf_counter()
    device, loader, train = setup.device, setup.train, setup.run.train
    included = subsets(setup, models, ratio).to(device)
    check_samples(included, models, ratio)
    population = start(setup, models, included, check)
    seen, out = Presentations(included), _Outputs()
    index = setup.dataset.train.index.to(device)
    active, images = torch.arange(len(models), device=device), 0
    for epoch in range(train.epochs):
        epoch_key = torch.tensor(epoch, device=device)
        for number, batch in enumerate(loader.epoch(epoch)):
            check()
            inputs, labels = loader.preprocess(batch, epoch_key)
            places = torch.searchsorted(index, batch.index)
            mine = included[active[:, None], places[None]]
            logits = population.train(inputs, labels, mine, setup.learning_rate(epoch, number))
            seen.add(epoch + 1, active, places, logits, labels)
        images += int(included[active].sum())
        _check_finite(seen, active, models, epoch + 1)
        last = epoch + 1 == train.epochs
        due = last | (seen.online_accuracy(active) >= train.target_accuracy - EVAL_EARLY_MARGIN)
        due &= last | (train.target_loss != 0)
        if bool(due.any()):
            done = _evaluate(setup, population, due.nonzero()[:, 0], active, included, out, epoch + 1, check)
            if len(done) == len(active):
                break
            if done:
                left = torch.tensor([model not in done for model in active.tolist()], device=device)
                population.keep(left.nonzero()[:, 0])
                active = active[left]
        tick(epoch + 1, len(models) - len(active), images)
    return _collect(setup, seen, out, images, time.perf_counter() - began)


def _check_finite(seen: Presentations, active: Tensor, models: Sequence[int], epoch: int) -> None:
    finite = seen.finite(active)
    if not bool(finite.all()):
        first = models[int(active[~finite][0])]
        raise UserError(
            f"the outputs of model {first} are not finite in epoch {epoch}", "choose a smaller --lr", option="--lr"
        )


def _evaluate(
    setup: RunContext,
    population: Population,
    due: Tensor,
    active: Tensor,
    included: Tensor,
    out: _Outputs,
    epoch: int,
    check: Callable[[], None],
) -> set[int]:
    """Evaluate the models at the places `due` of the population. Return those that are done, by their places in all."""
    train = setup.run.train
    population.before_scores()
    labels = setup.labels[setup.dataset.train.index].to(setup.device)
    logits = torch.cat(list(_passes(population, setup.train, due, check)), 1)
    right = logits.argmax(2) == labels
    losses = F.cross_entropy(logits.transpose(1, 2), labels.expand(len(due), -1), reduction="none").double()
    mine = included[active[due]]
    count = mine.sum(1)
    accuracy = (right & mine).sum(1) / count
    reached = accuracy >= train.target_accuracy
    low = True if train.target_loss is None else (losses * mine).sum(1) / count <= train.target_loss
    done = ((reached & low) | (epoch == train.epochs)).nonzero()[:, 0]
    names = active[due[done]].tolist()
    tests = torch.zeros(len(done), 0, dtype=torch.bool)
    if setup.test is not None and len(done):
        test_labels = setup.dataset.test.labels[setup.dataset.test.index].to(setup.device)  # type: ignore[union-attr]
        parts = torch.cat(list(_passes(population, setup.test, due[done], check)), 1)
        tests = parts.argmax(2) == test_labels
    for name, place, test in zip(names, done.tolist(), tests, strict=True):
        out.right[name], out.test_right[name] = right[place].cpu(), test.cpu()
        out.probabilities[name] = logits[place].softmax(1).cpu()
        out.epochs[name], out.reached[name] = epoch, bool(reached[place])
    return set(names)


def _passes(population: Population, loader: Loader, models: Tensor, check: Callable[[], None]) -> Iterator[Tensor]:
    for batch in loader.eval_batches():
        check()
        yield population.logits(loader.preprocess(batch, None).inputs, models)


def _collect(setup: RunContext, seen: Presentations, out: _Outputs, images: int, seconds: float) -> Trained:
    """Sum over the models, in the order of their numbers."""
    included = seen.included.cpu()
    k, n = included.shape
    index = setup.dataset.train.index
    labels, changed = setup.labels[index], setup.labels[index] != setup.original[index]
    label_in, label_out = torch.zeros(2, n, dtype=torch.float64)
    held_out = torch.zeros(n, setup.dataset.num_classes, dtype=torch.float64)
    for model in range(k):
        probabilities, mine = out.probabilities[model], included[model]
        of_label = probabilities.gather(1, labels[:, None])[:, 0]
        label_in += of_label * mine
        label_out += of_label * ~mine
        held_out += probabilities * ~mine[:, None]
    presented = {name: values.cpu().double() for name, values in seen.scores().items()}
    found = {
        name: [auroc(values[m][included[m]], changed[included[m]], falls=name in FALLS) for m in range(k)]
        for name, values in presented.items()
    }
    return Trained(
        included=included.numpy(),
        right=torch.stack([out.right[m] for m in range(k)]).numpy(),
        test_right=torch.stack([out.test_right[m] for m in range(k)]).numpy(),
        label_in=label_in.numpy(),
        label_out=label_out.numpy(),
        held_out=held_out.numpy(),
        scores={name: (presented[name] * included).sum(0).numpy() for name in SCORES},
        auroc={name: np.array(values) for name, values in found.items()},
        epochs=np.array([out.epochs[m] for m in range(k)]),
        reached=np.array([out.reached[m] for m in range(k)]),
        images=images,
        seconds=seconds,
    )
