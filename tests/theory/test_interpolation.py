"""Kernel interpolation: the packed factor, the refinement and the norm, against plain dense algebra in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rethink_fast import env
from rethink_fast.data import DataOptions, mnist
from rethink_fast.data.source import InMemoryImages
from rethink_fast.errors import UserError
from rethink_fast.theory import cholesky, interpolation
from rethink_fast.theory.cholesky import NotPositiveDefinite, bytes_needed, factorise
from rethink_fast.theory.interpolation import interpolate, multiply, predict
from rethink_fast.theory.kernel_matrix import ExplicitGram, Gaussian, blocks

EPS32 = torch.finfo(torch.float32).eps
EPS64 = torch.finfo(torch.float64).eps


def random_bytes(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, d), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def positive(n: int, smallest: float = 1.0) -> torch.Tensor:
    """A symmetric matrix with eigenvalues from `smallest` to about 4, float64."""
    a = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return a @ a.T / n + smallest * torch.eye(n, dtype=torch.float64)


def dense_kernel(x: torch.Tensor, y: torch.Tensor, gamma: float) -> torch.Tensor:
    """By numpy and whole numbers: the definition."""
    a, b = x.numpy().astype(np.int64), y.numpy().astype(np.int64)
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return torch.from_numpy(np.exp(-gamma * squared / 255.0**2))


@pytest.mark.parametrize(("n", "width"), [(1, 4), (7, 16), (16, 16), (63, 16), (64, 16), (65, 16), (300, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_packed_factor_is_the_dense_one(n: int, width: int, dtype: torch.dtype) -> None:
    matrix = positive(n)
    asked = []

    def columns(start: int, stop: int) -> torch.Tensor:
        asked.append(start)
        return matrix[start:, start:stop].to(dtype, copy=True)

    factor = factorise(columns, n, width=width)
    assert asked == list(range(0, n, width)), "each panel is asked for once"
    lower = torch.zeros(n, n, dtype=torch.float64)
    for start, panel in zip(asked, factor.panels, strict=True):
        lower[start:, start : start + width] = panel
    # Higham 2002, theorem 10.3: |A - L L^T| <= (n + 1) eps |L| |L^T|.
    bound = (n + 1) * torch.finfo(dtype).eps * (lower.abs() @ lower.abs().T) + torch.finfo(dtype).eps * matrix.abs()
    assert bool(((lower @ lower.T - matrix).abs() <= bound).all())
    assert torch.equal(lower, lower.tril())
    assert sum(panel.numel() for panel in factor.panels) * dtype.itemsize == bytes_needed(n, dtype, width)
    right = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = right.clone()
    solution = factor.solve(right)
    assert torch.equal(right, kept)
    assert solution.dtype == right.dtype
    # Eigenvalues lie in [1, 5]: a backward error of that size moves the solution by at most as much again.
    wanted = torch.linalg.solve(matrix, right)
    assert (solution - wanted).norm() <= 10 * (n + 1) * torch.finfo(dtype).eps * wanted.norm()


def test_the_factor_takes_half_the_memory() -> None:
    square = 60_000**2 * 4
    assert 0.5 < bytes_needed(60_000, torch.float32) / square < 0.52
    assert bytes_needed(60_000, torch.float32) < 7.5e9


@pytest.mark.parametrize("bad", [0, 15, 16, 40], ids=lambda k: f"pivot{k + 1}")
def test_a_matrix_that_is_not_positive_definite_is_named(bad: int) -> None:
    matrix = torch.eye(50, dtype=torch.float64)
    matrix[bad, bad] = -1.0
    with pytest.raises(NotPositiveDefinite, match=f"pivot {bad + 1} of 50"):
        factorise(lambda start, stop: matrix[start:, start:stop].clone(), 50, width=16)


def test_progress_reaches_its_end() -> None:
    told: list[tuple[int, int]] = []
    matrix = positive(2000)
    factorise(
        lambda start, stop: matrix[start:, start:stop].clone(),
        2000,
        width=500,
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert len(told) == 4
    assert told[-1][0] == told[-1][1] > 0
    assert told == sorted(told)


@pytest.mark.parametrize("d", [1, 784, 1024, 1025, 3072])
def test_gaussian_values_are_correct_to_the_last_bits(d: int) -> None:
    """Even for the images farthest apart, where a float32 product of raw bytes would lose whole units."""
    x, y = random_bytes(40, d), random_bytes(9, d, seed=1)
    x[0], x[1], x[2] = 0, 255, x[3]
    gamma = 3.0 / d
    kernel = Gaussian(x, y, gamma)
    everything = slice(0, None)
    wanted = dense_kernel(x, x, gamma)
    # The exponent is below 3 and rounded twice; exp hands its error on, times its size.
    assert torch.allclose(kernel.train(everything, everything), wanted, rtol=8 * EPS64, atol=0)
    assert torch.allclose(
        kernel.test(everything, slice(5, 20)), dense_kernel(y, x[5:20], gamma), rtol=8 * EPS64, atol=0
    )
    assert torch.equal(kernel.train(everything, everything).diagonal(), torch.ones(40, dtype=torch.float64))
    assert kernel.train(slice(2, 3), slice(3, 4)).item() == 1.0


def test_blocked_equals_unblocked(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = random_bytes(333, 20), random_bytes(50, 20, seed=1)
    kernel = Gaussian(x, y, 0.5)
    matrix = dense_kernel(x, x, 0.5)
    vectors = torch.randn(333, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(blocks, "__defaults__", (64,))
    assert len(list(blocks(333))) == 6
    # A sum of 333 terms, each rounded a few times.
    bound = 340 * EPS64
    scale = matrix @ vectors.abs()
    assert bool(((multiply(kernel, vectors) - matrix @ vectors).abs() <= bound * scale).all())
    ridged = multiply(kernel, vectors, ridge=2.0)
    assert bool(((ridged - (matrix @ vectors + 2 * vectors)).abs() <= bound * (scale + 2 * vectors.abs())).all())
    cross = dense_kernel(y, x, 0.5)
    assert bool(((predict(kernel, vectors) - cross @ vectors).abs() <= bound * (cross @ vectors.abs())).all())


@pytest.mark.parametrize("factor_dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_interpolation_is_the_dense_solution(factor_dtype: torch.dtype, ridge: float) -> None:
    """n = 500, against numpy's solve in float64: coefficients, predictions, norm."""
    x, y = random_bytes(500, 30), random_bytes(80, 30, seed=1)
    labels = torch.randint(0, 10, (500,), generator=torch.Generator().manual_seed(2))
    targets = F.one_hot(labels, 10).double()
    found = interpolate(Gaussian(x, y, 0.5), targets, ridge=ridge, factor_dtype=factor_dtype)
    matrix = dense_kernel(x, x, 0.5)
    full = matrix + ridge * torch.eye(500, dtype=torch.float64)
    wanted = torch.from_numpy(np.linalg.solve(full.numpy(), targets.numpy()))
    # A residual r moves the solution by at most cond * r, and the dense one has rounding of its own.
    bound = float(torch.linalg.cond(full)) * (found.residual + 500 * EPS64)
    assert bound < 1e-6
    assert (found.alpha - wanted).norm() <= bound * wanted.norm()
    cross = dense_kernel(y, x, 0.5)
    assert (predict(Gaussian(x, y, 0.5), found.alpha) - cross @ wanted).norm() <= bound * cross.norm() * wanted.norm()
    assert (found.fitted - matrix @ wanted).norm() <= bound * matrix.norm() * wanted.norm()
    norm, dense_norm = (found.alpha * found.fitted).sum().sqrt(), (wanted * (matrix @ wanted)).sum().sqrt()
    assert float(norm) == pytest.approx(float(dense_norm), rel=bound * 100)
    if ridge == 0.0:
        assert torch.equal(found.fitted.argmax(1), labels)


