"""A step of a population against each model trained alone by plain torch modules, and the scores of presentations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rethink_fast import rng
from rethink_fast.memorize.population import OneModel, Perceptrons, initial, side_by_side
from rethink_fast.memorize.presentations import Presentations
from rethink_fast.memorize.training import Trained, subsets, train_models
from rethink_fast.models import build_model
from rethink_fast.train.setup import RunContext
from tests.bench.resumable import made

CPU = torch.device("cpu")
DOUBLE = 2e-10
"""In float64 sums in another order differ by 1e-16 of themselves a step. Over 12 steps at these rates a perturbation
grows less than a thousandfold, and values are below 100: 1e-16 * 12 * 1000 * 100 = 1.2e-10 at the very most."""


def quiet() -> None: ...


def no_tick(epoch: int, done: int, images: int) -> None: ...


def plain(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], mine: Tensor, lr: float, decay: float
) -> list[Tensor]:
    """Train one module alone by autograd and torch.optim.SGD on its own samples; the logits before each step."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    out = []
    for (inputs, labels), own in zip(batches, mine, strict=True):
        out.append(model(inputs).detach())
        if own.any():
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[own]), labels[own]).backward()
            optimizer.step()
    return out


@pytest.mark.parametrize(("name", "decay"), [("mlp_1x512", 0.0), ("mlp_1x512", 1e-2), ("mlp_3x512", 1e-2)])
def test_a_population_is_each_model_trained_alone(name: str, decay: float) -> None:
    """Ten models, two slices of uneven size; one has no sample in one of the batches, and makes no step there."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batches = [(random(8, 1, 6, 6), torch.randint(0, 10, (8,), generator=generator)) for _ in range(12)]
    mine = torch.rand(10, 12, 8, generator=generator) < 0.7
    mine[2, 5] = False
    models = []
    for number in range(10):
        torch.manual_seed(number)
        models.append(build_model(name, num_classes=10, channels=1, size=(6, 6)).double())
    population = Perceptrons(models, momentum=0.9, weight_decay=decay, device=CPU, dtype=torch.float64)
    found = torch.stack(
        [population.train(*batch, mine[:, number], 0.05).clone() for number, batch in enumerate(batches)], 1
    )
    alone = torch.stack([torch.stack(plain(model, batches, mine[k], 0.05, decay)) for k, model in enumerate(models)])
    assert (alone[:, -1] - alone[:, 0]).abs().max() > 0.2, "they have learnt something"
    torch.testing.assert_close(found[mine], alone[mine], rtol=DOUBLE, atol=DOUBLE)
    some = torch.tensor([1, 4])
    inputs = batches[0][0]
    after = torch.stack([models[k](inputs).detach() for k in (1, 4)])
    torch.testing.assert_close(population.logits(inputs, some), after, rtol=DOUBLE, atol=DOUBLE)
    population.keep(some)
    assert len(population) == 2
    torch.testing.assert_close(population.logits(inputs, torch.arange(2)), after, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("name", ["inception_small", "mlp_1x512"])
def test_one_model_is_a_plain_module_on_its_samples(name: str) -> None:
    """In float32, by the same operations in the same order: the last bits of a fused optimizer are what differs."""
    setup = made(model=name, lr=0.01, size=8)
    included = torch.rand(40, generator=torch.Generator().manual_seed(0)) < 0.7
    population = OneModel(setup, initial(setup, 3), included, quiet)
    index, steps = setup.dataset.train.index, []
    for batch in setup.train.epoch(0):
        inputs, labels = setup.train.preprocess(batch, 0)
        steps.append((inputs, labels, included[torch.searchsorted(index, batch.index)]))
    found = [population.train(x, y, own[None], 0.01)[0] for x, y, own in steps]
    model = initial(setup, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for (x, y, own), logits in zip(steps, found, strict=True):
        out = model(x[own])
        torch.testing.assert_close(logits[own], out.detach(), rtol=1e-3, atol=1e-4)
        assert not logits[~own].any()
        optimizer.zero_grad()
        F.cross_entropy(out, y[own]).backward()
        optimizer.step()


def whole(setup: RunContext, models: range, ratio: float = 0.7) -> Trained:
    return train_models(setup, models, ratio, quiet, no_tick)


def test_a_model_does_not_depend_on_those_beside_it() -> None:
    """float32: the curves of a model alone and among others differ by rounding, so its epochs and hits agree."""
    setup = made(lr=0.02, epochs=6, limit=80)
    among, alone = whole(setup, range(5)), whole(setup, range(2, 3))
    assert (among.included[2] == alone.included[0]).all()
    assert among.epochs[2] == alone.epochs[0]
    assert (among.right[2] == alone.right[0]).all()
    assert (among.test_right[2] == alone.test_right[0]).all()
    for name, value in alone.auroc.items():
        assert among.auroc[name][2] == pytest.approx(value[0], abs=1e-3, nan_ok=True)


def test_the_two_ways_train_the_same_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The perceptrons side by side, and by the engine's step one after another."""
    setup = made(lr=0.02, epochs=4, limit=80)
    assert side_by_side(setup.run)
    fast = whole(setup, range(2))

    def one(setup: RunContext, models: Any, included: Tensor, check: Any) -> OneModel:
        (model,) = models
        return OneModel(setup, initial(setup, model), included[0], check)

    monkeypatch.setattr("rethink_fast.memorize.training.start", one)
    slow = [whole(setup, range(model, model + 1)) for model in (0, 1)]
    for k, each in enumerate(slow):
        assert (fast.right[k] == each.right[0]).all()
        assert fast.epochs[k] == each.epochs[0]
    both = slow[0].held_out + slow[1].held_out
    # probabilities, after 20 steps in float32: 2e-6 a step at most (the rounding of a sum of 784), and some growth
    assert abs(fast.held_out - both).max() < 1e-3


