"""Where a block of the fused preprocessing gets its values from, before they are whitened.

Four ways, chosen by the plan when the kernel is compiled:
- streams: gaussian that nothing moves. A lane makes eight elements from one draw.
- gathers: the permutations, without rotation. A tile evaluates the source of each of its pixels once and hands it to
  the pixel's elements by a gather inside the block.
- copies: true pixels, at most cropped. Rows of bytes.
- else each element by itself: flips, rotations, and noise that is cropped.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import math
from dataclasses import dataclass

import triton
import triton.language as tl

from ..rng import LARGEST_DEGREES
from .triton_gaussian import eight_pixels, scaling
from .triton_rng import DEVIATE, draw, normals, permutation_words, permute

_LARGEST_RADIANS = tl.constexpr(math.radians(LARGEST_DEGREES))


@dataclass(frozen=True)
class Plan:
    """What is fixed when a kernel is compiled: the geometry, the stages, and how the work is cut.

    A tile is `chunks` blocks of `block` elements; a program makes `tiles` tiles of each of `images` images, and an
    image has `parts` programs.
    pixels: pixels of a tile, for gathers.
    parts_block: of the statistics; 0 without them.
    """

    height: int
    width: int
    channels: int
    top: int
    left: int
    window_height: int
    window_width: int
    out_height: int
    out_width: int
    corruption: str
    crop: bool
    flip: bool
    rotation: bool
    whiten: bool
    block: int = 0
    chunks: int = 1
    pixels: int = 1
    tiles: int = 1
    images: int = 1
    parts: int = 1
    parts_block: int = 0
    resizes: bool = False
    jitters: bool = False

    @property
    def elements(self) -> int:
        return self.out_height * self.out_width * self.channels

    @property
    def stored_elements(self) -> int:
        return self.height * self.width * self.channels

    @property
    def positions(self) -> int:
        return self.window_height * self.window_width

    @property
    def tile(self) -> int:
        return self.pixels * self.channels if self.gathers else self.block

    @property
    def moves(self) -> bool:
        return self.corruption in ("shuffled_pixels", "random_pixels")

    @property
    def gathers(self) -> bool:
        return self.moves and not self.rotation

    @property
    def moves_alone(self) -> bool:
        """Whether whole images of RGB are moved and scaled to [-1, 1], and large: what csrc/cuda is for."""
        whole = (self.height, self.width) == (self.window_height, self.window_width) and self.whole_window
        still = not (self.augments or self.whiten)
        return self.moves and whole and still and self.channels == 3 and self.parts > 1

    @property
    def whole_window(self) -> bool:
        return (self.window_height, self.window_width) == (self.out_height, self.out_width)

    @property
    def streams(self) -> bool:
        return self.corruption == "gaussian" and self.whole_window and not (self.flip or self.rotation)

    @property
    def copies(self) -> bool:
        return not (self.corruption or self.flip or self.rotation)

    @property
    def shared(self) -> bool:
        """Whether every image of the batch fetches from the same places."""
        return self.gathers and self.corruption == "shuffled_pixels" and self.images > 1

    @property
    def augments(self) -> bool:
        return self.crop or self.flip or self.rotation

    @property
    def least_deviation(self) -> float:
        return float(255.0 / self.elements**0.5)


@triton.jit
def image_words(k0, k1, index, plan: tl.constexpr):
    """Return the words of the permutation of an image, or of the run."""
    zero = tl.full((), 0, tl.int64)
    if plan.corruption == "random_pixels":
        return permutation_words(k0, k1, index)
    elif plan.corruption == "shuffled_pixels":
        return permutation_words(k0, k1, zero)
    else:
        return zero


@triton.jit
def _cos_sin(angle):
    """By their series, for |angle| < 0.44: the first omitted terms are below 1e-11. The library's would spill."""
    s = angle * angle
    cos = 1.0 + s * (-1 / 2 + s * (1 / 24 + s * (-1 / 720 + s * (1 / 40320))))
    sin = angle + angle * s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s * (1 / 362880))))
    return cos, sin


