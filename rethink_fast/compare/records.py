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
    """One figure of both sides, as it stands in the record (or in seconds), and how its cost compares."""

    name: str
    old: float
    new: float
    found: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class RecordComparison:
    """What `compare` found. notes: sentences that belong beside the table; left_out: (what, why) it is not in it."""

    old: str
    new: str
    threshold: float
    lines: tuple[ComparisonRow, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def differing(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What two sets of conditions differ in, in words; empty where they agree."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key} {_said(old.get(key))} and {_said(new.get(key))}" for key in keys)


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def line(old: Metric, new: Metric, threshold: float) -> ComparisonRow:
    """One figure of two records."""
    found = estimate_unpaired(old.costs(), new.costs())
    return ComparisonRow(old.name, median(old.values), median(new.values), found, verdict(found, threshold))


def compare(old: MeasuredRecord, new: MeasuredRecord, threshold: float) -> RecordComparison:
    """Every figure that both have and that may be compared. Raises UserError where none may be."""
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
    notes = []
    if machine:
        notes.append(f"different machine or versions ({machine}): only ratios that travel are compared")
    lines = [line(old.figures[name], new.figures[name], threshold) for name in usable]
    if any(one.found.values == 0 for one in lines):
        notes.append("where no interval is given, each side has a single value: the threshold alone decides")
    missing = [(name, "in the old alone") for name in old.figures if name not in new.figures]
    missing += [(name, "in the new alone") for name in new.figures if name not in old.figures]
    return RecordComparison(str(old.path), str(new.path), threshold, tuple(lines), tuple(notes), tuple(missing))
