"""The loop the engine is measured against is a fair one: the same input, the same update, and it learns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import bench_engine, engine, reference_loop
from benchmarks.reference_loop import SIZE, ImageDataset, ReferenceLoop, random_labels, train
from rethink_fast.augment import center_window
from rethink_fast.data.preprocess import Preprocessing, preprocess
from rethink_fast.train import throughput


def made_images(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def test_a_prepared_sample_is_the_packages_own() -> None:
    images = made_images(12)
    images[0] = 77  # one colour, where the floor of the standard deviation holds
    images[1] = 100 + images[1] % 3  # hardly any contrast
    images[2, 2:30, 2:30] = 0  # whatever is outside the crop must not count
    index = torch.arange(len(images))
    window = center_window(32, 32, (SIZE, SIZE))
    expected = preprocess(
        torch.from_numpy(images), index, index, Preprocessing(window, "", 0, (SIZE, SIZE)), epoch=None
    )
    dataset = ImageDataset(images, np.arange(len(images)))
    # In units of 2^-24, the relative error of one float32 operation: x = value / 255 <= 1 carries 1 on each side. The
    # sums over 2352 elements are either exact or by halves, so that the mean carries at most 12 (log2 of 2352, rounded
    # up) and the division 1. So x - mean is off by at most 16, and the standard deviation, floored at 2352^-0.5, by
    # that much too. Their quotient y is then off by 16 (1 + |y|) / std, and by 2 roundings of its own, on each side.
    for i, y in enumerate(expected):
        cut = images[i, 2:30, 2:30] / 255.0
        std = max(float(cut.std()), cut.size**-0.5)
        got, label = dataset[i]
        assert got.dtype == torch.float32
        assert got.shape == (3, SIZE, SIZE)
        assert label == i
        bound = 2 * 2**-24 * (16 * (1 + y.abs()) / std + 2 * y.abs())
        assert bool(((got - y).abs() <= bound).all()), f"sample {i}: {float((got - y).abs().max())}"


def test_the_labels_are_uniform_and_drawn_once() -> None:
    labels = random_labels(50_000)
    assert np.array_equal(labels, random_labels(50_000))
    assert not np.array_equal(labels, random_labels(50_000, seed=1))
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    # Pearson's statistic has nine degrees of freedom: above 33.7 once in 10,000 seeds, and this is one seed.
    assert float(((counts - 5000.0) ** 2 / 5000.0).sum()) < 33.7


def test_thirty_steps_lower_the_loss() -> None:
    found = train("mlp_1x512", made_images(96), random_labels(96), steps=30, batch_size=32)
    assert found.images == 30 * 32
    assert len(found.losses) == 10
    assert found.losses[-1] < found.losses[0] / 2
    assert found.train_accuracy is not None
    assert found.train_accuracy > 0.9
    assert found.train_loss is not None
    assert found.train_loss < found.losses[-1]


def test_an_epoch_takes_every_sample_and_a_part_of_one_has_no_evaluation() -> None:
    whole = train("mlp_1x512", made_images(20), random_labels(20), epochs=2, batch_size=8)
    assert whole.images == 40
    part = train("mlp_1x512", made_images(20), random_labels(20), steps=2, batch_size=8)
    assert (part.images, part.train_accuracy, part.eval_seconds) == (16, None, 0.0)


def test_epochs_or_steps_not_both() -> None:
    for given in (None, 1):
        with pytest.raises(ValueError, match="give one of the two"):
            train("mlp_1x512", made_images(8), random_labels(8), epochs=given, steps=given)


@pytest.fixture
def small_cifar10(tmp_path: Path) -> Path:
    """The binary form, of 50 and 10 images."""
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels = np.arange(10, dtype=np.uint8)[:, None]
        pixels = made_images(10, seed).transpose(0, 3, 1, 2).reshape(10, -1)
        (folder / f"{name}.bin").write_bytes(np.concatenate((labels, pixels), axis=1).tobytes())
    return folder


def test_an_update_is_the_engines_own(small_cifar10: Path) -> None:
    cpu = torch.device("cpu")
    setup = engine.make_setup(reference_loop.open_cifar10(str(small_cifar10), cpu), "mlp_1x512", "random", cpu)
    loop = ReferenceLoop("mlp_1x512", made_images(8), random_labels(8))
    ours, theirs = list(setup.model.parameters()), list(loop.model.parameters())
    start = [p.detach().clone() for p in ours]
    for before, parameter in zip(start, theirs, strict=True):
        assert torch.equal(before, parameter)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        inputs, labels = torch.randn(32, 3, SIZE, SIZE, generator=generator), torch.arange(32) % 10
        setup.step.update(inputs, labels)
        loop.step(inputs, labels)
    # The same operators on the same values, but that the engine's fused optimizer may round elsewhere: products and
    # sums of momentum and weight are four roundings an update on each side, of terms no larger than the largest
    # weight. What they change in the next gradient reaches the weights times 0.01, the learning rate, and is left out.
    for before, one, other in zip(start, ours, theirs, strict=True):
        bound = 5 * 2 * 4 * 2**-24 * float(one.detach().abs().max())
        assert float((one.detach() - other.detach()).abs().max()) <= bound
        assert float((one.detach() - before).abs().max()) > 100 * bound
    assert setup.step.loss_sum.item() / 160 == pytest.approx(loop.loss.mean, rel=1e-6)


def test_the_command_prints_its_rate(
    small_cifar10: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["reference_loop", "--data", str(small_cifar10), "--workers", "0", "--epochs", "2"]
    )
    reference_loop.main()
    printed = capsys.readouterr().out
    assert "mlp_1x512, 50 images, 2 epoch(s), 0 worker(s), on" in printed
    assert "images/s in training" in printed


def test_the_batch_that_is_there_already_is_the_engines_first(small_cifar10: Path) -> None:
    cpu = torch.device("cpu")
    dataset = reference_loop.open_cifar10(str(small_cifar10), cpu)
    loader = engine.make_setup(dataset, "mlp_1x512", "random-pixels", cpu).train
    same = engine.SameBatch(loader)
    first = loader.preprocess(next(loader.epoch(0)), 0)
    batches = list(same.epoch(3))
    assert len(batches) == len(loader)
    for batch in [*batches, *same.epoch(0, steps=3)]:
        assert batch.rows is batch.index, "a CUDA graph that was captured with one tensor takes one"
    for batch in batches:
        for a, b in zip(same.preprocess(batch, 3), first, strict=True):
            assert torch.equal(a, b)
    assert len(same.preprocess(next(same.eval_batches()), None).inputs) == 50


@pytest.mark.slow
def test_the_benchmark_writes_what_it_shows(
    small_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine.json"
    # several steps an epoch: the clock that ends a slice counts from step to step
    words = ["--data", str(small_cifar10), "--seconds", "0.1", "--batch-size", "10", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["bench_engine", *words])
    monkeypatch.setattr(bench_engine, "PAIRS", 2)
    for module in (bench_engine, engine):
        monkeypatch.setattr(module, "SHORT_PAIRS", 2)
    monkeypatch.setitem(throughput.MATRIX, "cpu", 256)
    bench_engine.main()
    found = json.loads(out.read_text())
    speed = found["speed"]
    # Two products of 2352 x 512 and 512 x 10 forward; backward the same for the weights, and 512 x 10 for the input.
    assert speed["flops_per_image"] == 2 * (2 * 2352 * 512 + 3 * 512 * 10)
    assert speed["images"] == 50
    assert str(speed["workers"]) == max(speed["workers_tried"], key=speed["workers_tried"].__getitem__)
    for name in ("reference", "engine", "ratio", "matrix_share"):
        assert 0 < speed[name]["min"] <= speed[name]["median"] <= speed[name]["max"]
    assert speed["ratio"]["max"] <= speed["engine"]["max"] / speed["reference"]["min"]
    assert list(found["data_path"]) == list(engine.CORRUPTIONS)
    assert all(values["max"] < 1 for values in found["data_path"].values())
    printed = capsys.readouterr().out
    assert f"{speed['ratio']['median']:.2f}" in printed
    assert "gaussian" in printed
