"""Two records: may they be compared, in what, and how do they compare."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from ..errors import UserError
from .metrics import MeasuredRecord, Metric
from .statistics import Estimate, Verdict, estimate_unpaired, verdict


@dataclass(frozen=True)
class ComparisonRow:
    """One figure of both sides, and how its cost compares.

    old, new: the medians, in the unit of the record (or in seconds).
    estimate: new over old, of the cost.
    """

    name: str
    old: float
    new: float
    estimate: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class RecordComparison:
    """Two records or revisions, figure by figure.

    notes: sentences for the foot of the table.
    skipped: (figure, why it is not compared).
    """

    old: str
    new: str
    threshold: float
    lines: tuple[ComparisonRow, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def differing(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return in words what two sets of conditions differ in; "" where they agree."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key} {_or_none(old.get(key))} and {_or_none(new.get(key))}" for key in keys)


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)


def compare_figure(old: Metric, new: Metric, threshold: float) -> ComparisonRow:
    """Return how one figure of two records compares."""
    estimate = estimate_unpaired(old.costs(), new.costs())
    return ComparisonRow(old.name, median(old.values), median(new.values), estimate, verdict(estimate, threshold))


def compare(old: MeasuredRecord, new: MeasuredRecord, threshold: float) -> RecordComparison:
    """Compare every figure that both records have and that may be compared. Raises UserError where none may be."""
    names = f"{old.path} and {new.path}"
    if old.kind != new.kind:
        raise UserError(f"{names} are of different kinds, {old.kind} and {new.kind}", "compare two of one kind")
    scale = differing(old.scale, new.scale)
    if scale:
        raise UserError(f"{names} are of different scale ({scale})", "compare two of the same")
    machine = differing(old.machine, new.machine)
    common = [name for name in old.figures if name in new.figures]
    usable = [name for name in common if not machine or old.figures[name].machine_independent]
    if not usable:
        why = f"differ in machine or versions ({machine}), and have" if common else "have"
        what = "no ratio in common that would travel" if common else "no figure in common"
        raise UserError(f"{names} {why} {what}", "measure both on one machine, or compare two git revisions")
    notes = [f"different machine or versions ({machine}): only ratios that travel are compared"] if machine else []
    lines = [compare_figure(old.figures[name], new.figures[name], threshold) for name in usable]
    if any(line.estimate.values == 0 for line in lines):
        notes.append("where no interval is given, each side has a single value: the threshold alone decides")
    missing = [(name, "in the old alone") for name in old.figures if name not in new.figures]
    missing += [(name, "in the new alone") for name in new.figures if name not in old.figures]
    return RecordComparison(str(old.path), str(new.path), threshold, tuple(lines), tuple(notes), tuple(missing))
