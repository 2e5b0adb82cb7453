"""The verdicts: by arithmetic where that is exact, by seeded simulation where it is a matter of chance."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from rethink_fast.compare.statistics import (
    CONFIDENCE,
    MIN_FOR_RANKS,
    ROUNDS_SCHEDULE,
    Estimate,
    doubling_schedule,
    estimate,
    estimate_unpaired,
    log_ratios,
    median_interval,
    sequential_test,
    t_quantile,
    verdict,
    worst,
)


def chance_of_missing(n: int, rank: int) -> float:
    """That the median lies outside the rank-th least and greatest of n values."""
    return 2 * sum(math.comb(n, k) for k in range(rank)) / 2**n


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 14, 20, 28, 33, 1000, 1500])
def test_the_interval_takes_the_largest_rank_that_the_confidence_allows(n: int) -> None:
    low, high = median_interval(list(range(1, n + 1)))
    if n < 8:
        assert (low, high) == (-math.inf, math.inf)
        assert chance_of_missing(n, 1) > 1 - CONFIDENCE
        return
    assert chance_of_missing(n, int(low)) <= 1 - CONFIDENCE < chance_of_missing(n, int(low) + 1)
    assert high == n + 1 - low


def test_the_interval_covers_the_median_of_a_lopsided_distribution() -> None:
    """At 90 %, so that misses are many enough to count: 2,000 series of 33 exponential values."""
    rng = random.Random(0)
    misses = 0
    for _ in range(2000):
        low, high = median_interval([rng.expovariate(math.log(2)) for _ in range(33)], 0.9)
        misses += not low <= 1.0 <= high
    expected = chance_of_missing(33, 12)  # the largest rank that 90 % allow
    assert chance_of_missing(33, 13) > 0.1 >= expected
    assert abs(misses / 2000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 2000)


def test_few_samples_are_taken_as_normal() -> None:
    assert t_quantile(0.999, 1) == pytest.approx(318.309, rel=1e-5)  # tan(0.499 pi)
    assert t_quantile(0.975, 10) == pytest.approx(2.228139, rel=1e-6)
    assert t_quantile(0.999, 4) == pytest.approx(7.173182, rel=1e-6)
    found = estimate_unpaired([1.0, 1.1], [2.0, 2.1])
    assert found.ratio == pytest.approx(math.sqrt(2.0 * 2.1 / 1.1))
    spread = [math.log(1.1) / 2, math.log(2.1 / 2.0) / 2]
    half = t_quantile(0.996, 1) * math.hypot(*spread)
    assert found.high / found.low == pytest.approx(math.exp(2 * half))


def test_many_samples_are_compared_by_ranks_and_single_ones_have_no_interval() -> None:
    old, new = [float(n) for n in range(1, MIN_FOR_RANKS + 1)], [10.0 * n for n in range(1, MIN_FOR_RANKS + 1)]
    found = estimate_unpaired(old, new)
    assert (found.ratio, found.low, found.high) == (10.0, 10.0 / MIN_FOR_RANKS, 10.0 * MIN_FOR_RANKS)
    assert estimate_unpaired([2.0], [3.0]) == Estimate(1.5, 1.5, 1.5, 0)
    spread = math.log(1.2) / math.sqrt(2) * math.sqrt(1 + 1 / 2)
    assert estimate_unpaired([2.0], [3.0, 3.6]).high == pytest.approx(
        math.sqrt(3.0 * 3.6) / 2.0 * math.exp(spread * t_quantile(0.996, 1))
    )


def test_what_cannot_be_a_time_is_refused() -> None:
    for pair in ((0.0, 1.0), (1.0, -1.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="must be above 0"):
            log_ratios([pair])
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.031, 1.5, "slower"),
        (1.029, 1.5, "ambiguous"),
        (1.0, 1.03, "same"),
        (0.98, 1.029, "same"),
        (0.96, 0.97, "faster"),
        (0.96, 0.98, "ambiguous"),
        (0.5, 2.0, "ambiguous"),
        (0.0, math.inf, "ambiguous"),
    ],
)
def test_the_verdict_is_what_the_whole_interval_says(low: float, high: float, said: str) -> None:
    assert verdict(Estimate(1.0, low, high, 10), 0.03) == said


def test_an_ambiguous_verdict_asks_for_more_and_a_clear_one_does_not() -> None:
    asked: list[int] = []

    def clear(count: int) -> list[float]:
        asked.append(count)
        return [0.1] * count

    assert sequential_test(clear)[1] == "slower"
    assert asked == [32]
    asked.clear()
    wide = itertools.cycle([-0.5, 0.5])

    def hopeless(count: int) -> list[float]:
        asked.append(count)
        return [next(wide) for _ in range(count)]

    found, said = sequential_test(hopeless)
    assert said == "ambiguous"
    assert asked == [32, 32, 64, 128, 256, 512]
    assert found.values == doubling_schedule()[-1] == 1024
    asked.clear()
    assert sequential_test(hopeless, looks=ROUNDS_SCHEDULE)[0].values == ROUNDS_SCHEDULE[-1]
    assert asked == [8, 6, 6, 8]


def test_the_worst_verdict() -> None:
    assert worst([]) == worst(["same"]) == "same"
    assert worst(["same", "faster"]) == "faster"
    assert worst(["faster", "ambiguous", "same"]) == "ambiguous"
    assert worst(["ambiguous", "slower", "faster"]) == "slower"
