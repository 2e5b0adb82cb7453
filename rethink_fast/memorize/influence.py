"""Influence of training samples on test images (Feldman and Zhang 2020), by two matrix products over the population.

infl(i, z) = Pr[h(z) right : h trained with i] - Pr[h(z) right : h trained without i]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..env import free_memory
from ..errors import UserError
from .training import Trained

TOP = 100
"""Samples kept of each test image."""
ROWS = 256
"""Test images at once: 256 x 60,000 float32 are 61 MB."""


def influence(parts: Sequence[Trained]) -> Iterator[Tensor]:
    """Yield the influence of every training sample on ROWS test images after another: float32 [m, n]."""
    included = torch.from_numpy(np.concatenate([part.included for part in parts])).float()
    test_right = torch.from_numpy(np.concatenate([part.test_right for part in parts])).float()
    weights = included / included.sum(0) - (1 - included) / (1 - included).sum(0)
    for rows in test_right.T.split(ROWS):
        yield rows @ weights


def top(parts: Sequence[Trained]) -> tuple[np.ndarray, np.ndarray]:
    """Return the TOP samples of largest influence on each test image, by place, and it: int32 and float32 [t, TOP]."""
    places, values = [], []
    for rows in influence(parts):
        order = rows.sort(stable=True, dim=1, descending=True).indices[:, :TOP]
        places.append(order.to(torch.int32))
        values.append(rows.gather(1, order))
    return torch.cat(places).numpy(), torch.cat(values).numpy()


def whole(parts: Sequence[Trained]) -> np.ndarray:
    """Return the influence of every sample on every test image: float32 [t, n]. Raises UserError for want of memory."""
    check_whole(parts[0].test_right.shape[1], parts[0].included.shape[1])
    return torch.cat(list(influence(parts))).numpy()


def check_whole(test: int, train: int) -> None:
    """Raise UserError where the whole matrix, and what writes it, do not fit into memory."""
    needed, free = 3 * 4 * test * train, free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise UserError(
            f"--influence all needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            "use --influence top",
            option="--influence",
            value="all",
            allowed="top",
        )
