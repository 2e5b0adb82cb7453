"""The paper's section 5 and theorem 1, computed exactly.

two_layer.py            the explicit two-layer network that fits any labels
theorem1.py             that network on a whole data set                         run_theorem1
kernel_matrix.py        values of a kernel, by block
cholesky.py             the factor of such a matrix, in half its memory
interpolation.py        minimum-norm interpolation with a kernel, and its norm
gabor.py, random_convolution.py    what is done to the images before
table3.py               the rows of table 3                                      run_table3
"""

from __future__ import annotations

from .table3 import KernelResult, run_table3
from .theorem1 import Theorem1Result, run_theorem1

__all__ = ["KernelResult", "Theorem1Result", "run_table3", "run_theorem1"]
