"""How well a measure predicts the gap over many runs: Kendall's tau, granulated tau, sign error, residual correlation.

    tau   = sum of sgn(m1 - m2) sgn(g1 - g2) / sqrt(pairs with m1 != m2 * pairs with g1 != g2), over pairs of runs;
            0 where all are tied (Kendall's tau-b)
    psi_i = mean, over all settings of the other hyper-parameters, of tau among the runs where only the i-th varies
    Psi   = mean of the psi_i
    sign error of an environment = mean over its pairs of runs of (1 - sgn(m1 - m2) sgn(g1 - g2)) / 2

An environment is a pair of configurations that differ in one hyper-parameter. Runs of one configuration are repeats:
tau, psi and the residual correlation take their mean, the sign error every pair of repeats.
Source: Jiang, Neyshabur, Mobahi, Krishnan and Bengio, "Fantastic generalization measures and where to find them", ICLR
2020, for tau and psi; Dziugaite et al., "In search of robust measures of generalization", NeurIPS 2020, for the sign
error, its weights and LEAST_SIZE; compared with their code (nitarshan/robust-generalization-measures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

Values = NDArray[np.float64]
Codes = NDArray[np.int64]

ROWS = 1024
"""Of a sign matrix at once: 10,000 runs take 80 MB."""
MAX_ENVIRONMENTS = 10**6
"""A minute for each measure, and 200 MB."""
LEAST_SIZE = 12
"""Effective number of pairs of repeats, (sum w)^2 / sum w^2, that an environment needs, in a table that has so many."""
ROUNDING = 1e-9
"""Of a sum of weights in float64."""
NOTHING_LEFT = 1e-9
"""Share of the variance below which a residual is rounding: float64 has 2e-16, times the condition of the fit."""


@dataclass(frozen=True)
class Environment:
    """A pair of configurations that differ in one hyper-parameter.

    axis: which one, a column of the codes.
    one, other: rows of the table of configurations.
    """

    axis: int
    one: int
    other: int


@dataclass(frozen=True)
class Evaluation:
    """How well one measure predicts the gap. None where the table cannot say.

    tau: over all pairs of configurations.
    psi: of each hyper-parameter, in the order of the codes.
    granulated: the mean of psi.
    sign_error, percentile_90, worst: mean, 90th percentile and maximum over the environments.
    worst_environment: where the sign error is largest, above 0; of several, where the gaps differ most.
    at_worst: how many environments have this sign error.
    environments: how many count: those in which the gaps differ, in enough pairs of repeats.
    beyond: correlation with the gap that the hyper-parameters do not account for, see residual_correlation.
    """

    tau: float
    psi: tuple[float | None, ...]
    granulated: float | None
    sign_error: float | None
    percentile_90: float | None
    worst: float | None
    worst_environment: Environment | None
    at_worst: int
    environments: int
    beyond: float | None


def kendall(x: Values, y: Values) -> float:
    """Return Kendall's tau-b over all pairs; 0 where all pairs are tied in one of them.

    x, y: float64 [n].
    """
    agree = x_differs = y_differs = 0.0
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        dx, dy = np.sign(x[rows, None] - x), np.sign(y[rows, None] - y)
        agree += float((dx * dy).sum())
        x_differs += float(np.abs(dx).sum())
        y_differs += float(np.abs(dy).sum())
    return agree / math.sqrt(x_differs * y_differs) if x_differs and y_differs else 0.0


def groups(codes: Codes) -> list[NDArray[np.intp]]:
    """Return the rows of each distinct row of the codes, in the order of first appearance.

    codes: int64 [n, k].
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for row, key in enumerate(map(tuple, codes.tolist())):
        found.setdefault(key, []).append(row)
    return [np.array(rows) for rows in found.values()]


def psi(x: Values, y: Values, codes: Codes, axis: int) -> float | None:
    """Return the mean of tau among configurations that differ in one hyper-parameter only; None where none do.

    x, y: float64 [n].
    codes: int64 [n, k], rows distinct: the hyper-parameters, each value as a number.
    axis: the column that varies.
    """
    settings = [rows for rows in groups(np.delete(codes, axis, 1)) if len(rows) > 1]
    return float(np.mean([kendall(x[rows], y[rows]) for rows in settings])) if settings else None


