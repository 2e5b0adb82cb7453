"""Two training steps through the Triton kernels, in Triton's interpreter, against the same steps by the reference.

The package's own loader and step run on the CPU, once with every op on Triton and once with every op in plain torch.
test_triton.py runs this file in a separate process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rethink_fast import kernels, rng
from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.corruptions.gaussian import gaussian_reference
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.corruptions.random_pixels import random_pixels_reference
from rethink_fast.corruptions.shuffled_pixels import shuffled_pixels_reference
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data.loader import Batch, ModelInput
from rethink_fast.data.preprocess import preprocess, preprocess_distorted_reference, preprocess_reference
from rethink_fast.defaults import resolve
from rethink_fast.train.setup import RunContext, build_run
from tests.kernels.triton_distortion_values import distorted_bound
from tests.kernels.triton_values import EPS, input_bound, pixel_bound

pytestmark = pytest.mark.filterwarnings("ignore:Warning only once for all operators")  # the C++ ops are overridden
CPU = torch.device("cpu")
BATCH, EPOCH = 3, 5
REFERENCES: dict[str, Callable[..., Tensor]] = {
    "corrupt_labels": corrupt_labels_reference,
    "shuffled_pixels": shuffled_pixels_reference,
    "random_pixels": random_pixels_reference,
    "gaussian": gaussian_reference,
    "prepare": preprocess_reference,
    "preprocess_distorted": preprocess_distorted_reference,
    "order": rng.order,
}
AUGMENT: dict[str, tuple[str, ...]] = {
    "true": ("flip", "rotation"),
    "partial": (),
    "random": ("crop", "flip"),
    "shuffled-pixels": ("crop", "flip"),
    "random-pixels": ("rotation",),
    "gaussian": ("flip",),
}
"""Each corruption, and what its whitened images are augmented with."""


@contextmanager
def ops_run_by(functions: dict[str, Callable[..., Tensor]]) -> Iterator[list[str]]:
    """A context in which these functions run the ops on CPU tensors; it gives the names of those that were called."""
    called: list[str] = []

    def noted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *arguments: called.append(name) or function(*arguments)  # type: ignore[func-returns-value]

    with torch.library._scoped_library("rethink_fast", "IMPL") as library:
        for name, function in functions.items():
            key = "CompositeExplicitAutograd" if name == "order" else "CPU"
            library.impl(name, noted(name, function), key, allow_override=True)
        yield called


class Steps(NamedTuple):
    """What two steps were made of, and the state that they left."""

    setup: RunContext
    labels: Tensor
    order: list[Tensor]
    inputs: list[Tensor]
    state: dict[str, Tensor]


def two_steps(run: Run, **build: Any) -> Steps:
    resolved = resolve(run, on_gpu=False, cores=1)
    data = load_dataset(run.dataset, DataOptions("synthetic", max_samples=2 * BATCH, size=run.data.size, workers=1))
    setup = build_run(resolved, data, CPU, **build)
    batches = list(setup.train.epoch(EPOCH))
    setup.step.begin_epoch(EPOCH)
    inputs, preprocess_batch = [], setup.train.preprocess

    def kept(batch: Batch, epoch: Tensor | int | None) -> ModelInput:
        made = preprocess_batch(batch, epoch)
        inputs.append(made.inputs)
        return made

    setup.train.preprocess = kept  # type: ignore[method-assign]
    for batch in batches:
        setup.step.train(setup.train, batch)
    assert int(setup.step.steps) == 2
    return Steps(setup, setup.labels, [batch.index for batch in batches], inputs, setup.step.state())


def by_both(run: Run, **build: Any) -> tuple[Steps, Steps]:
    """Return the steps by Triton and by the reference, whose order and labels are equal."""
    order = {"order": rng.order}
    with ops_run_by({name: kernels.triton_launcher(name) for name in kernels.TRITON} | order) as called:
        ours = two_steps(run, **build)
    distorts = {"random-resized-crop", "color-jitter"} & set(run.train.augment)
    assert {"corrupt_labels", "preprocess_distorted" if distorts else "prepare", "order"} <= set(called)
    with ops_run_by(REFERENCES):
        expected = two_steps(run, **build)
    assert torch.equal(ours.labels, expected.labels)
    assert all(map(torch.equal, ours.order, expected.order))
    return ours, expected


def run_of(dataset: Any, corruption: Any, size: int, augment: tuple[Any, ...]) -> Run:
    probability = 0.5 if corruption == "partial" else None
    train = Train(batch_size=BATCH, epochs=1, compile="off", lr=0.002, augment=augment)
    chosen = Corruption(corruption, probability=probability, seed=2**63 - 1)
    return Run(dataset, Data(size=size), chosen, Model("mlp_1x512"), train)


@pytest.mark.parametrize("corruption", [name for name in AUGMENT if name != "gaussian"])
def test_steps_on_scaled_bytes_are_bit_exact(corruption: str) -> None:
    """ImageNet's preprocessing: bytes are moved and scaled, so that weights, momentum and counters are equal."""
    ours, expected = by_both(run_of("imagenet", corruption, 9, ("flip",)))
    assert all(map(torch.equal, ours.inputs, expected.inputs))
    assert ours.state.keys() == expected.state.keys()
    for name, value in ours.state.items():
        assert torch.equal(value, expected.state[name]), name


