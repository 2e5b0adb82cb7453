"""CONTRACT.md a second time, in Python's integers and NumPy: written from its text, sharing no code with the package.

Pixels that the contract gives within a bound are computed in float64. Streams are numbers, as in the contract's table.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

LABELS, SHUFFLED_PIXELS, RANDOM_PIXELS, GAUSSIAN, ORDER, AUGMENT, SYNTHETIC, RESIZED_CROP, COLOUR = range(1, 10)
PROJECTION, PATCHES, SUBSET = 10, 11, 12
TEST = 2**62
SYNTHETIC_SEED = 161103530


# Draws


def halves(value: int) -> tuple[int, int]:
    """lo and hi of a 64-bit value."""
    return value % 2**32, value >> 32


def mulhi(a: int, b: int) -> int:
    return (a * b) >> 32


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    (k0, k1), (x0, x1, x2, x3) = key, counter
    for _ in range(10):
        p, q = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (q >> 32) ^ x1 ^ k0, q % 2**32, (p >> 32) ^ x3 ^ k1, p % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x0, x1, x2, x3


@cache
def key(seed: int, stream: int) -> tuple[int, int]:
    return philox(halves(seed), (stream, 0, 0, 0x72746866))[:2]


def draw(seed: int, stream: int, index: int, block: int) -> tuple[int, int, int, int]:
    return philox(key(seed, stream), (*halves(index), *halves(block)))


# Labels, permutations, orders


def is_corrupted(seed: int, index: int, p: float) -> bool:
    return draw(seed, LABELS, index, 0)[0] < round(p * 2**32)


def label(seed: int, index: int, p: float, classes: int, true: int) -> int:
    return mulhi(draw(seed, LABELS, index, 0)[1], classes) if is_corrupted(seed, index, p) else true


def included(seed: int, model: int, index: int, r: float) -> bool:
    return draw(seed, SUBSET, index, model)[0] < round(r * 2**32)


def weight_seed(seed: int, model: int) -> int:
    v = draw(seed, SUBSET, 2**63 - 1, model)
    return ((v[0] >> 1) << 32) | v[1]


def twelve_words(seed: int, stream: int, index: int) -> list[int]:
    return [word for block in range(3) for word in draw(seed, stream, index, block)]


def permute(words: list[int], n: int, x: int) -> int:
    b = max(1, (n - 1).bit_length())
    while True:
        for r in range(6):
            x = (x * (words[2 * r] | 1) + words[2 * r + 1]) & (2**b - 1)
            x ^= x >> ((b + 1) // 2)
        if x < n:
            return x


def moved_pixels(image: np.ndarray, words: list[int]) -> np.ndarray:
    height, width, channels = image.shape
    source = [permute(words, height * width, q) for q in range(height * width)]
    return image.reshape(-1, channels)[source].reshape(image.shape)


def shuffled_pixels(image: np.ndarray, seed: int) -> np.ndarray:
    return moved_pixels(image, twelve_words(seed, SHUFFLED_PIXELS, 0))


def random_pixels(image: np.ndarray, seed: int, index: int) -> np.ndarray:
    return moved_pixels(image, twelve_words(seed, RANDOM_PIXELS, index))


def limited(n: int, limit: int) -> list[int]:
    if limit >= n:
        return list(range(n))
    words = twelve_words(0, ORDER, 2**62)
    return sorted(permute(words, n, k) for k in range(limit))


def order(seed: int, epoch: int, taking_part: list[int]) -> list[int]:
    """The samples of one epoch in the order in which they are taken."""
    words, samples = twelve_words(seed, ORDER, epoch), sorted(taking_part)
    return [samples[permute(words, len(samples), k)] for k in range(len(samples))]


# Normal deviates


def deviate(seed: int, index: int, e: int) -> float:
    j = e // 2
    v = draw(seed, GAUSSIAN, index, j // 4)[j % 4]
    u, theta = ((v >> 12) + 0.5) / 2**20, 2 * math.pi * ((v & 0xFFF) + 0.5) / 2**12
    return math.sqrt(-2 * math.log(u)) * (math.sin(theta) if e % 2 else math.cos(theta))


def gaussian(shape: tuple[int, int, int], seed: int, index: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    z = np.array([deviate(seed, index, e) for e in range(math.prod(shape))])
    return mean + std * z.reshape(shape)


def pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """images: uint8 [n, H, W, C], before the fixed crop. Returns float32 [C] each."""
    values = images.reshape(-1, images.shape[3]).astype(np.int64)
    m, total, square = len(values), values.sum(0), (values**2).sum(0)
    variance = square / m - (total / m) ** 2
    return (total / m).astype(np.float32), np.sqrt(np.maximum(variance, 0)).astype(np.float32)


# Augmentation


def centre(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


def crop(image: np.ndarray, size: tuple[int, int], seed: int, index: int, epoch: int) -> np.ndarray:
    w = draw(seed, AUGMENT, index, epoch)
    top, left = mulhi(w[0], image.shape[0] - size[0] + 1), mulhi(w[1], image.shape[1] - size[1] + 1)
    return image[top : top + size[0], left : left + size[1]]


def flip(image: np.ndarray, seed: int, index: int, epoch: int) -> np.ndarray:
    return image[:, ::-1] if draw(seed, AUGMENT, index, epoch)[2] >= 2**31 else image


def angle(seed: int, index: int, epoch: int) -> float:
    """In radians."""
    return math.radians((2 * (draw(seed, AUGMENT, index, epoch)[3] + 0.5) / 2**32 - 1) * 25)


def rotate(image: np.ndarray, seed: int, index: int, epoch: int) -> np.ndarray:
    a = angle(seed, index, epoch)
    height, width, _ = image.shape
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    from_x = math.cos(a) * x + math.sin(a) * y + (width - 1) / 2
    from_y = math.cos(a) * y - math.sin(a) * x + (height - 1) / 2
    left, top = np.floor(from_x).astype(int), np.floor(from_y).astype(int)
    out = np.zeros(image.shape)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - np.abs(from_x - column)) * (1 - np.abs(from_y - row))
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        out[inside] += weight[inside][:, None] * image[row[inside], column[inside]]
    return out


def rotation_bound(height: int, width: int) -> float:
    return 255 * (24 * (height + width) + 8) * 2.0**-23


def window(height: int, width: int, seed: int, index: int, epoch: int) -> tuple[int, int, int, int]:
    """The top, left, height and width of a resized crop."""
    w = draw(seed, RESIZED_CROP, index, epoch)
    aspect = 0.75 + 0.58 * ((w[0] + 0.5) / 2**32)
    least = max(1, round(math.sqrt((0.1 * (height * width)) / aspect)))
    most = min(height, max(1, round(width / aspect)))
    if least > most:
        return 0, 0, height, width
    h = least + mulhi(w[1], most - least + 1)
    wd = min(width, max(1, round(h * aspect)))
    return mulhi(w[2], height - h + 1), mulhi(w[3], width - wd + 1), h, wd


def random_resized_crop(image: np.ndarray, seed: int, index: int, epoch: int) -> np.ndarray:
    height, width, _ = image.shape
    top, left, h, wd = window(height, width, seed, index, epoch)
    cut = image[top : top + h, left : left + wd].astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        n = cut.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        near = np.floor(place).astype(int)
        part = (place - near).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        far = np.minimum(near + 1, n - 1)
        cut = (1 - part) * cut.take(near, axis) + part * cut.take(far, axis)
    return cut


def random_resized_crop_bound(height: int, width: int) -> float:
    return 255 * (40 * (height + width) + 8) * 2.0**-23


def color_jitter(image: np.ndarray, seed: int, index: int, epoch: int) -> np.ndarray:
    w = draw(seed, COLOUR, index, epoch)
    s = [((word >> 1) + 0.5) / 2**30 - 1 for word in w]

    def contrast(x: np.ndarray) -> np.ndarray:
        m = x.mean(axis=(0, 1))
        return (x - m) * (1 + s[1] / 2) + m

    x = image / 255 + 32 / 255 * s[0]
    if w[0] % 2:
        x = contrast(x)
    x = np.array([[turned(saturated(pixel, 1 + s[2] / 2), s[3]) for pixel in row] for row in x])
    if not w[0] % 2:
        x = contrast(x)
    return x.clip(0, 1) * 255


def saturated(pixel: np.ndarray, factor: float) -> np.ndarray:
    largest, least = pixel.max(), pixel.min()
    if largest <= 0:
        return np.full(3, largest)
    if largest == least:
        return pixel
    t = (largest - least) / largest
    return largest - (largest - pixel) * min(max(t * factor, 0), 1) / t


def turned(pixel: np.ndarray, s: float) -> np.ndarray:
    largest, least = pixel.max(), pixel.min()
    if largest == least:
        return pixel
    red, green, blue = pixel
    span = largest - least
    if red == largest:
        hue = (green - blue) / span
    elif green == largest:
        hue = 2 + (blue - red) / span
    else:
        hue = 4 + (red - green) / span
    k = [(hue + 6 * s / 5 + n) % 6 for n in (5, 3, 1)]
    return np.array([largest - span * min(max(min(each, 4 - each), 0), 1) for each in k])


def color_jitter_bound(height: int, width: int) -> float:
    return 255 * (160 * height * width + 968) * 2.0**-23


# Theory


def projection(d: int, seed: int, attempt: int) -> list[int]:
    b = 0
    while 2 ** (b + 1) * 1020 * d <= 2**51:
        b += 1
    half = 2 ** (b - 1)
    out = []
    for i in range(d):
        w = draw(seed, PROJECTION, i, attempt)
        size = half + ((w[1] << 32) | w[2]) % half
        out.append(-4 * size if w[0] % 2 else 4 * size)
    return out


def patch(images: np.ndarray, seed: int, j: int) -> list[int]:
    """images: [n, H, W, C], in ascending order of their samples. Filter f is patch 50,000 + f."""
    n, height, width, channels = images.shape
    w = draw(seed, PATCHES, j, 0)
    image, top, left = mulhi(w[0], n), mulhi(w[1], height - 5), mulhi(w[2], width - 5)
    places = ((c, dy, dx) for c in range(channels) for dy in range(6) for dx in range(6))
    return [int(images[image, top + dy, left + dx, c]) for c, dy, dx in places]


# Synthetic images


@cache
def _words(index: int, block: int) -> tuple[int, int, int, int]:
    return draw(SYNTHETIC_SEED, SYNTHETIC, index, block)


def _byte(index: int, k: int) -> int:
    j = k // 4
    return (_words(index, 1 + j // 4)[j % 4] >> 8 * (k % 4)) & 255


def synthetic_label(index: int, classes: int) -> int:
    return mulhi(_words(index, 0)[0], classes)


def synthetic_pixel(index: int, y: int, x: int, c: int, edge: int, channels: int, classes: int) -> int:
    place = mulhi(_words(index, 0)[1], 2**20 - edge * edge * channels + 1)
    noise = _byte(2**62 + 2**60, place + (y * edge + x) * channels + c)
    template = 2**62 + 2**61 + synthetic_label(index, classes)

    def coarse(gy: int, gx: int) -> int:
        k = (gy * 8 + gx) * channels + c
        return 128 * _byte(template, k) + 96 * _byte(index, k)

    def place_of(t: int) -> tuple[int, int, int]:
        near, part = divmod(t * 7 * 256 // max(edge - 1, 1), 256)
        return near, min(near + 1, 7), part

    (ny, fy, py), (nx, fx, px) = place_of(y), place_of(x)
    smooth = (256 - py) * ((256 - px) * coarse(ny, nx) + px * coarse(ny, fx))
    smooth += py * ((256 - px) * coarse(fy, nx) + px * coarse(fy, fx))
    return ((smooth >> 16) + 32 * noise) >> 8
