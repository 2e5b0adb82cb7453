"""Two runs beside each other, usually one with true labels and one with random ones: which measures went with the gap.

One pair can show that a measure does not follow the gap. That it does, it can show for this pair alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..bench.record_folder import differences
from ..files import to_json
from .measurement import Measurement
from .suite import Report

Moves = Literal["with the gap", "against the gap", "not at all"]
LABELS = ("corruption", "probability", "seed")
ERRORS = 2
"""Standard errors by which two values must differ."""


@dataclass(frozen=True)
class Counterpart:
    """A measure of the other run, next to ours.

    ratio: its value over ours; None where one is 0, or they differ in sign.
    moves: with the gap, against it or not at all; None for the gap, or where the gaps are alike.
    """

    other: Measurement
    ratio: float | None
    moves: Moves | None


@dataclass(frozen=True)
class ReportPair:
    """The reports of two runs.

    rows: by name, of the measures that both have.
    other_differences: in what else than their labels the runs differ.
    """

    ours: Report
    other: Report
    rows: dict[str, Counterpart]
    other_differences: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for measures.json: our report, with the other's values beside ours."""
        rows = {
            name: {**row.other.as_dict(), "ratio": row.ratio, "moves": row.moves} for name, row in self.rows.items()
        }
        against = {
            "run": str(self.other.run.folder),
            "corruption": self.other.run.record["corruption"],
            "other_differences": self.other_differences,
            "measures": rows,
        }
        return {**self.ours.as_dict(), "against": against}


def compare_reports(ours: Report, other: Report) -> ReportPair:
    """Set two reports beside each other. A correlate that went with the gap gets the verdict "tracks"."""
    direction = _sign(ours.measures["gap"], other.measures["gap"])
    rows, judged = {}, {}
    for name, each in ours.measures.items():
        judged[name] = each
        if name in other.measures:
            rows[name] = row = _beside(each, other.measures[name], direction)
            if each.verdict is None and row.moves == "with the gap":
                judged[name] = replace(each, verdict="tracks")
    words = differences(json.loads(to_json(ours.run.setup.run.as_dict())), other.run.setup.run)
    other_differences = [line for line in words if not line.startswith(LABELS)]
    return ReportPair(replace(ours, measures=judged), other, rows, other_differences)


def _beside(ours: Measurement, other: Measurement, direction: int) -> Counterpart:
    sign = _sign(ours, other)
    ratio = other.value / ours.value if ours.value * other.value > 0 else None
    if direction == 0 or ours.name == "gap":
        return Counterpart(other, ratio, None)
    expected = -direction if ours.falls else direction
    return Counterpart(
        other, ratio, "not at all" if sign == 0 else "with the gap" if sign == expected else "against the gap"
    )


def _sign(ours: Measurement, other: Measurement) -> int:
    """1 where the other's value is larger beyond the error of both, -1 where it is smaller, else 0."""
    error = ERRORS * math.hypot(ours.error or 0.0, other.error or 0.0)
    difference = other.value - ours.value
    return 0 if abs(difference) <= error else 1 if difference > 0 else -1
