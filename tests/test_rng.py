"""The random-number contract, against published vectors, a second implementation, and its own golden values."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_fast import rng
from rethink_fast.corruptions import partially_corrupted_labels
from tests import contract_reference as contract

NEW_VERSION = "CONTRACT.md, version 1, fixes these values: a change needs a new CONTRACT_VERSION"
SEEDS = [0, 1, 2**31, 2**63 - 1]
INDICES = [0, 1, 2**32 - 1, 2**32, 2**40 + 7, 2**62, 2**63 - 1]
SIZES = [1, 2, 3, 7, 49, 63, 784, 1023, 1024, 89401]


Counter = tuple[int, int, int, int]


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_known_answers(key: tuple[int, int], counter: Counter, words: Counter) -> None:
    """The vectors that Random123 publishes (kat_vectors, philox4x32 with 10 rounds)."""
    a, b, c, d = map(torch.tensor, counter)
    assert tuple(rng.philox(key, (a, b, c, d)).tolist()) == words
    assert contract.philox(key, counter) == words


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stream", rng.Stream)
def test_draws_are_the_definition(seed: int, stream: rng.Stream) -> None:
    index = torch.tensor(INDICES)
    blocks = [0, 2, 2**32, 2**63 - 1]
    words = rng.draw(seed, stream, index.unsqueeze(-1), torch.tensor(blocks)).tolist()
    assert words == [[list(contract.draw(seed, stream, i, block)) for block in blocks] for i in INDICES]
    assert rng.draw(seed, stream, index, 3).tolist() == [list(contract.draw(seed, stream, i, 3)) for i in INDICES]
    keys = rng.permutation_words(seed, stream, index).tolist()
    assert keys == [contract.twelve_words(seed, stream, i) for i in INDICES]


@pytest.mark.parametrize("n", SIZES)
def test_permutations_are_the_definition(n: int) -> None:
    """Every seed with every index; all places of a small n, a spread of 64 places of a large one."""
    places = range(n) if n <= 64 else range(0, n, -(-n // 64))
    x = torch.tensor(list(places))
    for seed in SEEDS:
        words = rng.permutation_words(seed, rng.Stream.RANDOM_PIXELS, torch.tensor(INDICES))
        sent = rng.permute(words.unsqueeze(1), n, x.expand(len(INDICES), -1)).tolist()
        for index, row in zip(INDICES, sent, strict=True):
            keys = contract.twelve_words(seed, rng.Stream.RANDOM_PIXELS, index)
            assert row == [contract.permute(keys, n, place) for place in places]


@pytest.mark.parametrize("n", SIZES)
def test_permutations_are_permutations(n: int) -> None:
    index = torch.tensor(INDICES)
    words = rng.permutation_words(11, rng.Stream.RANDOM_PIXELS, index)
    sent = rng.permute(words.unsqueeze(1), n, torch.arange(n).expand(len(INDICES), n))
    assert torch.equal(sent.sort(dim=1).values, torch.arange(n).expand(len(INDICES), n))


def test_permutation_at_the_largest_size() -> None:
    words = rng.permutation_words(5, rng.Stream.ORDER, torch.tensor(3))
    places = [0, 1, 2**30, 2**31 - 1]
    keys = contract.twelve_words(5, rng.Stream.ORDER, 3)
    for n in (2**30 + 1, 2**31):
        inside = [place for place in places if place < n]
        expected = [contract.permute(keys, n, place) for place in inside]
        assert rng.permute(words, n, torch.tensor(inside)).tolist() == expected


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 2**63 - 1),
    n=st.integers(1, 3000),
    cuts=st.lists(st.integers(0, 3000), min_size=2, max_size=2),
)
def test_order_covers_every_sample_once_and_in_slices(seed: int, epoch: int, n: int, cuts: list[int]) -> None:
    whole = rng.order(seed, epoch, n)
    assert torch.equal(whole.sort().values, torch.arange(n))
    start, stop = sorted(min(cut, n) for cut in cuts)
    assert torch.equal(rng.order(seed, epoch, n, start, stop), whole[start:stop])
    assert torch.equal(rng.order(seed, epoch, n, start), whole[start:])


def test_orders_differ_by_epoch_and_seed() -> None:
    orders = [rng.order(seed, epoch, 1000) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


@settings(derandomize=True, max_examples=50, deadline=None)
@given(word=st.integers(0, 2**32 - 1), n=st.integers(1, 2**31))
def test_mulhi_is_the_upper_half_of_the_product(word: int, n: int) -> None:
    assert rng.mulhi(torch.tensor(word), n).item() == (word * n) // 2**32


def test_threshold_rounds_half_to_even() -> None:
    half = 2.0**-33
    steps = [rng.threshold(p) for p in (0.0, half, 3 * half, 0.5, 1.0)]
    assert steps == [0, 0, 2, 2**31, 2**32]


def test_normals_are_box_muller() -> None:
    """Against float64, within the rounding of float32.

    With eps = 2^-23: u is exact; theta is below 6.29 and has two roundings, so it is off by at most 6.29 eps. log,
    sqrt, cos (each right to 2 eps) and three products add at most 8 eps, relative. The radius is at most 5.4.
    """
    words = [0, 0xFFFFFFFF, 0xFFF, 0xFFFFF000, *(contract.draw(9, 4, i, 0)[0] for i in range(2000))]
    deviates = rng.normals(torch.tensor(words)).tolist()
    bound = 5.4 * (6.29 + 8) * 2.0**-23
    for word, (z0, z1) in zip(words, deviates, strict=True):
        radius = math.sqrt(-2 * math.log(((word >> 12) + 0.5) / 2**20))
        theta = 2 * math.pi * ((word & 0xFFF) + 0.5) / 2**12
        assert abs(z0 - radius * math.cos(theta)) < bound
        assert abs(z1 - radius * math.sin(theta)) < bound
    assert max(abs(z) for pair in deviates for z in pair) < 5.4


@pytest.mark.parametrize("seed", SEEDS)
def test_subsets_are_the_definition(seed: int) -> None:
    """In every batch and order, for any number of models, and nested as the ratio grows."""
    models = [0, 1, 63, 64, 1999, 2**40]
    for ratio in (0.0, 0.1, 0.7, 0.999, 1.0):
        found = rng.included(seed, torch.tensor(models)[:, None], torch.tensor(INDICES), ratio)
        assert found.tolist() == [[contract.included(seed, m, i, ratio) for i in INDICES] for m in models]
    index = torch.arange(1000)
    whole = rng.included(seed, torch.arange(8)[:, None], index, 0.7)
    assert torch.equal(rng.included(seed, torch.arange(3)[:, None], index, 0.7), whole[:3])
    assert torch.equal(rng.included(seed, 5, index.flip(0), 0.7), whole[5].flip(0))
    assert torch.equal(torch.cat([rng.included(seed, 7, part, 0.7) for part in index.split(137)]), whole[7])
    assert bool((whole | ~rng.included(seed, torch.arange(8)[:, None], index, 0.6)).all())
    assert [rng.weight_seed(seed, model) for model in models] == [contract.weight_seed(seed, m) for m in models]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_subsets_are_those_of_every_device() -> None:
    index, models = torch.arange(100_000), torch.arange(8)[:, None]
    there = rng.included(3, models.cuda(), index.cuda(), 0.7)
    assert torch.equal(there.cpu(), rng.included(3, models, index, 0.7))


def test_subsets_have_the_ratio_and_are_independent() -> None:
    """Each of 20 models has 0.7 of 50,000 samples within 4 sd (0.0082), each pair shares 0.49 within 4 sd (0.0089)."""
    found = rng.included(7, torch.arange(20)[:, None], torch.arange(50_000), 0.7).double()
    assert (found.mean(1) - 0.7).abs().max() < 4 * math.sqrt(0.7 * 0.3 / 50_000)
    shared = found @ found.T / 50_000
    shared.fill_diagonal_(0.49)
    assert (shared - 0.49).abs().max() < 4 * math.sqrt(0.49 * 0.51 / 50_000)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed {seed} is out of range"):
        rng.draw(seed, rng.Stream.LABELS, torch.tensor([0]), 0)


def test_index_out_of_range() -> None:
    with pytest.raises(ValueError, match="index -1 is out of range"):
        rng.draw(0, rng.Stream.LABELS, torch.tensor([3, -1]), 0)
    with pytest.raises(ValueError, match="index must hold integers"):
        rng.draw(0, rng.Stream.LABELS, torch.tensor([0.5]), 0)


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan, math.inf])
def test_probability_out_of_range(probability: float) -> None:
    with pytest.raises(ValueError, match=r"probability .* is out of range"):
        rng.threshold(probability)


@pytest.mark.parametrize("n", [0, -1, 2**31 + 1])
def test_permutation_out_of_range(n: int) -> None:
    words = rng.permutation_words(0, rng.Stream.ORDER, torch.tensor(0))
    with pytest.raises(ValueError, match=f"a permutation of {n} places"):
        rng.permute(words, n, torch.tensor([0]))


def test_golden_values() -> None:
    index = torch.tensor([0, 1, 2, 3, 49_999, rng.TEST_INDEX])
    words = rng.permutation_words(2017, rng.Stream.RANDOM_PIXELS, torch.tensor(7))
    labels = partially_corrupted_labels(torch.full((6,), -1), index, num_classes=10, probability=0.5, seed=2017)
    every = rng.permute(words, 89401, torch.arange(89401)).numpy().astype("<i8")
    made = {
        "version": rng.CONTRACT_VERSION,
        "streams": {stream.name: int(stream) for stream in rng.Stream},
        "key": [f"{word:08x}" for word in rng.key(2017, rng.Stream.LABELS)],
        "labels": labels.tolist(),
        "permutation": rng.permute(words, 10, torch.arange(10)).tolist(),
        "permutation of 299 x 299": hashlib.sha256(every.tobytes()).hexdigest()[:16],
        "order": rng.order(2017, 3, 50_000, 0, 6).tolist(),
        "subsets": [rng.included(2017, model, index, 0.7).int().tolist() for model in (0, 1, 1999)],
        "weight seed": rng.weight_seed(2017, 1),
        "draw of the normals": rng.draw(2017, rng.Stream.GAUSSIAN, index[-1:], 0).flatten().tolist(),
    }
    assert made == GOLDEN, NEW_VERSION
    normals = rng.normals(torch.tensor(made["draw of the normals"])).flatten().tolist()
    # Half a unit of the fourth decimal, and the rounding that test_normals_are_box_muller derives.
    assert normals == pytest.approx(GOLDEN_NORMALS, abs=0.5e-4 + 1e-5, rel=0), NEW_VERSION


GOLDEN = {
    "version": 1,
    "streams": {
        "LABELS": 1,
        "SHUFFLED_PIXELS": 2,
        "RANDOM_PIXELS": 3,
        "GAUSSIAN": 4,
        "ORDER": 5,
        "AUGMENT": 6,
        "SYNTHETIC": 7,
        "RESIZED_CROP": 8,
        "COLOUR": 9,
        "PROJECTION": 10,
        "PATCHES": 11,
        "SUBSET": 12,
    },
    "key": ["2db1491a", "8363b8a1"],
    "labels": [-1, 7, -1, 3, -1, 5],
    "permutation": [3, 1, 7, 2, 9, 8, 6, 5, 4, 0],
    "permutation of 299 x 299": "5fd7bb92aabeaf92",
    "order": [39908, 37959, 25030, 27028, 11780, 43042],
    "subsets": [[0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 1], [1, 0, 1, 1, 1, 1]],
    "weight seed": 8737967741461740043,
    "draw of the normals": [912317451, 128152811, 2456876701, 3800326569],
}
GOLDEN_NORMALS = [0.0311, -1.76, -0.9367, 2.4792, -0.9045, 0.5468, 0.393, 0.3004]
