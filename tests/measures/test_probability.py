"""The inversions that bounds rest on, against closed forms and exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from rethink_fast.measures.held_out import held_out
from rethink_fast.measures.measurement import binomial_bound, kl, kl_inverse


@pytest.mark.parametrize("c", [0.0, 1e-4, 0.1, 1.0, 5.0])
def test_kl_inverse_at_0_is_its_closed_form(c: float) -> None:
    assert kl_inverse(0.0, c) == pytest.approx(1 - math.exp(-c), abs=1e-14)


@pytest.mark.parametrize("q", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("c", [1e-3, 0.2, 3.0])
def test_kl_inverse_inverts(q: float, c: float) -> None:
    p = kl_inverse(q, c)
    assert p > q
    assert kl(q, p) == pytest.approx(c, rel=1e-6) if 1 - p > 1e-9 else kl(q, p) <= c


def tail(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize(("errors", "n"), [(0, 1), (0, 50), (1, 20), (5, 100), (19, 20)])
def test_the_binomial_bound_is_where_the_exact_tail_is_delta(errors: int, n: int) -> None:
    p = binomial_bound(errors, n, 0.05)
    assert float(tail(errors, n, Fraction(p))) == pytest.approx(0.05, rel=1e-9)


def test_the_binomial_bound_at_its_ends() -> None:
    assert binomial_bound(0, 1000, 0.05) == pytest.approx(1 - 0.05 ** (1 / 1000), rel=1e-9)
    assert binomial_bound(7, 7) == 1.0
    assert 0.1 < binomial_bound(1000, 10_000) < 0.106


def test_the_gap_comes_with_its_bound() -> None:
    found = held_out(1.0, 0.97, 1000, classes=10)
    assert found.value == pytest.approx(0.03)
    assert found.bound == binomial_bound(30, 1000)
    assert found.error == pytest.approx(math.sqrt(0.97 * 0.03 / 1000))
    assert found.verdict == "says something"
    assert held_out(1.0, 0.1, 1000, classes=10).verdict == "vacuous"