def test_refinement_reaches_float64_where_float32_alone_does_not() -> None:
    """An ill-conditioned matrix, as large MNIST kernels are."""
    x = random_bytes(600, 6)
    kernel = Gaussian(x, x[:1], 0.9)
    matrix = dense_kernel(x, x, 0.9) + 1e-4 * torch.eye(600, dtype=torch.float64)
    assert float(torch.linalg.cond(matrix)) > 1e5
    targets = F.one_hot(torch.arange(600) % 10, 10).double()
    found = interpolate(kernel, targets, ridge=1e-4, factor_dtype=torch.float32)
    assert found.factor_dtype == "float32"
    assert found.factor_residual > 100 * EPS32, "float32 alone is far from the solution"
    assert found.residual <= interpolation.TOLERANCE
    assert 1 <= found.steps < 20
    true = ((targets - matrix @ found.alpha).norm(dim=0) / targets.norm(dim=0)).max()
    assert float(true) <= 2 * interpolation.TOLERANCE, "seen from outside as well"


def test_an_output_without_a_sample_is_zero() -> None:
    """A class that no image has, beside others: no 0 / 0."""
    x = random_bytes(300, 8)
    targets = F.one_hot(torch.arange(300) % 3, 10).double()
    found = interpolate(Gaussian(x, x[:1], 0.9), targets, factor_dtype=torch.float32)
    assert found.steps > 0
    assert torch.equal(found.alpha[:, 3:], torch.zeros(300, 7, dtype=torch.float64))
    assert found.residual <= interpolation.TOLERANCE


