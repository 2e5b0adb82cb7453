"""How the cases are timed on the host: checked first, interleaved, in samples long enough for the clock.

Nothing here imports the package, because the workers of `rethink-fast compare` time another revision of it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Call = Callable[[], object]
Clock = Callable[[], float]

SAMPLE_SECONDS = 0.01
"""A sample is as many calls as fill this: long against the clock's and the loop's own cost, short against the bursts
of a busy machine, which should fall on both neighbours of a pair."""


class IncorrectResult(Exception):
    """A case whose result is not the reference's: it is not timed."""


@dataclass(frozen=True)
class PreparedCase:
    """A case ready to run.

    call: what is timed. wrong: compares its result with the reference; empty where it is right, else what is not.
    baseline: what it is compared with, and its name; None for a case that only has a physical limit.
    bytes, flops: what a call must move (read plus written, each once) and compute; 0 where that is not what limits it.
    wall: compared with its baseline on the clock, because worker processes do the work of both.
    """

    call: Call
    wrong: Callable[[], str]
    baseline: Call | None = None
    baseline_name: str = ""
    bytes: int = 0
    flops: int = 0
    wall: bool = False


def checked(name: str, made: PreparedCase) -> PreparedCase:
    """The case, once its result was seen to be right. Raises IncorrectResult: a result that is wrong has no speed."""
    what = made.wrong()
    if what:
        raise IncorrectResult(f"{name}: {what}: not timed")
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Let Python's garbage collector rest for the length of a block."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def sample(call: Call, times: int, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call, from so many in a row. Where there are several, one more goes before: caches are warm."""
    if times > 1:
        call()
    start = clock()
    for _ in range(times):
        kept = call()
    spent = clock() - start
    del kept  # what a call returns is freed outside the clock, but for all but the last
    return spent / times


def calls_per_sample(call: Call, seconds: float = SAMPLE_SECONDS) -> int:
    """How many calls fill a sample; the calls made to find out warm up the case."""
    call()
    best = min(sample(call, 1) for _ in range(3))
    return max(1, round(seconds / max(best, 1e-7)))


def interleaved(old: Call, new: Call, clock: Clock = time.perf_counter) -> Callable[[int], list[tuple[float, float]]]:
    """Gives so many pairs of seconds of two calls in this process, each pair in the other order than the one before."""
    times = [calls_per_sample(old), calls_per_sample(new)]
    taken = 0

    def more(count: int) -> list[tuple[float, float]]:
        nonlocal taken
        pairs = []
        with quiet():
            for _ in range(count):
                taken += 1
                if taken % 2:
                    first = sample(old, times[0], clock)
                    pairs.append((first, sample(new, times[1], clock)))
                else:
                    second = sample(new, times[1], clock)
                    pairs.append((sample(old, times[0], clock), second))
        return pairs

    return more