@pytest.mark.parametrize("corruption", ["random", "random-pixels"])
def test_steps_with_the_augmentation_of_imagenet_have_the_inputs_of_the_reference(corruption: str) -> None:
    ours, expected = by_both(run_of("imagenet", corruption, 9, ("random-resized-crop", "flip", "color-jitter")))
    for ours_in, expected_in in zip(ours.inputs, expected.inputs, strict=True):
        far = distorted_bound(expected_in, rotation=False, resized=True, jitter=True)
        bound = input_bound(expected_in, expected_in, far, "unit_range")
        assert bool(((ours_in.double() - expected_in.double()).abs() <= bound).all())


def linear(*_: Any, num_classes: int, channels: int, size: tuple[int, int], **__: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], num_classes))


@pytest.mark.parametrize("corruption", AUGMENT)
def test_steps_on_whitened_images_are_within_the_bound(corruption: str) -> None:
    """CIFAR-10's preprocessing: the bound of the inputs, carried through two steps of a linear network."""
    augment, far = AUGMENT[corruption], 0.0
    ours, expected = by_both(run_of("cifar10", corruption, 8, augment), network=linear)
    for batch, ours_in, expected_in in zip(
        expected.setup.train.epoch(EPOCH), ours.inputs, expected.inputs, strict=True
    ):
        scaled = replace(expected.setup.train.preprocessing, normalisation="unit_range")
        with ops_run_by(REFERENCES):
            unit = preprocess(batch.images, batch.rows, batch.index, scaled, epoch=EPOCH)
        bound = input_bound(unit, expected_in, pixel_bound(unit, "rotation" in augment), "whiten")
        assert bool(((ours_in.double() - expected_in.double()).abs() <= bound).all())
        far = max(far, float(bound.max()))
    assert torch.equal(ours.state["counter.steps"], expected.state["counter.steps"])
    bound_of_weights = weight_bound(expected, far)
    moved = float((expected.state["model.1.weight"] - initial(expected)).abs().max())
    assert bound_of_weights < moved / 40  # far below what a step does
    for name in ("model.1.weight", "model.1.bias"):
        assert float((ours.state[name] - expected.state[name]).abs().max()) <= bound_of_weights


def initial(steps: Steps) -> Tensor:
    """The weights before the first step."""
    torch.manual_seed(steps.setup.run.corruption.seed)
    data = steps.setup.dataset
    channels, size = data.train.images.shape[2], steps.setup.train.preprocessing.size
    return linear(num_classes=data.num_classes, channels=channels, size=size)[1].weight.detach()  # type: ignore[index]


def weight_bound(steps: Steps, far: float) -> float:
    """How far the weights may be from the reference's after two steps, if an input is off by at most `far`.

    Softmax regression with momentum: the logits W x + b, the probabilities p, the gradient (p - y) x. An error e of
    the logits moves a probability by at most e / 2, and |p - y| <= 1. Sums of k terms round k times, in both runs.
    """
    train, weights = steps.setup.run.train, initial(steps)
    classes, features = weights.shape
    largest = max(float(value.abs().max()) for value in steps.inputs) + far
    image = max(float(value.abs().sum((1, 2, 3)).max()) for value in steps.inputs) + features * far
    row = float(weights.abs().sum(1).max()) + 1  # and the bias, below 1
    weight = momentum = 0.0
    for _ in range(2):
        logits = row * far + (image + 1) * weight + 2 * (features + 2) * EPS * row * largest
        probability = logits / 2 + 2 * (classes + 8) * EPS
        gradient = probability * largest + far + 2 * (BATCH + 4) * EPS * largest
        momentum = train.momentum * momentum + gradient + 8 * EPS * 2 * largest
        weight += train.lr * momentum + 4 * EPS * row
        row += train.lr * (image + 1)
    return weight