def test_float64_takes_over_where_float32_breaks_down() -> None:
    """Condition 1e10: float32 meets a pivot that is not positive."""
    values = torch.logspace(-10, 0, 200, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    matrix = q * values @ q.T
    matrix = (matrix + matrix.T) / 2
    targets = torch.ones(200, 1, dtype=torch.float64)
    found = interpolate(ExplicitGram(matrix, matrix[:3]), matrix @ targets)
    assert found.factor_dtype == "float64"
    assert found.residual <= interpolation.TOLERANCE
    assert torch.allclose(predict(ExplicitGram(matrix, matrix[:3]), found.alpha), (matrix @ targets)[:3], atol=1e-9)


def test_images_held_twice_are_refused() -> None:
    x = random_bytes(50, 9)
    x[49] = x[7]
    with pytest.raises(UserError, match=r"50 images is too close to singular.*may hold an image twice"):
        interpolate(Gaussian(x, x[:1], 1.0), torch.eye(50, dtype=torch.float64))


def test_too_little_memory_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "free_memory", lambda _: 500_000)
    x = random_bytes(1000, 9)
    with pytest.raises(UserError, match=r"1,000 images needs 0.0 GB, and 0.0 GB are free on cpu: use at most"):
        interpolate(Gaussian(x, x[:1], 1.0), torch.ones(1000, 1, dtype=torch.float64))
    assert cholesky.bytes_needed(1000, torch.float32) > 500_000


def test_the_norm_is_the_least_of_all_interpolants() -> None:
    """Any other function of the space with the same training values has a larger norm."""
    x = random_bytes(100, 12)
    kernel = Gaussian(x, x[:1], 1.0)
    matrix = dense_kernel(x, x, 1.0)
    targets = torch.ones(60, 1, dtype=torch.float64)
    first = Gaussian(x[:60], x[:1], 1.0)
    found = interpolate(first, targets)
    least = float((found.alpha * found.fitted).sum())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # 40 more centres with weights of their own, the first 60 making up for them
        more = torch.randn(40, 1, dtype=torch.float64, generator=generator) * 0.1
        rest = torch.linalg.solve(matrix[:60, :60], targets - matrix[:60, 60:] @ more)
        other = torch.cat((rest, more))
        assert float((other * multiply(kernel, other)).sum()) > least
    assert math.isfinite(least)


@pytest.mark.slow
def test_mnist(shared_data: Path) -> None:
    """2,000 images: 467 errors of 10,000 by a plain float64 solve of the same matrix; here within 2, for ties."""
    dataset = mnist.load(shared_data / "mnist", DataOptions(max_samples=2000))
    assert dataset.test is not None
    assert isinstance(dataset.train.images, InMemoryImages)
    assert isinstance(dataset.test.images, InMemoryImages)
    images, test = dataset.train.images.images.flatten(1), dataset.test.images.images.flatten(1)
    chosen = dataset.train.index
    targets = F.one_hot(dataset.train.labels[chosen], 10).double()
    kernel = Gaussian(images[chosen], test, 0.02)
    found = interpolate(kernel, targets)
    wrong = int((predict(kernel, found.alpha).argmax(1) != dataset.test.labels).sum())
    assert abs(wrong - 467) <= 2
    assert float((targets * found.alpha).sum().sqrt()) == pytest.approx(30.237, abs=0.001)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    """The default there is a float64 factor, which needs next to no refinement."""
    x, y = random_bytes(500, 30), random_bytes(80, 30, seed=1)
    targets = F.one_hot(torch.arange(500) % 10, 10).double()
    kernel = Gaussian(x.cuda(), y.cuda(), 0.5)
    found = interpolate(kernel, targets.cuda())
    assert found.factor_dtype == "float64"
    assert found.residual <= interpolation.TOLERANCE
    matrix = dense_kernel(x, x, 0.5)
    wanted = dense_kernel(y, x, 0.5) @ torch.linalg.solve(matrix, targets)
    bound = float(torch.linalg.cond(matrix)) * (found.residual + 500 * EPS64)
    assert (predict(kernel, found.alpha).cpu() - wanted).norm() <= bound * wanted.norm() * 500
