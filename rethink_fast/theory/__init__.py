"""The paper's section 5 and theorem 1, computed exactly.

theorem1.py   the explicit two-layer network that fits any labels      run_theorem1
kernels.py    minimum-norm interpolation with a kernel, and its norm   (on cholesky.py, which needs half the matrix)
features.py   Gabor responses and random convolution features
table3.py     the rows of table 3                                      run_table3
"""

from __future__ import annotations

from .table3 import KernelResult, run_table3
from .theorem1 import Theorem1Result, run_theorem1

__all__ = ["KernelResult", "Theorem1Result", "run_table3", "run_theorem1"]
