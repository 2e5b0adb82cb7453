"""Theorem 1: any labels, exactly, with 2n + d weights, by a network that is evaluated by its definition alone."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from rethink_fast.corruptions import random_labels
from rethink_fast.data import DataOptions, mnist
from rethink_fast.data.source import Dataset, InMemoryImages, Split
from rethink_fast.errors import UserError
from rethink_fast.theory import run_theorem1, theorem1, two_layer
from rethink_fast.theory.two_layer import fit, project, projection

CPU = torch.device("cpu")


def distinct(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """uint8 [n, d], no two rows the same."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(0, 256, (2 * n, d), dtype=torch.uint8, generator=generator)
    rows = torch.unique(points, dim=0)
    return rows[torch.randperm(len(rows), generator=generator)[:n]]


def random_values(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 10, (n,), generator=torch.Generator().manual_seed(seed))


def naive(network: two_layer.TwoLayerNetwork, point: torch.Tensor) -> Fraction:
    """c(x), term by term, with no rounding at all."""
    z = sum(Fraction(a) * x for a, x in zip(network.a.tolist(), point.tolist(), strict=True))
    terms = zip(network.w.tolist(), network.b.tolist(), strict=True)
    return sum((Fraction(w) * max(z - Fraction(b), Fraction(0)) for w, b in terms), Fraction(0))


@pytest.mark.parametrize(
    ("n", "d"), [(1, 1), (1, 7), (2, 1), (200, 1), (63, 3), (64, 64), (7, 3072), (512, 784), (513, 12), (3000, 30)]
)
def test_fits_any_labels_exactly(n: int, d: int) -> None:
    points, values = distinct(n, d), random_values(n)
    found = fit(points, values, seed=3)
    network = found.network
    assert network.weights == 2 * n + d
    assert (len(network.a), len(network.b), len(network.w)) == (d, n, n)
    outputs = network(points)
    assert outputs.dtype == torch.float64
    assert torch.equal(outputs.round().long(), values)
    # A sum of n terms in float64 errs by at most n 2^-53 of the sum of their sizes, and `rounding` is 2^-53 of that.
    assert (outputs - values).abs().max() <= (n + 1) * found.rounding + found.deviation
    assert found.rounding <= 10 * two_layer.LARGEST_ROUNDING


def test_the_network_is_what_the_definition_says() -> None:
    """Against exact rational arithmetic on the stored weights: the deviation reported is the true one."""
    points, values = distinct(60, 20), random_values(60)
    found = fit(points, values, seed=0)
    exact = [naive(found.network, point) for point in points]
    misses = [abs(float(c - int(value))) for c, value in zip(exact, values, strict=True)]
    assert max(misses) == pytest.approx(found.deviation, rel=1e-9, abs=0)
    assert found.deviation < 1e-12
    other = distinct(5, 20, seed=9)  # and away from the points it was fitted to
    outputs = found.network(other)
    for point, output in zip(other, outputs.tolist(), strict=True):
        assert output == pytest.approx(float(naive(found.network, point)), abs=61 * found.rounding)


def test_biases_interleave() -> None:
    """b_1 < z_1 < b_2 < z_2 < ..., as Lemma 1 wants, all of them whole numbers that float64 holds."""
    points = distinct(500, 40)
    network = fit(points, random_values(500), seed=0).network
    z = project(points, network.a).sort().values
    assert bool((network.b < z).all())
    assert bool((z[:-1] < network.b[1:]).all())
    assert torch.equal(network.b, network.b.round())
    assert float(z.abs().max()) <= two_layer.LARGEST_PROJECTION


@pytest.mark.parametrize("d", [1, 9, 3072, 268_203])
def test_projections_are_exact(d: int) -> None:
    """Against Python's integers; the largest possible image keeps below 2^51, so that differences stay exact."""
    a = projection(d, seed=5)
    assert torch.equal(a % 4, torch.zeros_like(a))
    assert float(a.abs().max() / a.abs().min()) < 2.0
    assert sum(abs(int(value)) * 255 for value in a.tolist()) <= two_layer.LARGEST_PROJECTION
    points = distinct(3, d) if d > 1 else torch.tensor([[0], [255], [7]], dtype=torch.uint8)
    wanted = [sum(int(x) * int(w) for x, w in zip(row, a.tolist(), strict=True)) for row in points.tolist()]
    assert project(points, a).tolist() == wanted


