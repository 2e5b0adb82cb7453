"""Digests of the images of a split, by which other pixels under the same labels are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .source import Split

SAMPLED = 64


@runtime_checkable
class Encoded(Protocol):
    """Images of which the encoded bytes can be had, which unlike their pixels do not depend on the decoder."""

    def encoded(self, index: Tensor) -> list[np.ndarray]:
        """Return the bytes of each sample of int64 [B]: uint8 [n]."""
        ...


def digest_all(split: Split) -> str:
    """Return the SHA-256 of the pixels of all samples that take part, in order, in hexadecimal."""
    return _digest(_pixels(split, split.index))


def digest_some(split: Split) -> str:
    """Return the SHA-256 of 64 evenly spaced samples, or all of fewer: of their encoded bytes, else of their pixels."""
    positions = torch.linspace(0, len(split.index) - 1, min(len(split.index), SAMPLED), dtype=torch.float64)
    index = split.index[positions.round().long()]
    if isinstance(split.images, Encoded):
        return _digest(iter(split.images.encoded(index)))
    return _digest(_pixels(split, index))


def _pixels(split: Split, index: Tensor) -> Iterator[np.ndarray]:
    for images, rows in split.images.read(index.split(1000)):
        yield images[rows].cpu().numpy()


def _digest(parts: Iterator[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