def environments(codes: Codes) -> list[Environment]:
    """Return every pair of rows that differ in one column.

    codes: int64 [n, k], rows distinct.
    Raises UserError where they are more than MAX_ENVIRONMENTS.
    """
    alike = [len(rows) for axis in range(codes.shape[1]) for rows in groups(np.delete(codes, axis, 1))]
    pairs = sum(rows * (rows - 1) // 2 for rows in alike)
    if pairs > MAX_ENVIRONMENTS:
        raise UserError(
            f"{pairs:,} pairs of configurations differ in one hyper-parameter, and at most {MAX_ENVIRONMENTS:,} can be "
            f"compared",
            "name by --hyperparameters those with few values",
        )
    return [
        Environment(axis, int(one), int(other))
        for axis in range(codes.shape[1])
        for rows in groups(np.delete(codes, axis, 1))
        for place, one in enumerate(rows)
        for other in rows[place + 1 :]
    ]


def noise_weight(difference: Values, n_test: int) -> Values:
    """Return the weight of a pair of gaps by the noise of the test set: (w - 1/2)_+ of Dziugaite et al.

    w = max(0, 1 - 2 exp(-2 n (d / 2)^2))^2, by Hoeffding's inequality for each of the two gaps.

    difference: float64 [...], of gaps.
    n_test: test images behind each gap.
    """
    w = np.maximum(0.0, 1 - 2 * np.exp(-2 * n_test * (difference / 2) ** 2)) ** 2
    return np.maximum(0.0, w - 0.5)


def sign_error(
    x: tuple[Values, Values], y: tuple[Values, Values], n_test: int | None = None, *, least: float = 0.0
) -> float | None:
    """Return the sign error of an environment; None where no pair of its runs has gaps that differ.

    x, y: measure and gap of the runs of the two configurations, float64 [a] and [b].
    n_test: test images behind a gap; pairs are then weighted by noise_weight, else by 1.
    least: the effective number of pairs, see LEAST_SIZE, below which it is None too.
    """
    dx, dy = (values[0][:, None] - values[1] for values in (x, y))
    weight = (dy != 0).astype(np.float64) if n_test is None else noise_weight(dy, n_test)
    size = weight.sum() ** 2 / (weight**2).sum() if weight.any() else 0.0
    if not size or size < least * (1 - ROUNDING):
        return None
    return float(np.average((1 - np.sign(dx) * np.sign(dy)) / 2, weights=weight))


def ranks(x: Values) -> Values:
    """Return ranks from 0, ties at their mean rank: float64 [n]."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Values = (last - (counts + 1) / 2)[place]
    return mean


def freedom(codes: Codes) -> int:
    """Return the degrees of freedom that an additive model of the hyper-parameters leaves."""
    return len(codes) - int(np.linalg.matrix_rank(_indicators(codes)))


def residual_correlation(x: Values, y: Values, codes: Codes) -> float | None:
    """Return the correlation of two rankings less what the hyper-parameters predict of each, additively.

    Each ranking is fitted by least squares on an indicator of every value of every hyper-parameter; the Pearson
    correlation is that of the residuals. None where nothing is left of one: it is a sum of functions of the
    hyper-parameters, or there are as many of those as runs.

    x, y: float64 [n].
    codes: int64 [n, k].
    """
    design = _indicators(codes)
    left = []
    for values in (ranks(x), ranks(y)):
        centred = values - values.mean()
        residual = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
        if residual @ residual <= NOTHING_LEFT * max(1.0, float(centred @ centred)):
            return None
        left.append(residual)
    a, b = left
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _indicators(codes: Codes) -> Values:
    """A column of ones, and one for every value of every hyper-parameter: float64 [n, 1 + values]."""
    columns = [np.ones((len(codes), 1))]
    columns += [(column[:, None] == np.unique(column)).astype(np.float64) for column in codes.T]
    return np.concatenate(columns, 1)


def evaluate(
    measures: Mapping[str, Values], gap: Values, codes: Codes, *, n_test: int | None = None
) -> dict[str, Evaluation]:
    """Return how well each measure predicts the gap.

    measures: float64 [n] by name, of each run; larger is expected to go with a larger gap.
    gap: float64 [n].
    codes: int64 [n, k], the hyper-parameters, each value as a number.
    n_test: test images behind each gap, to weight pairs of runs by the noise of their gaps, and to omit environments of
        fewer pairs than LEAST_SIZE where the table has so many; None: all count alike.
    """
    members = groups(codes)
    configurations = codes[[rows[0] for rows in members]]
    pairs = environments(configurations)
    gaps = np.array([gap[rows].mean() for rows in members])
    most = max((len(members[pair.one]) * len(members[pair.other]) for pair in pairs), default=0)
    least = LEAST_SIZE if n_test is not None and most >= LEAST_SIZE else 0
    found = {}
    for name, values in measures.items():
        means = np.array([values[rows].mean() for rows in members])
        axes = tuple(psi(means, gaps, configurations, axis) for axis in range(codes.shape[1]))
        known = [value for value in axes if value is not None]
        errors = {}
        for pair in pairs:
            one, other = members[pair.one], members[pair.other]
            error = sign_error((values[one], values[other]), (gap[one], gap[other]), n_test, least=least)
            if error is not None:
                errors[pair] = error
        every = np.array(list(errors.values()))
        worst = float(every.max()) if errors else None
        bad = [pair for pair, error in errors.items() if error and error == worst]
        found[name] = Evaluation(
            tau=kendall(means, gaps),
            psi=axes,
            granulated=float(np.mean(known)) if known else None,
            sign_error=float(every.mean()) if errors else None,
            # Each pair counts in both directions, as published.
            percentile_90=float(np.quantile(every.repeat(2), 0.9)) if errors else None,
            worst=worst,
            worst_environment=max(bad, key=lambda pair: abs(gaps[pair.one] - gaps[pair.other])) if bad else None,
            at_worst=len(bad),
            environments=len(errors),
            beyond=residual_correlation(means, gaps, configurations),
        )
    return found
