"""What every measure returns, and the probability that several of them share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from typing import Any, Literal, ParamSpec

import torch

Verdict = Literal["vacuous", "says something", "tracks"]
DELTA = 0.05
"""Bounds hold with probability 1 - DELTA, unless a measure says otherwise."""
STEPS = 200
"""Halvings of an interval: more than float64 can tell apart."""

P = ParamSpec("P")


class Unreadable(ValueError):
    """The measure does not apply to this network or this data. The words complete "not measured: ..."."""


@dataclass(frozen=True)
class Measurement:
    """One measure of one network.

    name: of the measure.
    value: the number.
    meaning: what it is.
    bounds: which error is bounded, or "correlate" where none is.
    bound: the upper bound on the error that follows from the value; None where none does.
    falls: whether a network that generalises worse is expected to have a smaller value.
    verdict: "vacuous", a bound no better than guessing; "says something", a bound below that; "tracks", an estimate or
        correlate that went with the measured error or gap; None where one run alone cannot tell.
    error: standard error of the value, or the half-width at `confidence`; None where the value is exact for its sample.
    seconds: what it took.
    note: what was omitted, assumed or subsampled.
    details: further numbers by name.
    """

    name: str
    value: float
    meaning: str
    bounds: str
    reference: str
    bound: float | None = None
    falls: bool = False
    verdict: Verdict | None = None
    error: float | None = None
    confidence: float | None = None
    seconds: float = 0.0
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for measures.json."""
        return asdict(self)


def timed(measure: Callable[P, Measurement]) -> Callable[P, Measurement]:
    """Fill in the seconds of what a measure returns."""

    @wraps(measure)
    def run(*args: P.args, **kwargs: P.kwargs) -> Measurement:
        start = time.perf_counter()
        found = measure(*args, **kwargs)
        return replace(found, seconds=time.perf_counter() - start)

    return run


def judged(bound: float, classes: int) -> Verdict:
    """Return whether an upper bound on the error is below that of guessing among so many classes."""
    return "says something" if bound < 1 - 1 / classes else "vacuous"


def hoeffding(n: int, delta: float = DELTA) -> float:
    """Return 3 sqrt(ln(2 / delta) / (2n)), the deviation term of a bound by empirical Rademacher complexity."""
    return 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def _largest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the end of [low, end], on which a condition holds that holds nowhere above."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def kl(q: float, p: float) -> float:
    """Return the relative entropy of two coins, q ln(q / p) + (1 - q) ln((1 - q) / (1 - p))."""
    terms = ((q, p), (1 - q, 1 - p))
    return sum(0.0 if a == 0 else math.inf if b == 0 else a * math.log(a / b) for a, b in terms)


def kl_inverse(q: float, c: float) -> float:
    """Return the largest p with kl(q, p) <= c.

    q: in [0, 1].
    c: 0 or more.
    """
    return _largest(lambda p: kl(q, p) <= c, q, 1.0)


def binomial_bound(errors: int, n: int, delta: float = DELTA) -> float:
    """Return the largest p for which so few errors among n have a probability of at least delta: a test set bound.

    Source: Langford, "Tutorial on practical prediction theory for classification", JMLR 6 (2005).
    """
    if errors >= n:
        return 1.0
    k = torch.arange(errors + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)

    def likely(p: float) -> bool:
        tail = torch.logsumexp(choose + k * math.log(p) + (n - k) * math.log1p(-p), 0)
        return tail.item() >= math.log(delta)

    return _largest(likely, errors / n if errors else 1e-300, 1.0 - 1e-16)
