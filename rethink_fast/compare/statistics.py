"""Is the new one slower? Timings in; ratio, its interval, and a verdict out. Nothing here keeps time.

A pair is one timing of the old and one of the new, neighbours in time, in alternating order, so that what else the
machine does falls on both. What is looked at is the logarithm of their ratio: its median is not moved by the few pairs
that were interrupted. The interval of that median comes from the ranks alone, whatever the distribution is.

Its values must be independent. Within one process those are the pairs. Between processes they are not: the addresses
that a process happens to get make some kernels 10 % slower for all its life, so that there each round of two fresh
processes is one pair, the best of some samples of each, interleaved.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["same", "faster", "slower", "ambiguous"]
Pair = tuple[float, float]
"""Seconds of the old and of the new."""

THRESHOLD = 0.025
"""The least change that counts: a smaller slowdown is `same`. One of 5 % is detected with probability 0.9."""
CONFIDENCE = 0.992
"""Of one look: what eight values give, if the least and the greatest are the interval."""
FIRST_PAIRS, MOST_PAIRS = 32, 1024
"""Within one process: how many pairs at first, and at most. An ambiguous verdict doubles them."""
MIN_FOR_RANKS = 9
"""Samples a side from which two medians are compared by ranks: the least that the root of CONFIDENCE allows."""
ROUNDS_SCHEDULE = (8, 14, 20, 28)
"""Between processes: the rounds after which there may be a verdict. 8 are the least that CONFIDENCE allows."""


@dataclass(frozen=True)
class Estimate:
    """The new time over the old, above 1 where the new one is slower.

    low, high: the interval of that median.
    values: how many values it rests on; 0 where each side has a single one, so that there is no interval.
    """

    ratio: float
    low: float
    high: float
    values: int


def log_ratios(pairs: Sequence[Pair]) -> list[float]:
    """Return the logarithm of new over old of each pair. Raises ValueError for times that are not above 0."""
    for old, new in pairs:
        if not (old > 0 and new > 0):
            raise ValueError(f"times {old} and {new} are out of range: they must be above 0")
    return [math.log(new / old) for old, new in pairs]


def min_of_each(pairs: Sequence[Pair]) -> Pair:
    """Return the least time of each side: other work on the machine only ever adds."""
    return min(old for old, _ in pairs), min(new for _, new in pairs)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of the median by ranks: the k-th least and the k-th greatest value, k as large as allowed.

    Each value lies below the true median with probability 1/2, so the count of those is binomial, and the interval
    misses with probability 2 P(count < k). Infinite where there are too few values: below 8 at 0.992.
    """
    ordered, n = sorted(values), len(values)
    allowed, tail, rank = (1.0 - confidence) / 2.0, 0.0, 0
    for k in range(n // 2):
        tail += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0))
        if tail > allowed:
            break
        rank = k + 1
    return (ordered[rank - 1], ordered[n - rank]) if rank else (-math.inf, math.inf)


def estimate(logs: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the median ratio.

    logs: independent values of its logarithm. Raises ValueError for none.
    confidence: of the interval.
    """
    if not logs:
        raise ValueError("no values: give one or more")
    low, high = median_interval(logs, confidence)
    return Estimate(math.exp(statistics.median(logs)), math.exp(low), _exp(high), len(logs))


def estimate_unpaired(old: Sequence[float], new: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the ratio of new to old, from two sets of samples without a common order in time.

    With MIN_FOR_RANKS samples or more a side it is that of the medians, and its interval follows from theirs. With
    fewer, ranks say nothing: it is that of the geometric means, with logarithms taken as normal (Welch's interval, with
    the smaller side's degrees of freedom; a single value has the spread of the other side). One on each side has no
    interval.
    """
    fewest = min(len(old), len(new))
    if len(old) == len(new) == 1:
        return Estimate(new[0] / old[0], new[0] / old[0], new[0] / old[0], 0)
    if fewest >= MIN_FOR_RANKS:
        each = math.sqrt(confidence)
        (old_low, old_high), (new_low, new_high) = median_interval(old, each), median_interval(new, each)
        ratio = statistics.median(new) / statistics.median(old)
        return Estimate(ratio, new_low / old_high, new_high / old_low, fewest)
    logs = [[math.log(value) for value in side] for side in (old, new)]
    middle = statistics.fmean(logs[1]) - statistics.fmean(logs[0])
    variances = [statistics.variance(side if len(side) > 1 else logs[len(new) > len(old)]) for side in logs]
    error = math.sqrt(sum(variance / len(side) for variance, side in zip(variances, logs, strict=True)))
    half = error * t_quantile((1.0 + confidence) / 2.0, max(len(old), len(new)) - 1 if fewest == 1 else fewest - 1)
    return Estimate(math.exp(middle), math.exp(middle - half), _exp(middle + half), fewest)


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t above 1/2, by bisection of its distribution function.

    With t = sqrt(freedom) tan(angle) that is the integral of a power of the cosine, over which Simpson's rule goes.
    """
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def above_half(angle: float, steps: int = 200) -> float:
        weights = (1 if k in (0, steps) else 4 if k % 2 else 2 for k in range(steps + 1))
        values = (math.cos(angle * k / steps) ** (freedom - 1) for k in range(steps + 1))
        return scale * angle / steps / 3 * sum(w * v for w, v in zip(weights, values, strict=True))

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + above_half(middle) < probability else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def verdict(ratio: Estimate, threshold: float = THRESHOLD) -> Verdict:
    """Return slower or faster if the whole interval lies beyond the threshold, same if within, else ambiguous."""
    beyond = 1.0 + threshold
    if ratio.low > beyond:
        return "slower"
    if ratio.high < 1.0 / beyond:
        return "faster"
    return "same" if 1.0 / beyond <= ratio.low and ratio.high <= beyond else "ambiguous"


def sequential_test(
    more: Callable[[int], Sequence[float]],
    threshold: float = THRESHOLD,
    looks: Sequence[int] | None = None,
) -> tuple[Estimate, Verdict]:
    """Take values until there is a verdict, more while it is ambiguous. Return the estimate and the verdict.

    With the misses of all looks added up, a slowdown is reported wrongly in 2.4 % of cases at the worst, which is where
    the true ratio lies on the threshold itself; where nothing changed, practically never (tests/compare/test_guard.py).

    more: returns so many further logarithms of ratios.
    threshold: the least change that counts.
    looks: counts of values at which to look; by default FIRST_PAIRS, doubled up to MOST_PAIRS.
    """
    values: list[float] = []
    for look in looks or doubling_schedule():
        values += more(look - len(values))
        ratio = estimate(values)
        if verdict(ratio, threshold) != "ambiguous":
            break
    return ratio, verdict(ratio, threshold)


def doubling_schedule(first: int = FIRST_PAIRS, most: int = MOST_PAIRS) -> list[int]:
    """Return first, twice that, ... up to most."""
    return [first << k for k in range((most // first).bit_length())]


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on many figures: slower if any is, else ambiguous, else faster if any is, else same."""
    order: tuple[Verdict, ...] = ("slower", "ambiguous", "faster")
    return next((each for each in order if each in verdicts), "same")


def _exp(value: float) -> float:
    return math.exp(value) if value < math.inf else math.inf