@triton.jit
def augmentation(a0, a1, index, epoch, plan: tl.constexpr):
    """Return top and left of an image's crop in the window, whether it is flipped, cosine and sine of its angle."""
    top = tl.full((), (plan.window_height - plan.out_height) // 2, tl.int32)
    left = tl.full((), (plan.window_width - plan.out_width) // 2, tl.int32)
    flipped = tl.full((), 0, tl.int1)
    cos, sin = tl.full((), 1.0, tl.float32), tl.full((), 0.0, tl.float32)
    if plan.augments:
        w0, w1, w2, w3 = draw(a0, a1, index, epoch)
        if plan.crop:
            top = tl.umulhi(w0, tl.full((), plan.window_height - plan.out_height + 1, tl.uint32)).to(tl.int32)
            left = tl.umulhi(w1, tl.full((), plan.window_width - plan.out_width + 1, tl.uint32)).to(tl.int32)
        if plan.flip:
            flipped = (w2 >> 31) != 0
        if plan.rotation:
            # the angle in float64 as rng.py has it: a word has more bits than a float32
            angle = ((w3.to(tl.float64) + 0.5) * 2.0**-31 - 1.0) * _LARGEST_RADIANS
            cos, sin = _cos_sin(angle.to(tl.float32))
    return top, left, flipped, cos, sin


@triton.jit
def place(y, x, turn, plan: tl.constexpr):
    """Return where in the window the pixel (y, x) of the cropped and flipped image comes from: (y, x)."""
    if plan.flip:
        x = tl.where(turn[2], plan.out_width - 1 - x, x)
    return y + turn[0], x + turn[1]


@triton.jit
def permuted(words, y, x, plan: tl.constexpr):
    """Return where in the window the permutation fetches its pixel (y, x) from: (y, x)."""
    position = permute(words, y * plan.window_width + x, plan.positions)
    return position // plan.window_width, position % plan.window_width


@triton.jit
def stored(y, x, plan: tl.constexpr):
    """Return the position in the stored image of the pixel (y, x) of the window."""
    return (y + plan.top) * plan.width + x + plan.left


@triton.jit
def sources(words, turn, first, plan: tl.constexpr):
    """Return the stored positions of the pixels of a tile that starts at pixel `first`: int32 [pixels]."""
    if plan.gathers:
        pixel = tl.minimum(first + tl.arange(0, plan.pixels), plan.out_height * plan.out_width - 1)
        y, x = place(pixel // plan.out_width, pixel % plan.out_width, turn, plan)
        y, x = permuted(words, y, x, plan)
        return stored(y, x, plan)
    else:
        return tl.full((), 0, tl.int32)


@triton.jit
def _rows(stored_ptr, turn, number, mask, plan: tl.constexpr):
    """Elements `number` of a true image that is only cropped: rows of bytes as they are stored."""
    offs = stored(turn[0], turn[1], plan) * plan.channels + number
    if plan.width != plan.out_width:
        offs += number // (plan.out_width * plan.channels) * ((plan.width - plan.out_width) * plan.channels)
    return tl.load(stored_ptr + offs, mask=mask, other=0)


@triton.jit
def noise(mean_ptr, std_ptr, k0, k1, index, y, x, c, plan: tl.constexpr):
    """Return channel c of gaussian at the pixels (y, x) of the window, float32."""
    number = (y * plan.window_width + x) * plan.channels + c
    w0, w1, w2, w3 = draw(k0, k1, index, number // 8)
    which = number // 2 % 4
    word = tl.where(which < 2, tl.where(which == 0, w0, w1), tl.where(which == 2, w2, w3))
    even, odd = normals(word)
    return tl.fma(tl.where(number % 2 == 0, even, odd), tl.load(std_ptr + c) * DEVIATE, tl.load(mean_ptr + c))


@triton.jit
def _element(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, y, x, c, mask, plan: tl.constexpr):
    """Channel c of the pixels (y, x) of the corrupted, cropped and flipped image: uint8, or float32 for gaussian."""
    y, x = place(y, x, turn, plan)
    if plan.corruption == "gaussian":
        return noise(mean_ptr, std_ptr, k0, k1, index, y, x, c, plan)
    else:
        if plan.moves:
            y, x = permuted(words, y, x, plan)
        return tl.load(stored_ptr + stored(y, x, plan) * plan.channels + c, mask=mask, other=0)


@triton.jit
def before_rotation(y, x, turn, plan: tl.constexpr):
    """Return where the pixels (y, x) of the rotated image come from: (y, x) float32, between pixels or outside."""
    across = x.to(tl.float32) - (plan.out_width - 1) / 2
    down = y.to(tl.float32) - (plan.out_height - 1) / 2
    cos, sin = turn[3], turn[4]
    from_x = cos * across + sin * down + (plan.out_width - 1) / 2
    from_y = cos * down - sin * across + (plan.out_height - 1) / 2
    return from_y, from_x


@triton.jit
def corner_of(from_y, from_x, corner: tl.constexpr, mask, plan: tl.constexpr):
    """Return one of the four pixels around a place: y, x, its weights in y and x, and whether it is in the image.

    y and x are 0 where it is not.
    """
    y0, x0 = tl.floor(from_y), tl.floor(from_x)
    at_x, at_y = x0.to(tl.int32) + corner % 2, y0.to(tl.int32) + corner // 2
    inside = mask & (at_x >= 0) & (at_x < plan.out_width) & (at_y >= 0) & (at_y < plan.out_height)
    weight_x, weight_y = from_x - x0, from_y - y0
    x_share = weight_x if corner % 2 == 1 else 1.0 - weight_x
    y_share = weight_y if corner // 2 == 1 else 1.0 - weight_y
    return tl.where(inside, at_y, 0), tl.where(inside, at_x, 0), y_share, x_share, inside


@triton.jit
def _turned(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, y, x, c, mask, plan: tl.constexpr):
    """Channel c at the pixels (y, x) of the rotated image: bilinear, zero outside."""
    from_y, from_x = before_rotation(y, x, turn, plan)
    total = tl.zeros(x.shape, tl.float32)
    for corner in tl.static_range(4):
        at_y, at_x, y_share, x_share, inside = corner_of(from_y, from_x, corner, mask, plan)
        pixel = _element(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, at_y, at_x, c, inside, plan).to(
            tl.float32
        )
        total += tl.where(inside, pixel * x_share * y_share, 0.0)
    return total


@triton.jit
def values(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, source, start, chunk, plan: tl.constexpr):
    """Return elements start + chunk * block ... of the image before whitening: uint8 where no arithmetic was done."""
    local = chunk * plan.block + tl.arange(0, plan.block)
    mask = start + local < plan.elements
    if plan.streams:
        block = start // 8 + tl.arange(0, plan.block // 8)
        scale, shift = scaling(mean_ptr, std_ptr, block, plan.channels, False)
        return eight_pixels(k0, k1, index, block, scale, shift, 0, plan.channels)
    elif plan.gathers:
        pixel = tl.gather(source, tl.minimum(local // plan.channels, plan.pixels - 1), 0)
        return tl.load(stored_ptr + pixel * plan.channels + local % plan.channels, mask=mask, other=0)
    elif plan.copies:
        return _rows(stored_ptr, turn, start + local, mask, plan)
    else:
        number = tl.where(mask, start + local, 0)
        pixel, c = number // plan.channels, number % plan.channels
        y, x = pixel // plan.out_width, pixel % plan.out_width
        if plan.rotation:
            return _turned(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, y, x, c, mask, plan)
        else:
            return _element(stored_ptr, mean_ptr, std_ptr, k0, k1, index, words, turn, y, x, c, mask, plan)
