"""The paper's tables and figures, one file each: the runs, the paper's values, how they are compared.

spec.py   what an experiment is made of        scales.py    how large the runs are, and what the paper leaves unsaid
verdicts.py     results to rows, curves, findings    paper/      the paper's own numbers
"""

from __future__ import annotations

from collections.abc import Callable

from . import figure1, figure2, grid, memorization, regularisers, stability, table1, table2, table3, table4, theorem1
from .scales import SCALES, Scale, scale_of
from .spec import Experiment

EXPERIMENTS: dict[str, Callable[[Scale], Experiment]] = {
    "theorem1": theorem1.declare,
    "table3": table3.declare,
    "table1": table1.declare,
    "figure1": figure1.declare,
    "figure2": figure2.declare,
    "table4": table4.declare,
    "regularisers": regularisers.declare,
    "table2": table2.declare,
    "measures": grid.declare,
    "stability": stability.declare,
    "memorization": memorization.declare,
}
"""Every experiment in the order in which `all` runs them."""

__all__ = ["EXPERIMENTS", "SCALES", "Experiment", "Scale", "scale_of"]
