"""The engine's parts: schedule, weight decay, milestones, evaluation, batches, and the step."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.testing import CompileCounter

from rethink_fast import rng
from rethink_fast.config import Run, Train
from rethink_fast.data.loader import Loader, pixel_statistics
from rethink_fast.data.preprocess import Preprocessing
from rethink_fast.data.source import InMemoryImages, Split, subset
from rethink_fast.defaults import ResolvedRun, resolve
from rethink_fast.models import build_model
from rethink_fast.train.evaluate import evaluate
from rethink_fast.train.milestones import TimePoint, TimeToMemorize
from rethink_fast.train.optim import learning_rate, make_optimizer
from rethink_fast.train.state import EpochMetrics, TrainState
from rethink_fast.train.step import Step

CPU = torch.device("cpu")


def split(n: int = 23, limit: int | None = None) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(InMemoryImages(images, CPU), torch.arange(n) % 10, subset(n, limit))


def loader(n: int = 23, batch_size: int = 5, limit: int | None = None, seed: int = 3) -> Loader:
    data = split(n, limit)
    how = Preprocessing((2, 2, 28, 28), "", seed, (28, 28))
    return Loader(data, data.labels, torch.arange(n) % 3 == 0, how, batch_size=batch_size)


def options(**values: Any) -> ResolvedRun:
    return resolve(Run("cifar10", train=Train(**values)), on_gpu=False, cores=1)


def a_step(model: torch.nn.Module, *, top5: bool = False, **values: Any) -> Step:
    train = options(**values).train
    return Step(model, make_optimizer(model, train), precision="fp32", compiled=train.compile == "on", top5=top5)


def test_the_learning_rate_decays_once_an_epoch_of_the_full_set() -> None:
    rates = [learning_rate(options(lr=0.1), e, images=50_000, batches=391) for e in range(4)]
    assert rates == pytest.approx([0.1, 0.095, 0.09025, 0.0857375])


def test_a_subset_keeps_the_length_of_the_schedule_in_images() -> None:
    rates = [learning_rate(options(lr=0.1), e, images=500, batches=4) for e in (0, 99, 100, 199, 200)]
    assert rates == pytest.approx([0.1, 0.1, 0.095, 0.095, 0.09025])


def test_the_linear_schedule_falls_step_by_step_to_zero() -> None:
    run = options(lr=0.1, schedule="linear", epochs=2)
    rates = [learning_rate(run, epoch, batch, images=500, batches=4) for epoch in range(2) for batch in range(4)]
    assert rates == pytest.approx([0.1 * (1 - step / 8) for step in range(8)])


def test_the_step_schedule_divides_at_half_and_three_quarters_of_the_epochs() -> None:
    """With 300 epochs the authors' script's 150 and 225, on any number of images; with 4 after 2 and 3."""
    run = options(lr=0.1, schedule="step", epochs=300)
    rates = [learning_rate(run, epoch, images=500, batches=4) for epoch in (0, 149, 150, 224, 225, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    run = options(lr=1.0, schedule="step", epochs=4)
    rates = [learning_rate(run, epoch, batch, images=500, batches=4) for epoch in range(4) for batch in (0, 3)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate(options(lr=1.0, schedule="step", epochs=1), 0, images=500, batches=4) == 1.0


def test_weight_decay_leaves_biases_and_batch_norm_alone() -> None:
    model = build_model("inception_small", num_classes=10, channels=3, size=(28, 28))
    groups = make_optimizer(model, options(weight_decay=0.01).train).param_groups
    for group in groups:
        decayed = group["weight_decay"] > 0
        assert all((p.ndim > 1) == decayed for p in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_milestone_keeps_the_first_moment_it_was_passed() -> None:
    milestones = TimeToMemorize()
    milestones.pass_epoch(0.6, 1.0, TimePoint(1.0, 1, 10))
    milestones.pass_epoch(0.4, 1.2, TimePoint(2.0, 2, 20))
    milestones.pass_epoch(0.95, 0.05, TimePoint(3.0, 3, 30))
    milestones.pass_epoch(1.0, 0.01, TimePoint(4.0, 4, 40))
    epochs = {name: moment and moment["epochs"] for name, moment in milestones.as_dict().items()}
    assert epochs == {
        "accuracy>=0.5": 1,
        "accuracy>=0.9": 3,
        "accuracy>=0.99": 4,
        "accuracy>=0.999": 4,
        "accuracy>=1.0": 4,
        "loss<=0.05": 3,
    }


@pytest.mark.parametrize(
    ("n", "batch", "sizes"), [(10, 5, [5, 5]), (12, 5, [5, 5, 2]), (11, 5, [5, 6]), (3, 5, [3]), (3, 1, [1, 1, 1])]
)
def test_no_batch_holds_one_sample_alone(n: int, batch: int, sizes: list[int]) -> None:
    assert loader(n, batch).sizes(batch) == sizes


def test_every_epoch_gives_each_sample_once_in_its_own_order() -> None:
    part = loader(limit=17)
    orders = []
    for epoch in range(3):
        index = torch.cat([batch.index for batch in part.epoch(epoch)])
        assert sorted(index.tolist()) == part.split.index.tolist()
        orders.append(index.tolist())
    assert len({tuple(order) for order in orders}) == 3
    assert orders[1] == torch.cat([batch.index for batch in part.epoch(1)]).tolist()


@pytest.mark.parametrize(("limit", "sizes"), [(20, [5, 5, 5, 5]), (18, [5, 5, 5, 3]), (21, [5, 5, 5, 6])])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_batches_of_several_steps_are_the_same_batches(start: int, steps: int, limit: int, sizes: list[int]) -> None:
    part = loader(limit=limit)
    singly = list(part.epoch(2, start))
    assert [len(batch) for batch in singly] == sizes[start:]
    together = list(part.epoch(2, start, steps))
    assert {batch.steps for batch in together} <= {1, steps}
    assert sum(batch.steps for batch in together) == len(singly)
    assert sum(batch.steps > 1 for batch in together) == (sizes[start:].count(5) // steps if steps > 1 else 0)
    parts = [one for batch in together for one in batch.by_step()]
    for one, other in zip(parts, singly, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.images[one.rows], other.images[other.rows])


def test_a_sample_has_the_same_input_and_label_in_every_batch_size() -> None:
    seen: dict[int, torch.Tensor] = {}
    for batch_size in (4, 9):
        part = loader(batch_size=batch_size)
        for batch in part.epoch(0):
            inputs, labels = part.preprocess(batch, None)
            for row, index in enumerate(batch.index.tolist()):
                assert labels[row] == index % 10
                if index in seen:
                    torch.testing.assert_close(inputs[row], seen[index], rtol=0, atol=0)
                seen[index] = inputs[row]
    assert len(seen) == 23


def test_a_test_image_shares_no_permutation_with_the_training_image_of_its_place() -> None:
    data = split()
    how = Preprocessing((2, 2, 28, 28), "random_pixels", 0, (28, 28))
    mask = torch.zeros(23, dtype=torch.bool)
    train = Loader(data, data.labels, mask, how, batch_size=5)
    test = Loader(data, data.labels, mask, how, batch_size=5, base=rng.TEST_INDEX)
    inputs = [part.preprocess(next(iter(part.eval_batches())), None).inputs for part in (train, test)]
    same = [torch.equal(a, b) for a, b in zip(*inputs, strict=True)]
    assert not any(same)


def test_pixel_statistics_are_those_of_the_samples_that_take_part() -> None:
    data = split(limit=11)
    assert isinstance(data.images, InMemoryImages)
    mean, std = pixel_statistics(data, CPU)
    pixels = data.images.images[data.index].double().flatten(0, 2)
    # float32 of an exact float64 result: half a unit in the last place of values below 128
    torch.testing.assert_close(mean.double(), pixels.mean(0), rtol=0, atol=2.0**-17)
    torch.testing.assert_close(std.double(), pixels.std(0, correction=0), rtol=0, atol=2.0**-17)


def test_evaluation_counts_every_sample_and_each_subset() -> None:
    part = loader()
    torch.manual_seed(0)
    model = build_model("mlp_1x512", num_classes=10, channels=3, size=(28, 28))
    step = a_step(model, lr=0.1)
    for _ in range(2):
        scores = evaluate(step, part, lambda: None)
        batch = next(iter(part.eval_batches()))
        inputs, labels = part.preprocess(batch, None)
        corrupted = batch.index % 3 == 0
        logits = model.eval()(inputs).detach()
        right = logits.argmax(1) == labels
        assert scores.accuracy == right.double().mean().item()
        assert scores.corrupted_accuracy == right[corrupted].double().mean().item()
        assert scores.clean_accuracy == right[~corrupted].double().mean().item()
        # a mean of float32 losses taken in float64 against one taken in float32
        assert scores.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_top_5_accuracy_is_counted_where_it_is_asked_for() -> None:
    """A label is among the five most likely where fewer than five classes are likelier."""
    part = loader()
    torch.manual_seed(0)
    model = build_model("mlp_1x512", num_classes=20, channels=3, size=(28, 28))
    assert evaluate(a_step(model, lr=0.1), part, lambda: None).top5_accuracy is None
    scores = evaluate(a_step(model, lr=0.1, top5=True), part, lambda: None)
    logits, labels = [], []
    for batch in part.eval_batches():
        inputs, label = part.preprocess(batch, None)
        logits.append(model.eval()(inputs).detach())
        labels.append(label)
    seen, own = torch.cat(logits), torch.cat(labels)
    likelier = (seen > seen.gather(1, own[:, None])).sum(1)
    assert scores.top5_accuracy == (likelier < 5).double().mean().item()
    assert scores.accuracy == (likelier < 1).double().mean().item()
    assert scores.accuracy < scores.top5_accuracy < 1


def test_the_best_row_is_the_first_that_was_highest() -> None:
    row = EpochMetrics(**{field.name: 1 for field in fields(EpochMetrics)})
    accuracies = (None, 0.5, 0.7, None, 0.7, 0.6)
    rows = [replace(row, epoch=n, test_accuracy=value, test_top5_accuracy=None) for n, value in enumerate(accuracies)]
    best = TrainState(rows=rows).best("test_accuracy")
    assert best == rows[2]
    assert TrainState(rows=rows).best("test_top5_accuracy") is TrainState().best("test_accuracy") is None


def test_the_step_is_sgd_with_momentum() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 3)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear)
    weight = linear.weight.detach().clone().double()
    bias = linear.bias.detach().clone().double()
    step = a_step(model, lr=0.1, weight_decay=0.01)
    speed = torch.zeros_like(weight), torch.zeros_like(bias)
    inputs, labels = torch.randn(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    for _ in range(3):
        flat = inputs.flatten(1).double()
        error = (flat @ weight.T + bias).softmax(1) - F.one_hot(labels, 3)
        gradients = error.T @ flat / 5 + 0.01 * weight, error.sum(0) / 5
        speed = 0.9 * speed[0] + gradients[0], 0.9 * speed[1] + gradients[1]
        weight, bias = weight - 0.1 * speed[0], bias - 0.1 * speed[1]
        step.update(inputs, labels)
    # three steps of float32 arithmetic on values of order one
    torch.testing.assert_close(model[1].weight.double(), weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(model[1].bias.double(), bias, rtol=0, atol=1e-6)


def test_the_first_step_with_a_loss_that_is_not_finite_is_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    step = a_step(model, lr=0.1)
    labels = torch.tensor([0, 1])
    step.update(torch.ones(2, 1, 2, 2), labels)
    assert step.first_non_finite_step.item() == -1
    step.update(torch.full((2, 1, 2, 2), math.nan), labels)
    step.update(torch.full((2, 1, 2, 2), math.nan), labels)
    assert step.first_non_finite_step.item() == 2


def compile_by_counting(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    counter, compiled = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **given: compiled(function, **{**given, "backend": counter}))
    return counter


def test_the_steps_of_a_process_do_not_use_up_what_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch gives up above 8 shapes of one code object, and would go on without compiling."""
    torch._dynamo.reset()
    counter = compile_by_counting(monkeypatch)
    for size in range(2, 12):
        step = a_step(torch.nn.Linear(size, 3), compile="on")
        for batch in (4, 5):
            step.update(torch.zeros(batch, size), torch.zeros(batch, dtype=torch.int64))
    assert counter.frame_count == 20


def test_a_step_that_torch_will_not_compile_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record says compiled: then every shape was."""
    torch._dynamo.reset()
    compile_by_counting(monkeypatch)
    step = a_step(torch.nn.Linear(2, 3), compile="on")
    for batch in range(2, 10):
        step.update(torch.zeros(batch, 2), torch.zeros(batch, dtype=torch.int64))
    with pytest.raises(FailOnRecompileLimitHit):
        step.update(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64))
