"""`pytest benchmarks`: every row of the suite, checked, timed, and held against its baseline by turns.

A row fails whose result is not the reference's (it is not timed), or that is surely slower than its `at_least` allows.
All in processor time, on one thread (--benchmark-timer=time.process_time, as `make perf` says): the clock of a shared
machine also counts what others were given. With --benchmark-json FILE it leaves a record that `rethink-fast compare`
reads.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from benchmarks.suite import Case, cases
from benchmarks.timing import by_turns, checked, times_for
from rethink_fast.compare.statistics import decide, log_ratios
from rethink_fast.train.throughput import copy_bandwidth, matrix_rate

LOOKS = (8, 16, 32, 64)
ROUNDS, SLOW_ROUNDS = 20, 3
"""Samples of a case; of one that takes longer than a sample should, fewer."""
CPU = torch.device("cpu")


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case, benchmark: Any) -> None:
    made = checked(case.name, case.make())
    times = times_for(made.call)
    benchmark.pedantic(made.call, rounds=SLOW_ROUNDS if times == 1 else ROUNDS, iterations=times)
    seconds, extra = benchmark.stats.stats.median, benchmark.extra_info
    extra["area"] = case.area
    # what this machine can do at most, on one thread, is measured right after: a busy one can do less
    if made.bytes:
        extra["share_of_copy"] = [made.bytes / seconds / copy_bandwidth(CPU, time.process_time)]
    if made.flops:
        extra["share_of_matrix"] = [made.flops / seconds / matrix_rate(CPU, torch.float32, time.process_time)]
    if made.baseline is None:
        return
    more = by_turns(made.call, made.baseline, time.process_time)
    ratios: list[float] = []
    floor = math.log(case.at_least or 1.0)

    def above_floor(count: int) -> list[float]:
        new = log_ratios(more(count))
        ratios.extend(math.exp(value) for value in new)
        return [value - floor for value in new]

    found, said = decide(above_floor, looks=LOOKS if case.at_least else LOOKS[:1])
    extra |= {"baseline": made.baseline_name, "times_as_fast": ratios, "at_least": case.at_least}
    if case.at_least:
        here = f"{found.ratio * case.at_least:.2f} times as fast as {made.baseline_name}"
        assert said != "faster", f"{case.name}: {here}, at least {case.at_least} is asked for"
