"""Digests of the images of a split, by which other pixels under the same labels are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .source import Dataset, InMemoryImages, Split

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


def data_identity(dataset: Dataset) -> str:
    """Return a hash of the samples that take part: of all pixels if they are in memory, else of some and the source."""
    digest = hashlib.sha256(f"{dataset.name} {dataset.num_classes}".encode())
    for split in (dataset.train, dataset.test):
        if split is not None:
            _add(digest, split, dataset.data_source)
    return digest.hexdigest()[:16]


def _add(digest: Any, split: Split, source: str) -> None:
    digest.update(split.index.numpy().tobytes())
    digest.update(split.labels[split.index].numpy().tobytes())
    if isinstance(split.images, InMemoryImages):
        digest.update(digest_all(split).encode())
    else:
        digest.update(f"{source} {split.images.shape} {digest_some(split)}".encode())


def key_of(identity: dict[str, Any]) -> str:
    """Return the name of the folder of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _digest(parts: Iterator[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
