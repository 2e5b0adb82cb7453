"""The random-number contract of CONTRACT.md in plain torch: the reference for every other backend.

A word is an unsigned 32-bit value, held in an int64 tensor because torch has no 32-bit unsigned arithmetic.
Everything here is exact integer arithmetic (but for the normal deviates), on any device, in any batch.
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from torch import Tensor

CONTRACT_VERSION = 1
ROUNDS = 6
WORDS = 2 * ROUNDS
LARGEST = 2**63 - 1
TEST_INDEX = 2**62
"""A test image at position j has the index TEST_INDEX + j."""
LARGEST_DEGREES = 25.0
"""A random rotation turns an image by at most this, either way."""
LEAST_AREA = 0.1
LEAST_ASPECT, ASPECT_RANGE = 0.75, 0.58
"""Of the window of a random resized crop: its share of the image, and its width over its height."""
LARGEST_BRIGHTNESS, LARGEST_FACTOR, LARGEST_TURN = 32 / 255, 0.5, 0.2
"""Of color jitter: what brightness adds to values of 0 ... 1, a factor's distance from 1, the hue's part of 1."""

_MASK = 0xFFFFFFFF
_TAG = 0x72746866


class Stream(IntEnum):
    """What a draw decides; a part of the key, so that no two purposes share draws."""

    LABELS = 1
    SHUFFLED_PIXELS = 2
    RANDOM_PIXELS = 3
    GAUSSIAN = 4
    ORDER = 5
    AUGMENT = 6
    SYNTHETIC = 7
    RESIZED_CROP = 8
    COLOUR = 9
    PROJECTION = 10
    PATCHES = 11
    SUBSET = 12


def _mul(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the upper and lower words of a * b, by 16-bit halves so that no int64 product overflows."""
    low, high = b & 0xFFFF, b >> 16
    bottom = a * low
    top = a * high + (bottom >> 16)
    return top >> 16, ((top & 0xFFFF) << 16) | (bottom & 0xFFFF)


def philox(key: tuple[int, int], counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return four words of Philox4x32-10: int64 [..., 4].

    key: two words.
    counter: four word tensors, broadcastable.
    Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
    """
    x0, x1, x2, x3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _mul(0xD2511F53, x0)
        high1, low1 = _mul(0xCD9E8D57, x2)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return torch.stack((x0, x1, x2, x3), dim=-1)


def check_seed(seed: int) -> int:
    """Return `seed` if it is in [0, 2^63), else raise ValueError."""
    if not 0 <= seed <= LARGEST:
        raise ValueError(f"seed {seed} is out of range: choose one in [0, 2^63)")
    return seed


def check_index(index: Tensor) -> Tensor:
    """Return `index` as int64 if it holds integers in [0, 2^63), else raise ValueError.

    The values are looked at on the CPU only: elsewhere that would wait for the device.
    """
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"index must hold integers, not {index.dtype}")
    if index.device.type == "cpu" and index.numel() and (least := int(index.min())) < 0:
        raise ValueError(f"index {least} is out of range: choose one in [0, 2^63)")
    return index.to(torch.int64)


def key(seed: int, stream: Stream) -> tuple[int, int]:
    """Return the two key words of a (seed, stream)."""
    check_seed(seed)
    counter = [torch.tensor(word) for word in (int(stream), 0, 0, _TAG)]
    words = philox((seed & _MASK, seed >> 32), (counter[0], counter[1], counter[2], counter[3]))
    return int(words[0]), int(words[1])


def draw(seed: int, stream: Stream, index: Tensor, block: Tensor | int) -> Tensor:
    """Return four words for every (index, block): int64 [..., 4] over the broadcast shape.

    seed: in [0, 2^63).
    stream: what the draw decides.
    index: int64, each in [0, 2^63).
    block: int64 or int, each in [0, 2^63).
    Raises ValueError for a seed or index outside.
    """
    index = check_index(index)
    block = torch.as_tensor(block, dtype=torch.int64, device=index.device)
    return philox(key(seed, stream), (index & _MASK, index >> 32, block & _MASK, block >> 32))


def mulhi(word: Tensor, n: int | Tensor) -> Tensor:
    """Return a uniform integer in [0, n) from each word: the upper half of word * n, for n <= 2^31."""
    return (word * n) >> 32


def threshold(probability: float) -> int:
    """Return the 33-bit integer below which a word lies with this probability."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability {probability} is out of range: choose one in [0, 1]")
    return round(probability * 2**32)


def included(seed: int, model: Tensor | int, index: Tensor, ratio: float) -> Tensor:
    """Return whether samples are in the training sets of the models of a population: bool over the broadcast shape.

    No set depends on how many models there are.

    model: int64 or int, the model's number, from 0.
    index: int64, the sample index.
    ratio: of samples in a set, in [0, 1].
    """
    return draw(seed, Stream.SUBSET, index, model)[..., 0] < threshold(ratio)


def weight_seed(seed: int, model: int) -> int:
    """Return the seed in [0, 2^63) of torch's generator for the initial weights of a model of a population."""
    words = draw(seed, Stream.SUBSET, torch.tensor(LARGEST), model)
    return int(words[0]) >> 1 << 32 | int(words[1])


def permutation_words(seed: int, stream: Stream, index: Tensor) -> Tensor:
    """Return the twelve words that key one permutation for each index: int64 [..., 12]."""
    blocks = torch.arange(WORDS // 4, device=index.device)
    return draw(seed, stream, index.unsqueeze(-1), blocks).flatten(-2)


def permute(words: Tensor, n: int, x: Tensor) -> Tensor:
    """Return where a keyed permutation of [0, n) sends each x: int64, exact, without a table and without sorting.

    words: int64 [..., 12] from `permutation_words`.
    n: in [1, 2^31].
    x: int64, broadcast against words[..., 0].
    """
    if not 1 <= n <= 2**31:
        raise ValueError(f"a permutation of {n} places is out of range: choose n in [1, 2^31]")
    bits = max(1, (n - 1).bit_length())
    mask, shift = (1 << bits) - 1, (bits + 1) // 2
    multiply = ((words[..., 0::2] | 1) & mask).unbind(-1)
    add = words[..., 1::2].unbind(-1)

    def walk(x: Tensor) -> Tensor:
        for m, a in zip(multiply, add, strict=True):
            x = (x * m + a) & mask
            x = x ^ (x >> shift)
        return x

    x = walk(x)
    while bool((outside := x >= n).any()):
        x = torch.where(outside, walk(x), x)
    return x


def order(seed: int, epoch: int, n: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Return positions start ... stop of one epoch's order over n samples: int64, without storing the order."""
    words = permutation_words(seed, Stream.ORDER, torch.tensor(epoch))
    return permute(words, n, torch.arange(start, n if stop is None else stop))


def normals(words: Tensor) -> Tensor:
    """Return two standard normal deviates from each word: float32 [..., 2], the largest 5.4 (Box and Muller 1958)."""
    u = ((words >> 12).to(torch.float32) + 0.5) * 2.0**-20
    theta = ((words & 0xFFF).to(torch.float32) + 0.5) * (2.0 * math.pi / 2**12)
    radius = (-2.0 * u.log()).sqrt()
    return torch.stack((radius * theta.cos(), radius * theta.sin()), dim=-1)
