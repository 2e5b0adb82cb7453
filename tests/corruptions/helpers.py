"""Statistical bounds of this folder's tests.

Draws are fixed by the seeds, so a test always passes or always fails. A bound of 5 standard deviations, or the 1e-6
tail of a chi-square, says that an honest generator would fail one such test in a million.
"""

from __future__ import annotations

import math

import torch

N = 20_000
INDEX = torch.arange(N)
MEAN = torch.tensor([125.3, 123.0, 113.9])
STD = torch.tensor([63.0, 62.1, 66.7])


def chi_square_limit(freedom: int) -> float:
    """The value a chi-square exceeds with probability below exp(-14) < 1e-6 (Laurent and Massart 2000, lemma 1)."""
    return freedom + 2 * math.sqrt(14 * freedom) + 2 * 14


def chi_square(counts: torch.Tensor) -> float:
    """Against equal probabilities."""
    expected = counts.sum().item() / counts.numel()
    return ((counts - expected) ** 2).sum().item() / expected


def binomial_limit(n: int, p: float) -> float:
    """Five standard deviations of a binomial's mean."""
    return 5 * math.sqrt(p * (1 - p) / n)
