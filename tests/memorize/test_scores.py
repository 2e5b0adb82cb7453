"""Scores by their definitions: from outputs made by hand, and of real images whose memorization is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, InMemoryImages, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.memorize.auroc import auroc
from rethink_fast.memorize.influence import top, whole
from rethink_fast.memorize.presentations import SCORES
from rethink_fast.memorize.scores import find_changed, gap_identity, score
from rethink_fast.memorize.training import Trained, train_models
from rethink_fast.train.setup import RunContext, build_run
from tests.bench.resumable import CPU, made


def quiet() -> None: ...


def no_tick(epoch: int, done: int, images: int) -> None: ...


def outputs(k: int, n: int, t: int, seed: int, classes: int = 10) -> Trained:
    """Random outputs of k models."""
    draw = np.random.default_rng(seed)
    included = draw.random((k, n)) < 0.6
    included[0], included[1] = True, False
    return Trained(
        included=included,
        right=draw.random((k, n)) < 0.7,
        test_right=draw.random((k, t)) < 0.5,
        label_in=draw.random(n),
        label_out=draw.random(n),
        held_out=draw.random((n, classes)),
        scores={name: draw.random(n) for name in SCORES},
        auroc={name: draw.random(k) for name in SCORES},
        epochs=np.full(k, 3),
        reached=np.full(k, True),
        images=1,
        seconds=1.0,
    )


def test_scores_are_their_definitions() -> None:
    """Sample by sample and model by model, over two groups of models."""
    setup, n = made(limit=40), 40
    parts = [outputs(9, n, 5, 1), outputs(4, n, 5, 2)]
    included, right = (np.concatenate([getattr(part, name) for part in parts]) for name in ("included", "right"))
    found = score(setup, parts)
    for i in range(n):
        with_it = [right[m, i] for m in range(13) if included[m, i]]
        without = [right[m, i] for m in range(13) if not included[m, i]]
        assert (found.in_count[i], found.out_count[i]) == (len(with_it), len(without))
        assert found.memorization[i] == pytest.approx(np.mean(with_it) - np.mean(without))
        assert found.c_score[i] == pytest.approx(np.mean(without))
        label_in, label_out = (sum(getattr(part, name)[i] for part in parts) for name in ("label_in", "label_out"))
        expected = label_in / len(with_it) - label_out / len(without)
        assert found.memorization_probability[i] == pytest.approx(expected)
        assert found.single["aum"][i] == pytest.approx(sum(part.scores["aum"][i] for part in parts) / len(with_it))
    assert found.pred_probs.sum(1) == pytest.approx(1)
    assert found.index.tolist() == setup.dataset.train.index.tolist()


def test_the_standard_error_is_that_of_repeated_populations() -> None:
    """Samples that are right with 0.9 in and 0.4 out, in 28 and 12 of 40 models: within 5 % over 40,000 of them."""
    draw = np.random.default_rng(0)
    n, included = 40_000, np.arange(40) < 28
    right = draw.random((40, n)) < np.where(included, 0.9, 0.4)[:, None]
    setup = made(limit=40)
    part = replace(outputs(40, 40, 0, 1), included=np.tile(included[:, None], (1, 40)))
    spread = right[:28].mean(0) - right[28:].mean(0)
    errors = [score(setup, [replace(part, right=right[:, i : i + 40])]).standard_error for i in range(0, n, 40)]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread.std(), rel=0.05)


def test_influence_is_its_definition() -> None:
    parts = [outputs(9, 150, 5, 1), outputs(4, 150, 5, 2)]
    included, right = (np.concatenate([getattr(part, name) for part in parts]) for name in ("included", "test_right"))
    every = whole(parts)
    for z in range(5):
        for i in range(150):
            expected = right[included[:, i], z].mean() - right[~included[:, i], z].mean()
            assert every[z, i] == pytest.approx(expected, abs=1e-5)  # float32 sums of 13 terms
    places, values = top(parts)
    assert places.shape == values.shape == (5, 100)
    for z in range(5):
        order = sorted(range(150), key=lambda i: (-every[z, i], i))[:100]
        assert places[z].tolist() == order
        assert values[z].tolist() == every[z, order].tolist()


@pytest.mark.parametrize("falls", [False, True])
def test_auroc_counts_pairs(falls: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    score, positive = torch.randint(0, 6, (60,), generator=draw).float(), torch.rand(60, generator=draw) < 0.3
    high, low = score[positive], score[~positive]
    pairs = [(0.5 if a == b else float((a > b) != falls)) for a in high for b in low]
    assert auroc(score, positive, falls=falls) == pytest.approx(sum(pairs) / len(pairs))
    assert math.isnan(auroc(score, torch.zeros(60, dtype=torch.bool)))
    assert math.isnan(auroc(score, torch.ones(60, dtype=torch.bool)))


def test_the_tolerance_of_the_gap_identity_is_that_of_the_weighting() -> None:
    """200 populations with the shares of in and out fixed by sample: a difference above 4 sd is seen in none, and the
    sd that the tolerance stands for is the one seen (200 draws give it within 4 / sqrt(400), 20 %)."""
    draw = np.random.default_rng(3)
    n, k, ratio, setup = 400, 40, 0.7, made(limit=400)
    q_in, q_out = draw.random(n), draw.random(n)
    part, differences, tolerances = outputs(k, n, 0, 1), [], []
    for _ in range(200):
        included = draw.random((k, n)) < ratio
        right = draw.random((k, n)) < np.where(included, q_in, q_out)
        parts = [replace(part, included=included, right=right)]
        found = gap_identity(score(setup, parts), parts, ratio)
        assert found["holds"]
        differences.append(found["difference"])
        tolerances.append(found["tolerance"])
    assert np.std(differences) == pytest.approx(np.mean(tolerances) / 4, rel=0.2)


def digits(shared_data: Path, limit: int = 150) -> RunContext:
    """Real MNIST of which three labels are wrong: the sample of place 0 alone, and those of 1 to 10, one image."""
    options = DataOptions(str(shared_data / "mnist"), max_samples=limit, workers=1)
    dataset = load_dataset("mnist", options)
    index, images = dataset.train.index, dataset.train.images
    assert isinstance(images, InMemoryImages)
    pixels, rows = next(iter(images.read([index])))
    pixels, labels = pixels[rows].clone(), dataset.train.labels.clone()
    pixels[1:11] = pixels[1]
    labels[index[1:11]] = (labels[index[1]] + 5) % 10
    labels[index[0]] = (labels[index[0]] + 5) % 10
    train = replace(dataset.train, images=InMemoryImages(pixels, CPU, index), labels=labels)
    run = resolve(
        Run("mnist", Data(max_samples=limit), Corruption(), Model("mlp_1x512"), Train(lr=0.02, batch_size=50)),
        on_gpu=False,
        cores=1,
    )
    return build_run(run, replace(dataset, train=train), CPU)


def test_a_wrong_label_is_memorised_and_one_with_copies_is_not(shared_data: Path) -> None:
    """The ten copies are as wrong as the one: but a model without one of them has seen the others."""
    setup = digits(shared_data)
    part = train_models(setup, range(14), 0.5, quiet, no_tick)
    assert part.reached.all()
    found = score(setup, [part])
    assert found.memorization[0] > 0.8, "a model without it hits the wrong label by chance alone"
    assert abs(found.memorization[1:11]).max() <= 0.1
    assert found.memorization[11:].mean() < 0.5
    identity = gap_identity(found, [part], 0.5)
    assert identity["train_accuracy"] == 1
    assert identity["holds"]
    assert identity["test_holds"]
    assert find_changed(found, [part]) is None, "these labels are the data's own"


@pytest.mark.slow
def test_memorization_finds_wrong_labels_of_mnist(shared_data: Path) -> None:
    """2,000 images, a fifth of the labels redrawn, 32 models: 0.97 was measured for memorization, 0.98 for AUM."""
    dataset = load_dataset("mnist", DataOptions(str(shared_data / "mnist"), max_samples=2000, workers=1))
    train, corruption = Train(lr=0.02, epochs=30), Corruption("partial", probability=0.2)
    run = Run("mnist", Data(max_samples=2000), corruption, Model("mlp_1x512"), train)
    setup = build_run(resolve(run, on_gpu=False, cores=1), dataset, CPU)
    part = train_models(setup, range(32), 0.7, quiet, no_tick)
    found = score(setup, [part])
    table = find_changed(found, [part])
    assert table is not None
    assert table["memorization"]["population"] >= 0.93  # type: ignore[operator]
    assert table["aum"]["population"] >= 0.95  # type: ignore[operator]
    assert table["aum"]["one_model"] >= 0.93  # type: ignore[operator]
    assert gap_identity(found, [part], 0.7)["holds"]
    assert found.memorization[found.changed].mean() > 0.9
