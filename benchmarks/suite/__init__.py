"""Every case that is benchmarked: a row in one of these modules. Adding a case is adding a row.

A case is made when it is wanted, checked against its reference before it is timed (timing.checked), and reports beside
its time a share of this machine's copy bandwidth or matrix rate, or a ratio to its baseline.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..timing import PreparedCase

Area = Literal["op", "loader", "step", "run"]


@dataclass(frozen=True)
class Case:
    """One row. make: builds it. min_speedup: times as fast as its baseline, or `pytest benchmarks` fails.

    compared: whether `rethink-fast compare` times it in two revisions. Such a case goes by public functions that older
    revisions have as well.
    """

    name: str
    area: Area
    make: Callable[[], PreparedCase]
    min_speedup: float | None = None
    compared: bool = False


COMPARED = ("ops", "runs")
"""The modules of the rows that revisions are compared by."""


def cases(*, paper_shapes: bool = False, photographs: Path | None = None) -> list[Case]:
    """Return the rows of every run, or in their place those that take minutes or need data. Names are distinct.

    paper_shapes: the ops at the paper's shapes. photographs: class folders of JPEGs, to be read in several ways.
    """
    from . import loader, memorize, ops, own, runs, training
    from . import photographs as reading

    asked = ops.paper_shapes() if paper_shapes else []
    asked += reading.cases(photographs) if photographs is not None else []
    return asked or [*ops.cases(), *loader.cases(), *training.cases(), *memorize.cases(), *own.cases(), *runs.cases()]


def compared_cases() -> list[Case]:
    """Those that two revisions are compared by, without modules that an older package cannot serve."""
    out = []
    for name in COMPARED:
        try:
            module = importlib.import_module(f".{name}", __name__)
        except ImportError:
            continue
        out += [case for case in module.cases() if case.compared]
    return out
