"""Every case that is benchmarked: a row in ops.py, loader.py or training.py. Adding a case is adding a row.

A case is made when it is wanted, checked against its reference before it is timed (timing.checked), and reports beside
its time a share of this machine's copy bandwidth or matrix rate, or a ratio to its baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..timing import Made

Area = Literal["op", "loader", "step", "run"]


@dataclass(frozen=True)
class Case:
    """One row. make: builds it. at_least: times as fast as its baseline, or `pytest benchmarks` fails.

    compared: whether `rethink-fast compare` times it in two revisions. Such a case goes by public functions that older
    revisions have as well.
    """

    name: str
    area: Area
    make: Callable[[], Made]
    at_least: float | None = None
    compared: bool = False


def cases() -> list[Case]:
    """All of them. Names are distinct."""
    from . import loader, ops, training

    return [*ops.cases(), *loader.cases(), *training.cases()]


def compared_cases() -> list[Case]:
    """Those that two revisions are compared by."""
    return [case for case in cases() if case.compared]