def test_real_values() -> None:
    points = distinct(400, 16)
    values = torch.randn(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e6
    found = fit(points, values, seed=0)
    assert (found.network(points) - values).abs().max() <= 401 * found.rounding + found.deviation
    assert found.rounding < 1e-6 * float(values.abs().max())


def test_near_duplicates() -> None:
    """Images that differ by one step of one pixel: the projection keeps them apart, since no coordinate is small."""
    base = distinct(1, 300).repeat(301, 1)
    base[1:] = base[1:] ^ torch.eye(300, dtype=torch.uint8)
    values = random_values(301)
    found = fit(base, values, seed=0)
    assert torch.equal(found.network(base).round().long(), values)


def test_a_projection_that_collides_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first projection is made to put two different images on one point."""
    points = torch.tensor([[1, 2], [2, 1], [9, 9]], dtype=torch.uint8)
    drawn = two_layer.projection

    def collide(d: int, seed: int, attempt: int = 0, device: torch.device | None = None) -> torch.Tensor:
        return torch.tensor([4.0, 4.0], dtype=torch.float64) if attempt == 0 else drawn(d, seed, attempt, device)

    monkeypatch.setattr(two_layer, "projection", collide)
    found = fit(points, torch.tensor([0, 1, 2]), seed=0)
    assert found.tries == 2
    assert found.network(points).round().tolist() == [0, 1, 2]
    monkeypatch.setattr(two_layer, "projection", lambda d, *_: torch.full((d,), 4.0, dtype=torch.float64))
    with pytest.raises(UserError, match="all put different images on one point"):
        fit(points, torch.tensor([0, 1, 2]), seed=0)


def test_projections_too_close_for_float64_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images 4 apart over a range of 2^50: a weight of 1/4 at 2^50 loses whole labels to rounding."""
    monkeypatch.setattr(two_layer, "projection", lambda *_: torch.tensor([4.0, 2.0**42], dtype=torch.float64))
    points = torch.tensor([[0, 0], [1, 0], [0, 255]], dtype=torch.uint8)
    with pytest.raises(UserError, match="come within 4 of each other") as refused:
        fit(points, torch.tensor([0, 9, 1]), seed=0)
    assert refused.value.fix == "choose another seed or fewer images"


def test_equal_images() -> None:
    points = distinct(50, 8)
    points = torch.cat((points, points[10:12]))
    values = random_values(52)
    values[50:] = values[10:12]
    found = fit(points, values, seed=0)
    assert found.duplicates == 2
    assert found.network.weights == 2 * 50 + 8
    assert torch.equal(found.network(points).round().long(), values)
    values[51] = (values[11] + 1) % 10
    with pytest.raises(UserError, match=r"images 11 and 51 are equal, but one is to give \d and the other \d"):
        fit(points, values, seed=0)


@pytest.mark.parametrize(
    ("points", "values"),
    [
        (torch.zeros(3, 4), torch.zeros(3)),
        (torch.zeros(0, 4, dtype=torch.uint8), torch.zeros(0)),
        (distinct(3, 4), torch.zeros(2)),
        (distinct(3, 4), torch.tensor([0.0, math.nan, 1.0])),
        (distinct(3, 4), torch.tensor([0.0, math.inf, 1.0])),
    ],
    ids=["floats", "none", "lengths", "nan", "infinite"],
)
def test_bad_input(points: torch.Tensor, values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        fit(points, values, seed=0)


@pytest.mark.timing
def test_the_cost_grows_as_n_log_n() -> None:
    """16 times the points may take 16 * log(32000) / log(2000) = 22 times as long, and n^2 would take 256: below 80."""

    def seconds(n: int) -> float:
        points, values = distinct(n, 8), random_values(n)
        times = []
        for _ in range(3):
            started = time.process_time()
            fit(points, values, seed=0)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(32_000) < 80 * seconds(2_000)


def in_memory(n: int, duplicate: bool = False) -> Dataset:
    images = distinct(n, 3 * 16).view(n, 4, 4, 3)
    if duplicate:
        images[1:5] = images[0]
    split = Split(InMemoryImages(images, CPU), random_values(n), torch.arange(n))
    return Dataset("cifar10", "made for a test", tuple("0123456789"), split, None)


def test_the_run_and_its_record() -> None:
    told: list[tuple[str, int, int]] = []
    dataset = in_memory(700)
    result = run_theorem1(dataset, 4, lambda *row: told.append(row))
    assert result.exact
    assert result.weights == 2 * 700 + 48
    assert 0.0 <= result.deviation < 0.01
    assert told[-1][1:] == (700, 700)
    record = result.as_dict()
    assert record["exact"] is True
    assert record["labels_reproduced"] == record["n"] == 700
    again = run_theorem1(dataset, 4).as_dict()
    clocks = {"build_seconds", "evaluate_seconds"}
    assert {k: v for k, v in again.items() if k not in clocks} == {k: v for k, v in record.items() if k not in clocks}
    assert run_theorem1(dataset, 5).smallest_gap != result.smallest_gap


def test_a_network_that_does_not_fit_is_not_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluation sees it when one weight is wrong."""
    fitted = two_layer.fit

    def spoiled(points: torch.Tensor, values: torch.Tensor, seed: int) -> two_layer.InterpolatingFit:
        found = fitted(points, values, seed)
        w = found.network.w.clone()
        w[len(w) // 2] *= 1.5
        return replace(found, network=replace(found.network, w=w))

    monkeypatch.setattr(theorem1, "fit", spoiled)
    result = run_theorem1(in_memory(700), 4)
    assert not result.exact
    assert result.deviation > 0.5


def test_an_image_held_twice_is_named() -> None:
    with pytest.raises(UserError, match="are equal, but one is to give"):
        run_theorem1(in_memory(30, duplicate=True), 0)


def test_images_that_do_not_live_on_the_device() -> None:
    dataset = in_memory(30)

    class Streamed(InMemoryImages):
        resident = False

    images = dataset.train.images
    assert isinstance(images, InMemoryImages)
    streamed = replace(dataset.train, images=Streamed(images.images, CPU))
    with pytest.raises(UserError, match="need all images in memory at once: choose cifar10 or mnist"):
        run_theorem1(replace(dataset, train=streamed), 0)


def test_real_images_with_random_labels(shared_data: Path) -> None:
    dataset = mnist.load(shared_data / "mnist", DataOptions(max_samples=4000))
    result = run_theorem1(dataset, 0)
    assert result.exact
    assert result.weights == 2 * 4000 + 784
    labels = random_labels(dataset.train.labels, torch.arange(60_000), num_classes=10, seed=0)
    assert (labels != dataset.train.labels).double().mean() > 0.88, "the labels that were fitted are random"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    """Projections and biases are exact anywhere, so the network is the same to the bit."""
    points, values = distinct(3000, 30), random_values(3000)
    here, there = fit(points, values, seed=0), fit(points.cuda(), values.cuda(), seed=0)
    for name in ("a", "b", "w"):
        assert torch.equal(getattr(here.network, name), getattr(there.network, name).cpu())
    assert torch.equal(there.network(points.cuda()).round().long().cpu(), values)
