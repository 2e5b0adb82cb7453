"""The paper's tables and curves, as they stand in arXiv:1611.03530v2 (see paper/README.md)."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "paper"
STEPS_PER_EPOCH = 391
"""The spacing of the points of Figures 1a and 2b: 50,000 images in batches of 128."""


@cache
def tables() -> dict[str, Any]:
    """Return Tables 1 to 4, the ratios of Figure 1b and the errors of Figure 1c."""
    values: dict[str, Any] = json.loads((FOLDER / "reference_numbers.json").read_text())
    return values


@cache
def _curves() -> dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]:
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with (FOLDER / "figure_curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault((row["figure"], row["series"]), []).append((float(row["x"]), float(row["y"])))
    return {key: (tuple(x for x, _ in points), tuple(y for _, y in points)) for key, points in curves.items()}


def curve(figure: str, series: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return x and y of one curve of Figure 1 or 2, in the units of its axes."""
    return _curves()[figure, series]


def series(figure: str) -> list[str]:
    """Return the names of a figure's curves."""
    return [name for of, name in _curves() if of == figure]
