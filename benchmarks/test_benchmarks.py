"""`pytest benchmarks`: the rows of the suite, checked, timed, and compared with their baselines, interleaved.

A row fails whose result is not the reference's (it is not timed), or that is surely slower than its `min_speedup`
allows.
All in processor time, on one thread (--benchmark-timer=time.process_time, as `make perf` says): the clock of a shared
machine also counts what others were given. Rows whose work is that of worker processes are compared by the clock. With
--benchmark-json FILE it leaves a record that `rethink-fast compare` reads.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from benchmarks.suite import Case, cases
from benchmarks.timing import calls_per_sample, checked, interleaved
from rethink_fast.compare.statistics import log_ratios, sequential_test
from rethink_fast.train.throughput import copy_bandwidth, matrix_rate

LOOKS = (8, 16, 32, 64)
ROUNDS, SLOW_ROUNDS = 20, 3
"""Samples of a case; of one that takes longer than a sample should, fewer."""
CPU = torch.device("cpu")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    rows = cases(paper_shapes=option("paper_shapes"), photographs=option("photographs"))
    metafunc.parametrize("case", rows, ids=lambda case: case.name)


def test_case(case: Case, benchmark: Any) -> None:
    made = checked(case.name, case.make())
    times = calls_per_sample(made.call)
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
    clock = time.perf_counter if made.wall else time.process_time
    more = interleaved(made.call, made.baseline, clock)
    ratios: list[float] = []
    floor = math.log(case.min_speedup or 1.0)

    def above_floor(count: int) -> list[float]:
        new = log_ratios(more(count))
        ratios.extend(math.exp(value) for value in new)
        return [value - floor for value in new]

    found, said = sequential_test(above_floor, looks=LOOKS if case.min_speedup else LOOKS[:1])
    extra |= {"baseline": made.baseline_name, "times_as_fast": ratios, "min_speedup": case.min_speedup}
    if case.min_speedup:
        here = f"{found.ratio * case.min_speedup:.2f} times as fast as {made.baseline_name}"
        assert said != "faster", f"{case.name}: {here}, at least {case.min_speedup} is asked for"
