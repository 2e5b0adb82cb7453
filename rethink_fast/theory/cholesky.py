"""Cholesky factor of a large symmetric positive definite matrix, in column panels of its lower triangle.

Half the memory of a square, n^2 / 2 values, and nothing besides but one block: the matrix is asked for panel by panel,
each panel once, when its turn comes (left-looking). n^3 / 3 operations, almost all in products of large blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..data.source import Progress

WIDTH = 2048
"""Columns in a panel: products this deep run at the processor's full rate."""


class NotPositiveDefinite(ArithmeticError):
    """The matrix is not positive definite in the precision of the factor."""


class Cholesky:
    """L with L L^T = A; `panels[k]` is L[start:, start:start + width] for start = k * width."""

    def __init__(self, panels: list[Tensor], width: int) -> None:
        self.panels = panels
        self.width = width

    @property
    def dtype(self) -> torch.dtype:
        return self.panels[0].dtype

    def solve(self, right: Tensor) -> Tensor:
        """Return A^-1 right, computed in the precision of the factor.

        right: [n, k], any float dtype, which is also that of the result.
        """
        x = right.to(self.dtype, copy=True)
        for number, panel in enumerate(self.panels):
            top, below, own, rest = self._parts(number, panel, x)
            own.copy_(torch.linalg.solve_triangular(top, own, upper=False))
            rest.addmm_(below, own, alpha=-1)
        for number, panel in reversed(list(enumerate(self.panels))):
            top, below, own, rest = self._parts(number, panel, x)
            own.addmm_(below.T, rest, alpha=-1)
            own.copy_(torch.linalg.solve_triangular(top.T, own, upper=True))
        return x.to(right.dtype)

    def _parts(self, number: int, panel: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the triangle of a panel, what is below it, and the rows of x that belong to each."""
        columns = panel.shape[1]
        own = x[number * self.width :]
        return panel[:columns], panel[columns:], own[:columns], own[columns:]


def bytes_needed(n: int, dtype: torch.dtype, width: int = WIDTH) -> int:
    """Return the memory of a factor in bytes."""
    return sum((n - start) * min(width, n - start) for start in range(0, n, width)) * dtype.itemsize


def factorise(
    columns: Callable[[int, int], Tensor], n: int, *, width: int = WIDTH, progress: Progress | None = None
) -> Cholesky:
    """Return the Cholesky factor of a matrix, in the dtype and on the device of its columns.

    columns: returns A[start:, start:stop] for (start, stop), which this function may overwrite.
    n: rows of A.
    width: columns in a panel.
    progress: called with multiply-adds, in millions.
    Raises NotPositiveDefinite.
    """
    panels: list[Tensor] = []
    starts = range(0, n, width)
    work = [(n - start) * min(width, n - start) * (start + width) for start in starts]
    for start in starts:
        stop = min(start + width, n)
        panel = columns(start, stop)
        for number, before in enumerate(panels):
            rows = before[start - number * width :]
            panel.addmm_(rows, rows[: stop - start].T, alpha=-1)
        top, info = torch.linalg.cholesky_ex(panel[: stop - start])
        if int(info):
            raise NotPositiveDefinite(f"pivot {start + int(info)} of {n} is not positive in {panel.dtype}")
        panel[: stop - start] = top
        for part in panel[stop - start :].split(width):
            part.copy_(torch.linalg.solve_triangular(top.T, part, upper=True, left=False))
        panels.append(panel)
        if progress is not None:
            progress("factoring the kernel matrix, in millions", sum(work[: len(panels)]) // 10**6, sum(work) // 10**6)
    return Cholesky(panels, width)