def test_models_are_functions_of_seed_and_number() -> None:
    setup, other = made(seed=1), made(seed=2)
    first = [next(initial(each, model).parameters()) for each in (setup, other) for model in (0, 1)]
    again = next(initial(made(seed=1, limit=30), 1).parameters())
    assert torch.equal(first[1], again)
    assert len({float(value.detach().sum()) for value in first}) == 4
    index = setup.dataset.train.index
    assert torch.equal(subsets(setup, [5], 0.7)[0], rng.included(1, 5, index, 0.7))


def test_presentations_by_hand() -> None:
    """One model, three samples, the third not its own: two classes, logits (a, 0), label 0."""
    seen = Presentations(torch.tensor([[True, True, False]]))
    one, labels = torch.tensor([0]), torch.zeros(3, dtype=torch.int64)
    first, second = (-1.0, -1.0, 1.0, -3.0, 2.0), (-2.0, -1.0, -1.0, -4.0, -2.0)
    for epoch, margins in enumerate(zip(first, second, (5.0,) * 5, strict=True), 1):
        logits = torch.stack([torch.tensor(margins), torch.zeros(3)], 1)[None]
        order = torch.tensor([2, 0, 1])
        seen.add(epoch, one, order, logits[:, order], labels)
    scores = seen.scores()
    torch.testing.assert_close(scores["aum"][0, :2], torch.tensor([-0.4, -2.0]))
    # epoch 3: the softmax of (1, 0) and of (-1, 0) is off by its second entry in both classes
    wrong = 1 / (1 + torch.tensor([1.0, -1.0]).exp())
    torch.testing.assert_close(scores["el2n"][0, :2], wrong * 2**0.5)
    assert scores["first_learned"][0, :2].tolist() == [5, 6]
    assert scores["forgetting"][0, :2].tolist() == [1, 5]
    assert seen.online_accuracy(one).tolist() == [0.5]
    assert seen.finite(one).tolist() == [True]
