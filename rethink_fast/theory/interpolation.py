"""Exact minimum-norm interpolation with a kernel: "X X^T alpha = y", equation 3 of the paper with the kernel trick.

    K alpha = Y,   f(x) = sum_i alpha_i k(x, x_i),   |f|^2 = sum over outputs of alpha^T K alpha = sum alpha * Y

Y has a column a class, 1 for the sample's own and 0 elsewhere. Among all functions of the kernel's space that give
every training label exactly, f has the least norm; it is where SGD from 0 ends. No regularisation (`ridge` adds some).

How 60,000 images fit a machine of 24 GB, where K in float64 would take 28.8 GB: on a CPU K is factored in float32, in
panels of its lower triangle (7.4 GB), and the factor serves as preconditioner of conjugate gradients, whose products
with K are made block by block in float64. A few steps bring the residual down to what float64 gives. On a GPU, and
where float32 does not find K positive definite, the factor is float64 (14.9 GB) and the same loop only confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.source import Progress
from ..env import require_memory
from ..errors import UserError
from .cholesky import Cholesky, NotPositiveDefinite, bytes_needed, factorise
from .kernel_matrix import Kernel, blocks

TOLERANCE = 1e-10
"""Largest residual |Y - K alpha| / |Y| of an output that ends the refinement."""
ACCEPTED = 1e-6
"""And what is accepted where float64 itself, with a matrix close to singular, leaves more than that."""
STEPS = 100


@dataclass(frozen=True)
class Interpolation:
    """The solution, and how exactly it solves.

    alpha: float64 [n, k].
    fitted: K alpha, float64 [n, k].
    factor_residual, residual: largest |Y - K alpha| / |Y| of an output (with a ridge: of (K + ridge) alpha), after the
        factor alone and in the end, both in float64.
    steps: of conjugate gradients.
    """

    alpha: Tensor
    fitted: Tensor
    factor_dtype: str
    factor_residual: float
    residual: float
    steps: int


def multiply(kernel: Kernel, x: Tensor, ridge: float = 0.0, progress: Progress | None = None) -> Tensor:
    """Return (K + ridge) x, each block of K made once and used for its mirror image too.

    x: float64 [n, k].
    ridge: added to the diagonal.
    """
    product = ridge * x
    for columns in blocks(kernel.n):
        for rows in blocks(kernel.n):
            if rows.start < columns.start:
                continue
            block = kernel.train(rows, columns)
            product[rows].addmm_(block, x[columns])
            if rows.start > columns.start:
                product[columns].addmm_(block.T, x[rows])
        if progress is not None:
            progress("multiplying by the kernel matrix", columns.stop, kernel.n)
    return product


def predict(kernel: Kernel, alpha: Tensor) -> Tensor:
    """Return the interpolant at the test samples: float64 [n_test, k].

    alpha: float64 [n, k], from `interpolate`.
    """
    outputs = alpha.new_zeros(kernel.n_test, alpha.shape[1])
    for rows in blocks(kernel.n_test):
        for columns in blocks(kernel.n):
            outputs[rows].addmm_(kernel.test(rows, columns), alpha[columns])
    return outputs


def interpolate(
    kernel: Kernel,
    targets: Tensor,
    *,
    ridge: float = 0.0,
    factor_dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Interpolation:
    """Solve (K + ridge) alpha = targets to float64's accuracy.

    kernel: K, by block.
    targets: float64 [n, k].
    ridge: added to the diagonal; 0 interpolates.
    factor_dtype: of the Cholesky factor; by default float32 on a CPU, float64 on a GPU.
    progress: called with (what, done, total); may raise to stop.
    Raises UserError where the memory does not suffice, or K is not positive definite (as for a data set that has an
    image twice).
    """
    dtype = factor_dtype or (torch.float32 if kernel.device.type == "cpu" else torch.float64)
    factor = _factor(kernel, ridge, dtype, progress)
    alpha = factor.solve(targets)
    residual = targets - multiply(kernel, alpha, ridge, progress)
    first = worst = _worst(residual, targets)
    steps = 0
    while worst > TOLERANCE and steps < STEPS:
        alpha, done = _refine(kernel, factor, alpha, residual, targets, ridge, progress)
        steps += done
        # The residual of the recurrence drifts off the true one: look again, and go on from there while it helps.
        residual = targets - multiply(kernel, alpha, ridge, progress)
        before, worst = worst, _worst(residual, targets)
        if not worst < before / 2:
            break
    if not worst <= ACCEPTED:
        raise _singular(kernel, f"the labels are missed by {worst:.2g} of their norm")
    return Interpolation(
        alpha=alpha,
        fitted=targets - residual - ridge * alpha,
        factor_dtype=str(factor.dtype).removeprefix("torch."),
        factor_residual=first,
        residual=worst,
        steps=steps,
    )


def _worst(residual: Tensor, targets: Tensor) -> float:
    """Return the largest |residual| / |target| of an output; an output that is all 0 is solved by 0."""
    return float((residual.norm(dim=0) / targets.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)).max())


def _refine(
    kernel: Kernel,
    factor: Cholesky,
    alpha: Tensor,
    residual: Tensor,
    targets: Tensor,
    ridge: float,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """Return a better alpha, by preconditioned conjugate gradients for each output, and the steps."""
    direction = preconditioned = factor.solve(residual)
    for step in range(1, STEPS + 1):
        product = multiply(kernel, direction, ridge, progress)
        energy, curvature = (residual * preconditioned).sum(0), (direction * product).sum(0)
        length = torch.where(curvature > 0, energy / curvature, 0.0)
        alpha = alpha + length * direction
        previous, residual = residual, residual - length * product
        if not _worst(residual, targets) > TOLERANCE / 2:
            return alpha, step
        preconditioned = factor.solve(residual)
        # The factor's own rounding makes it a slightly different preconditioner every time: Polak and Ribiere's form.
        change = ((residual - previous) * preconditioned).sum(0)
        direction = preconditioned + torch.where(energy > 0, change / energy, 0.0) * direction
    return alpha, STEPS


def _singular(kernel: Kernel, what: str) -> UserError:
    return UserError(
        f"the kernel matrix of {kernel.n:,} images is too close to singular ({what}): "
        "the data may hold an image twice, or gamma is so small that float64 cannot tell some apart",
        "choose a larger gamma or a ridge",
    )


def _factor(kernel: Kernel, ridge: float, dtype: torch.dtype, progress: Progress | None) -> Cholesky:
    """Return the factor in this precision, or in float64 where that is not enough."""
    require_memory(bytes_needed(kernel.n, dtype), kernel.n, kernel.device)

    def columns(start: int, stop: int) -> Tensor:
        panel = torch.empty(kernel.n - start, stop - start, dtype=dtype, device=kernel.device)
        for rows in blocks(kernel.n - start):
            panel[rows] = kernel.train(slice(start + rows.start, start + rows.stop), slice(start, stop))
        panel.diagonal().add_(ridge)
        return panel

    try:
        return factorise(columns, kernel.n, progress=progress)
    except NotPositiveDefinite as error:
        if dtype == torch.float64:
            raise _singular(kernel, str(error)) from None
    return _factor(kernel, ridge, torch.float64, progress)
