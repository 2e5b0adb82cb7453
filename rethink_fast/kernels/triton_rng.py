"""The draws, the permutations and the deviates of CONTRACT.md as device functions for the Triton kernels.

Formula: `philox`, `permute` and `normals` of rng.py, word for word; the words are uint32 and wrap by themselves.
Cost in instructions of sm_90, read in the compiled kernels: 10 rounds of two wide multiplies and two LOP3 for four
words; 6 rounds of IMAD, SHF and LOP3 for one step of a permutation's walk; 11 an element for a deviate and its draw.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import functools
import math

import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice

from .. import rng

# The interpreter knows no device library. On a GPU the approximations are what Box and Muller can afford: the angle
# is kept in [-pi, pi], where their absolute error is 2^-20.9, and log2's is 2^-22 (PTX ISA).
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

_ROUNDS = tl.constexpr(rng.ROUNDS)
_TURN = tl.constexpr(math.tau)
DEVIATE = tl.constexpr(-math.sqrt(2.0 * math.log(2.0)))
"""What a deviate of `normals` is to be multiplied by: together with the standard deviation, once a program."""


@functools.lru_cache(maxsize=64)
def key(seed: int, stream: rng.Stream) -> tuple[int, int]:
    """Return `rng.key`, cached: it costs more than a launch, and a run needs a handful."""
    return rng.key(seed, stream)


@triton.jit
def _wide_multiply(a, b: tl.constexpr):
    """The upper and lower words of a * b, by one 64-bit product."""
    product = a.to(tl.uint64) * tl.full((), b, tl.uint64)
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox(k0, k1, x0, x1, x2, x3):
    """Return the four words of Philox4x32-10 for a key and a counter, all uint32, broadcast against one another."""
    for _ in tl.static_range(10):
        high0, low0 = _wide_multiply(x0, 0xD2511F53)
        high1, low1 = _wide_multiply(x2, 0xCD9E8D57)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0 += tl.full((), 0x9E3779B9, tl.uint32)
        k1 += tl.full((), 0xBB67AE85, tl.uint32)
    return x0, x1, x2, x3


@triton.jit
def draw(k0, k1, index, block):
    """Return the four words of (index, block), which are non-negative integers of up to 64 bits."""
    index, block = index.to(tl.uint64), block.to(tl.uint64)
    return philox(
        k0.to(tl.uint32),
        k1.to(tl.uint32),
        index.to(tl.uint32),
        (index >> 32).to(tl.uint32),
        block.to(tl.uint32),
        (block >> 32).to(tl.uint32),
    )


@triton.jit
def permutation_words(k0, k1, index):
    """Return the twelve words that key one permutation, as three quadruples."""
    zero = tl.full((), 0, tl.int32)
    return draw(k0, k1, index, zero), draw(k0, k1, index, zero + 1), draw(k0, k1, index, zero + 2)


@triton.constexpr_function
def _bits(n):
    return max(1, (n - 1).bit_length())


@triton.jit
def _walk(words, x, BITS: tl.constexpr):
    """One step, with the value in the top BITS of the word: products and sums overflow as they should, and the bits
    that a shift drops below are masked by the LOP3 that does the exclusive or. Three instructions a round."""
    top = tl.full((), (1 << 32) - (1 << (32 - BITS)), tl.uint32)
    for r in tl.static_range(_ROUNDS):
        four = words[r // 2]
        x = x * (four[2 * (r % 2)] | 1) + (four[2 * (r % 2) + 1] << (32 - BITS))
        x = x ^ ((x >> (BITS + 1) // 2) & top)
    return x


@triton.jit
def permute(words, x, n: tl.constexpr):
    """Return where the permutation sends each position, int32, exact and stored nowhere. x: a block of int32 below n.

    The block walks until its last lane is inside, so a block of L lanes takes about 1 + log(L) / log(2^b / (2^b - n))
    steps: 6.5 for 1024 lanes of a 299 x 299 image, where a lane by itself takes 1.47.
    """
    BITS: tl.constexpr = _bits(n)
    last = tl.full((), (n - 1) << (32 - BITS), tl.uint32)
    x = x.to(tl.uint32) << (32 - BITS)
    outside = x <= last  # all of them: the first step is everyone's
    while tl.max(outside.to(tl.int32), 0) > 0:
        x = tl.where(outside, _walk(words, x, BITS), x)
        outside = x > last
    return (x >> (32 - BITS)).to(tl.int32)


@triton.jit
def _log2_cos_sin(u, theta):
    if _INTERPRETED:
        return tl.log2(u), tl.cos(theta), tl.sin(theta)
    else:
        return libdevice.fast_log2f(u), libdevice.fast_cosf(theta), libdevice.fast_sinf(theta)


@triton.jit
def _eight_and(word):
    """8 + (word >> 12) / 2^20, exact: the bits stand in the mantissa, where one shift of two words puts them."""
    if _INTERPRETED:
        bits = (word >> 12) | 0x41000000
    else:
        bits = tl.inline_asm_elementwise(
            "shf.r.clamp.b32 $0, $1, 0x410, 12;", "=r,r", [word], dtype=tl.uint32, is_pure=True, pack=1
        )
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def normals(word):
    """Return the two standard normal deviates of each word divided by DEVIATE, float32.

    Dividing saves the product under the root. The angle is taken half a turn back, which turns both signs.
    """
    u = _eight_and(word) - (8.0 - 2.0**-21)
    theta = tl.fma(
        (word & 0xFFF).to(tl.float32),
        tl.full(word.shape, _TURN / 4096, tl.float32),
        tl.full(word.shape, _TURN / 8192 - _TURN / 2, tl.float32),
    )
    log2, cos, sin = _log2_cos_sin(u, theta)
    radius = tl.sqrt(log2 * -1.0)
    return radius * cos, radius * sin


@triton.jit
def eight_normals(k0, k1, index, block):
    """Return the deviates 8 * block ... 8 * block + 7 of the image `index`, divided by DEVIATE, as four pairs."""
    w0, w1, w2, w3 = draw(k0, k1, index, block)
    return normals(w0), normals(w1), normals(w2), normals(w3)


@triton.jit
def interleave_eight(a, b, c, d):
    """Return four pairs of [B] as one [8 B], a[0], a[1], b[0], ...: a thread keeps its eight, in registers."""
    even = tl.join(tl.join(a[0], c[0]), tl.join(b[0], d[0]))  # [B, 2, 2]: (.., half, pair) of the first deviates
    odd = tl.join(tl.join(a[1], c[1]), tl.join(b[1], d[1]))
    return tl.join(even, odd).reshape(8 * a[0].shape[0])
