"""Whether other work shared the processors or the GPU while a run went on, so that its times are not the machine's."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

TASKS = Path("/proc/self/task")
ENOUGH = 0.9
"""Share of its threads' time on a processor, or waiting for one, below which a run counts as disturbed."""


def load_average() -> float | None:
    """Return the mean number of threads that ran or waited in the last minute, or None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def overloaded() -> str | None:
    """Return a line for the screen if the machine has more work than cores before a run starts, else None."""
    load, cores = load_average(), os.cpu_count() or 1  # of the whole machine, as the load is
    if load is None or load <= cores:
        return None
    return f"the machine is busy: a load average of {load:.1f} on {cores} cores; times of this run are unfit to compare"


class Contention:
    """What this process had of the machine since the object was made.

    gpu: returns what shares the GPU now, with the number of `other_processes`; None on a CPU or where nothing says it.
    """

    def __init__(self, gpu: Callable[[], dict[str, Any] | None] = lambda: None) -> None:
        self._gpu, self._gpu_start = gpu, gpu()
        self._load = load_average()
        self._threads = _threads()
        self._switches = _switches()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for a record; None where the system does not say.

        load_start, load_end: load averages of one minute.
        processor_share: of the time that the threads ran or were ready to run, the part that they ran.
        involuntary_switches: how often a thread was preempted.
        gpu_start, gpu_end: what shared the GPU.
        busy: whether processor_share is below ENOUGH, or other processes shared the GPU.
        """
        share, gpu = self._share(), (self._gpu_start, self._gpu())
        shared = any(use is not None and use["other_processes"] for use in gpu)
        return {
            "load_start": self._load,
            "load_end": load_average(),
            "processor_share": share,
            "involuntary_switches": _switches() - self._switches,
            "gpu_start": gpu[0],
            "gpu_end": gpu[1],
            "busy": True if shared else None if share is None else share < ENOUGH,
        }

    def _share(self) -> float | None:
        """Threads that have ended are missing: the kernel forgets their times."""
        ran = waited = 0
        for thread, (now_ran, now_waited) in _threads().items():
            before = self._threads.get(thread, (0, 0))
            ran += max(0, now_ran - before[0])
            waited += max(0, now_waited - before[1])
        return ran / (ran + waited) if ran else None


def _threads() -> dict[str, tuple[int, int]]:
    """Nanoseconds that each thread of this process has run, and has been ready to run but waited."""
    times = {}
    with suppress(OSError):
        for thread in os.listdir(TASKS):
            with suppress(OSError, ValueError):  # it may end meanwhile
                ran, waited, *_ = map(int, (TASKS / thread / "schedstat").read_text().split())
                times[thread] = ran, waited
    return times


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
