"""What each randomization of the paper means: rates, independence, and one result in any batch.

Statistical bounds: draws are fixed by the seeds, so a test passes or fails for good. A bound of 5 standard
deviations, or the 1e-6 tail of a chi-square, says that an honest generator would fail one such test in a million.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_fast import rng
from rethink_fast.corruptions import (
    corrupted_mask,
    gaussian,
    partially_corrupted_labels,
    random_labels,
    random_pixels,
    shuffled_pixels,
)

N = 20_000
INDEX = torch.arange(N)
MEAN = torch.tensor([125.3, 123.0, 113.9])
STD = torch.tensor([63.0, 62.1, 66.7])
PIXEL_KINDS = {
    "shuffled_pixels": shuffled_pixels,
    "random_pixels": random_pixels,
    "gaussian": lambda images, index, *, seed: gaussian(
        images, index, seed=seed, mean=MEAN[:1].expand(images.shape[-1]), std=STD[:1].expand(images.shape[-1])
    ),
}


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


def numbered(batch: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Images whose pixel at position q holds q * channels + c, so that a moved pixel tells where it came from."""
    return torch.arange(height * width * channels).view(1, height, width, channels).expand(batch, -1, -1, -1)


def sources(images: torch.Tensor) -> torch.Tensor:
    """Where each pixel of permuted `numbered` images came from: [B, H * W]. Fails if channels parted."""
    channels = images.shape[-1]
    assert torch.equal(images % channels, torch.arange(channels).expand_as(images))
    return (images[..., 0] // channels).flatten(1)


# Labels


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_rate_of_changed_labels(probability: float, num_classes: int) -> None:
    """A fraction p is drawn anew, and p (1 - 1/C) of all labels change, because a draw may hit the true class."""
    labels = INDEX % num_classes
    corrupted = partially_corrupted_labels(labels, INDEX, num_classes=num_classes, probability=probability, seed=3)
    mask = corrupted_mask(INDEX, probability=probability, seed=3)
    rate = probability * (1 - 1 / num_classes)
    assert abs(mask.double().mean().item() - probability) <= binomial_limit(N, probability)
    assert abs((corrupted != labels).double().mean().item() - rate) <= binomial_limit(N, rate)
    assert not bool((corrupted != labels)[~mask].any())
    assert corrupted.dtype == torch.int64


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_drawn_classes_are_uniform(num_classes: int, probability: float) -> None:
    """Over all classes, whatever the true one is; -1 marks what was left alone."""
    drawn = partially_corrupted_labels(
        torch.full((N,), -1), INDEX, num_classes=num_classes, probability=probability, seed=5
    )
    counts = torch.bincount(drawn[drawn >= 0], minlength=num_classes)
    assert len(counts) == num_classes
    assert chi_square(counts) < chi_square_limit(num_classes - 1)


def test_successive_labels_are_independent() -> None:
    drawn = random_labels(torch.zeros(N, dtype=torch.int64), INDEX, num_classes=10, seed=1)
    other = random_labels(torch.zeros(N, dtype=torch.int64), INDEX, num_classes=10, seed=2)
    for pairs in (drawn[:-1] * 10 + drawn[1:], drawn * 10 + other):
        assert chi_square(torch.bincount(pairs, minlength=100)) < chi_square_limit(99)


def test_masks_are_nested_and_share_their_classes() -> None:
    labels = torch.full((N,), -1)
    previous = torch.zeros(N, dtype=torch.bool)
    everything = random_labels(labels, INDEX, num_classes=10, seed=8)
    for probability in (0.0, 0.1, 0.3, 0.5, 0.9, 1.0):
        mask = corrupted_mask(INDEX, probability=probability, seed=8)
        assert not bool((previous & ~mask).any())
        drawn = partially_corrupted_labels(labels, INDEX, num_classes=10, probability=probability, seed=8)
        assert torch.equal(drawn, torch.where(mask, everything, labels))
        previous = mask


def test_probability_0_and_1() -> None:
    labels = INDEX % 10
    unchanged = partially_corrupted_labels(labels, INDEX, num_classes=10, probability=0.0, seed=4)
    assert torch.equal(unchanged, labels)
    assert not bool(corrupted_mask(INDEX, probability=0.0, seed=4).any())
    assert bool(corrupted_mask(INDEX, probability=1.0, seed=4).all())
    shifted = random_labels((labels + 1) % 10, INDEX, num_classes=10, seed=4)
    assert torch.equal(random_labels(labels, INDEX, num_classes=10, seed=4), shifted)


# One result in any batch


@settings(derandomize=True, max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(PIXEL_KINDS)), seed=st.integers(0, 2**63 - 1))
def test_pixels_depend_on_seed_and_index_only(data: st.DataObject, kind: str, seed: int) -> None:
    """Any subset, order and batch split, contiguous or not, gives each sample the same pixels."""
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    channels = data.draw(st.sampled_from([1, 3]))
    index = torch.tensor(data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6, unique=True)))
    images = torch.randint(256, (len(index), height, width, channels), dtype=torch.uint8)
    corrupt = PIXEL_KINDS[kind]
    whole = corrupt(images, index, seed=seed)
    assert whole.shape == images.shape
    chosen = torch.tensor(data.draw(st.permutations(range(len(index)))))[: data.draw(st.integers(1, len(index)))]
    assert torch.equal(corrupt(images[chosen], index[chosen], seed=seed), whole[chosen])
    one_by_one = [corrupt(images[k : k + 1], index[k : k + 1], seed=seed) for k in range(len(index))]
    assert torch.equal(torch.cat(one_by_one), whole)
    strided = images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(corrupt(strided, index.repeat_interleave(2)[::2], seed=seed), whole)
    if kind != "gaussian":
        assert whole.dtype == images.dtype
        before, after = (x.flatten(1, 2).long() @ (256 ** torch.arange(channels)) for x in (images, whole))
        assert torch.equal(before.sort(dim=1).values, after.sort(dim=1).values)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    index=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20),
    seed=st.integers(0, 2**63 - 1),
    probability=st.floats(0, 1),
    num_classes=st.integers(1, 1000),
)
def test_labels_depend_on_seed_and_index_only(
    index: list[int], seed: int, probability: float, num_classes: int
) -> None:
    indices = torch.tensor(index)
    labels = torch.zeros(len(index), dtype=torch.int64)

    def corrupt(labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return partially_corrupted_labels(labels, indices, num_classes=num_classes, probability=probability, seed=seed)

    whole = corrupt(labels, indices)
    assert bool(((whole >= 0) & (whole < num_classes)).all())
    assert torch.equal(corrupt(labels, indices.flip(0)).flip(0), whole)
    assert torch.equal(torch.cat([corrupt(labels[:1], indices[k : k + 1]) for k in range(len(index))]), whole)


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_empty_batch(kind: str) -> None:
    images = torch.zeros(0, 4, 5, 3, dtype=torch.uint8)
    assert PIXEL_KINDS[kind](images, torch.zeros(0, dtype=torch.int64), seed=0).shape == (0, 4, 5, 3)


# Permuted pixels


def test_shuffled_pixels_is_one_permutation_for_training_and_test_images() -> None:
    index = torch.tensor([0, 1, 77, rng.TEST_INDEX, rng.TEST_INDEX + 1])
    moved = sources(shuffled_pixels(numbered(5, 28, 28), index, seed=6))
    assert torch.equal(moved, moved[:1].expand_as(moved))
    assert torch.equal(moved[0].sort().values, torch.arange(784))
    assert not torch.equal(moved[0], torch.arange(784))
    assert not torch.equal(moved[0], sources(shuffled_pixels(numbered(1, 28, 28), index[:1], seed=7))[0])


def test_shuffled_pixels_is_uniform_over_seeds() -> None:
    """The source of each position of a 3x3 image over 500 seeds."""
    index = torch.zeros(1, dtype=torch.int64)
    moved = torch.cat([sources(shuffled_pixels(numbered(1, 3, 3, 1), index, seed=seed)) for seed in range(500)])
    for position in range(9):
        assert chi_square(torch.bincount(moved[:, position], minlength=9)) < chi_square_limit(8)


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (5, 3)])
def test_random_pixels_sends_every_pixel_everywhere_alike(size: tuple[int, int]) -> None:
    """Over images, the source of each position is uniform; 15, 16 and 49 places: power of two and not."""
    images = numbered(N // 2, *size)
    moved = sources(random_pixels(images, INDEX[: N // 2], seed=12))
    n = size[0] * size[1]
    assert torch.equal(moved.sort(dim=1).values, torch.arange(n).expand_as(moved))
    for position in range(n):
        assert chi_square(torch.bincount(moved[:, position], minlength=n)) < chi_square_limit(n - 1)


def test_random_pixels_sends_neighbouring_pixels_independently() -> None:
    """The joint source of two neighbours is uniform over the ordered pairs of different places."""
    n = 16
    moved = sources(random_pixels(numbered(N, 4, 4, 1), INDEX, seed=13))
    for first, second in ((0, 1), (5, 6), (1, 5), (14, 15)):
        pairs = torch.bincount(moved[:, first] * n + moved[:, second], minlength=n * n).view(n, n)
        assert not bool(pairs.diagonal().any())
        off_diagonal = pairs[~torch.eye(n, dtype=torch.bool)]
        assert chi_square(off_diagonal) < chi_square_limit(n * (n - 1) - 1)


@pytest.mark.parametrize("neighbour", ["index", "seed", "test image"])
def test_random_pixels_differs_between_images_and_seeds(neighbour: str) -> None:
    """Two independent permutations agree at one position on average, with variance 1."""
    images, index = numbered(2000, 7, 7, 1), INDEX[:2000]
    moved = sources(random_pixels(images, index, seed=20))
    other = {
        "index": lambda: random_pixels(images, index + 1, seed=20),
        "seed": lambda: random_pixels(images, index, seed=21),
        "test image": lambda: random_pixels(images, index + rng.TEST_INDEX, seed=20),
    }[neighbour]()
    raise_together = (moved == sources(other)).sum(dim=1).double()
    assert abs(raise_together.mean().item() - 1) < 5 / math.sqrt(2000)
    joint = torch.bincount(moved[:, 0] * 49 + sources(other)[:, 0], minlength=49**2)
    # 2,401 cells of 0.8 expected each are too thin for the tail bound, but the statistic's variance is below twice
    # its freedom at any expectation.
    assert abs(chi_square(joint) - 2400) < 5 * math.sqrt(2 * 2400)


def test_shuffled_and_random_pixels_share_no_permutation() -> None:
    index = torch.zeros(1, dtype=torch.int64)
    images = numbered(1, 28, 28)
    assert not torch.equal(shuffled_pixels(images, index, seed=0), random_pixels(images, index, seed=0))


# Gaussian


def test_gaussian_has_the_given_moments() -> None:
    """Per channel; the standard error of a mean is std / sqrt(n), of a deviation std / sqrt(2 n)."""
    noise = gaussian(torch.zeros(200, 32, 32, 3), INDEX[:200], seed=30, mean=MEAN, std=STD).double().flatten(0, 2)
    n = len(noise)
    assert bool(((noise.mean(0) - MEAN).abs() < 5 * STD / math.sqrt(n)).all())
    assert bool(((noise.std(0) - STD).abs() < 5 * STD / math.sqrt(2 * n)).all())


def test_gaussian_is_normal() -> None:
    """Kolmogorov-Smirnov: an honest sample exceeds d with probability below 2 exp(-2 n d^2) (Massart 1990).

    The 2^20 radii and 2^12 angles of the contract move the distribution by less than 2^-12, which is added.
    """
    noise = standard(100, 28, 28, 3).flatten().double().sort().values
    n = len(noise)
    cumulative = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
    above = (torch.arange(1, n + 1) / n - cumulative).max().item()
    below = (cumulative - torch.arange(n) / n).max().item()
    assert max(above, below) < math.sqrt(math.log(2e6) / (2 * n)) + 2.0**-12
    assert noise.abs().max().item() < 5.4


def standard(batch: int, height: int, width: int, channels: int, seed: int = 31, first: int = 0) -> torch.Tensor:
    """Noise of mean 0 and deviation 1."""
    images = torch.zeros(batch, height, width, channels)
    zero, one = torch.zeros(channels), torch.ones(channels)
    return gaussian(images, first + torch.arange(batch), seed=seed, mean=zero, std=one)


def test_gaussian_is_neither_rounded_nor_clipped() -> None:
    noise = gaussian(torch.zeros(20, 32, 32, 3, dtype=torch.uint8), INDEX[:20], seed=32, mean=MEAN, std=STD)
    assert noise.dtype == torch.float32
    assert noise.min().item() < 0
    assert noise.max().item() > 255
    assert (noise != noise.round()).double().mean().item() > 0.99


def test_gaussian_images_channels_and_neighbours_are_independent() -> None:
    """The correlation of n independent pairs has standard deviation 1 / sqrt(n)."""
    noise = standard(200, 28, 28, 3).double()
    pairs = {
        "next image": (noise[:-1], noise[1:]),
        "next seed": (noise, standard(200, 28, 28, 3, seed=32).double()),
        "test image": (noise, standard(200, 28, 28, 3, first=rng.TEST_INDEX).double()),
        "next column": (noise[:, :, :-1], noise[:, :, 1:]),
        "next row": (noise[:, :-1], noise[:, 1:]),
        "next channel": (noise[..., :-1], noise[..., 1:]),
        "squares of the next channel": (noise[..., :-1] ** 2, noise[..., 1:] ** 2),
    }
    for name, (one, other) in pairs.items():
        correlation = torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1].item()
        assert abs(correlation) < 5 / math.sqrt(one.numel()), name


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (7, 7, 1), (63, 5, 3), (2, 2, 2), (3, 3, 1)], ids=lambda shape: "x".join(map(str, shape))
)
def test_gaussian_element_by_element(shape: tuple[int, int, int]) -> None:
    """Element e takes deviate e % 2 of word e // 2, in odd counts too, and channel c its own statistics."""
    channels = shape[2]
    elements = math.prod(shape)
    index = torch.tensor([3, rng.TEST_INDEX])
    noise = gaussian(torch.zeros(2, *shape), index, seed=33, mean=MEAN[:channels], std=STD[:channels])
    for k in range(2):
        for e in {0, elements // 2, elements - 1}:
            block, word = divmod(e // 2, 4)
            z = rng.normals(rng.draw(33, rng.Stream.GAUSSIAN, index[k], block)[word])[e % 2]
            expected = z * STD[e % channels] + MEAN[e % channels]
            # One fused or separate multiplication and addition, and a vector or a scalar log and cos: each right to
            # 2 units of 2^-23 of a value below 5.4 * 67 + 126 < 512.
            assert abs(noise[k].flatten()[e].item() - expected.item()) < 512 * 8 * 2.0**-23


# Refusals


def test_refusals() -> None:
    images, index = torch.zeros(1, 2, 2, 3), torch.tensor([0])
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        random_pixels(images, index, seed=-1)
    with pytest.raises(ValueError, match=r"seed .* is out of range"):
        shuffled_pixels(images, index, seed=2**63)
    with pytest.raises(ValueError, match="index -1 is out of range"):
        gaussian(images, index - 1, seed=0, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="index -1 is out of range"):
        random_labels(index, index - 1, num_classes=10, seed=0)
    with pytest.raises(ValueError, match=r"probability 1\.5 is out of range"):
        partially_corrupted_labels(index, index, num_classes=10, probability=1.5, seed=0)
    with pytest.raises(ValueError, match=r"probability nan is out of range"):
        corrupted_mask(index, probability=math.nan, seed=0)
    with pytest.raises(ValueError, match="num_classes 0 is out of range"):
        random_labels(index, index, num_classes=0, seed=0)
