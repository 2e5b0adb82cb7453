"""Where the wall time of a run goes: its stages, the limits, the GPU and a trace, as plain values.

Idle is the wall time less the stages (stage_clock.py). What the profile itself takes is no part of it. On CUDA each
stage of the step is a separate CUDA graph, where a run without a profile has one for the whole step.
"""

from __future__ import annotations

import errno
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ..files import write_atomic
from ..stages import STAGES
from ..stderr import suppress_stderr
from .arithmetic import Rooflines, measure_limits
from .device import synchronize
from .gpu_monitor import PowerMonitor
from .setup import RunContext
from .stage_clock import PROFILING, StageClock
from .state import TrainState

WARM_STEPS, TRACED_STEPS = 3, 10


class Profile:
    """The profile of one run: stages.profiling(profile) around train.loop.fit, whose callback calls the methods.

    ready: called before the first step.
    end_epoch: called after each epoch with its evaluation.
    finish: called after the last.
    """

    def __init__(self, setup: RunContext) -> None:
        self._setup = setup
        self._clock = StageClock(setup.device, self._after_step)
        self.span = self._clock.span
        self._rows: list[dict[str, Any]] = []
        self._row_start = time.perf_counter()
        self._images = 0
        self._begin = TrainState()
        self._limits: Rooflines | None = None
        self._meter = PowerMonitor(setup.device) if setup.device.type == "cuda" else None
        self._gpu: dict[str, Any] | None = None
        self._steps = 0
        self._profiler: torch.profiler.profile | None = None
        self._profiling = 0.0
        self._clocked = 0.0  # seconds of the training clock that went into the trace

    def _after_step(self) -> None:
        self._steps += 1
        if self._steps in (WARM_STEPS, WARM_STEPS + TRACED_STEPS):
            self._clocked += self._turn_trace(on=self._steps == WARM_STEPS)

    def _turn_trace(self, *, on: bool) -> float:
        """Wait for the device, start or end the trace between two steps, and return the seconds it took."""
        synchronize(self._setup.device)
        self._clock.tracing = False
        start = time.perf_counter()
        with self.span(PROFILING), suppress_stderr():  # the tracing library reports both on stderr
            if on:
                self._profiler = torch.profiler.profile()
                self._profiler.start()
            elif self._profiler is not None:
                self._profiler.stop()
        self._clock.tracing = on
        return time.perf_counter() - start

    def ready(self, outcome: TrainState) -> None:
        """Measure the limits, and begin. outcome: of earlier sessions, whose part is not counted."""
        self._begin = TrainState(images=outcome.images, train_seconds=outcome.train_seconds, sessions=outcome.sessions)
        self._images = outcome.images
        with self.span(PROFILING):
            self._limits = measure_limits(self._setup)
            if self._setup.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self._setup.device)
            with suppress_stderr(), torch.profiler.profile():
                pass  # the first start of a process takes a second, which is better spent here than between two steps
        self._end_row(0, outcome)
        if self._meter is not None:
            self._meter.start()

    def end_epoch(self, outcome: TrainState) -> None:
        """Add the row of the epoch that was finished last."""
        self._end_row(outcome.epoch, outcome)

    def finish(self, outcome: TrainState) -> None:
        """End the trace and add the last row, also for an epoch that was not finished."""
        if self._clock.tracing:
            self._turn_trace(on=False)
        if self._meter is not None:
            self._gpu = self._meter.stop(outcome.images - self._begin.images)
        self._end_row(outcome.epoch + 1 if outcome.images > self._images else outcome.epoch, outcome)

    def _end_row(self, epoch: int, outcome: TrainState) -> None:
        synchronize(self._setup.device)
        seconds = self._clock.take()
        now = time.perf_counter()
        profiling = seconds.pop(PROFILING)
        wall = now - self._row_start - profiling
        counted = sum(value for name, value in seconds.items() if name not in self._clock.overlapped)
        self._profiling += profiling
        row = {
            "epoch": epoch,
            "images": outcome.images - self._images,
            "wall_seconds": wall,
            "seconds": {**seconds, "idle": wall - counted},
        }
        if self._rows and self._rows[-1]["epoch"] == epoch:
            _add(self._rows[-1], row)
        else:
            self._rows.append(row)
        self._images, self._row_start = outcome.images, now

    @property
    def traced_steps(self) -> int:
        """The training steps in the trace: 0 where the run was too short for one."""
        return max(0, min(self._steps - WARM_STEPS, TRACED_STEPS))

    def save_trace(self, path: Path) -> None:
        """Write the trace, if there is one, as Chrome's JSON. Raises OSError."""
        if self._profiler is None or not self.traced_steps:
            return
        with tempfile.TemporaryDirectory() as folder:
            exported = Path(folder) / "trace.json"
            with suppress_stderr():
                self._profiler.export_chrome_trace(str(exported))
            content = exported.read_bytes()
        if not content.rstrip().endswith(b"}"):  # torch says nothing of a disk that is full
            raise OSError(errno.ENOSPC, f"the trace did not fit into {tempfile.gettempdir()}")
        write_atomic(path, content)

    def as_dict(self, outcome: TrainState) -> dict[str, Any]:
        """Return the profile for the record, after `ready` and `finish`."""
        images = outcome.images - self._begin.images
        wall = sum(row["wall_seconds"] for row in self._rows)
        # the trace is started and ended while the training clock runs
        seconds = outcome.train_seconds - self._begin.train_seconds - self._clocked
        combined = images / seconds if images and seconds > 0 else None
        total = {name: sum(row["seconds"][name] for row in self._rows) for name in (*STAGES, "idle")}
        return {
            "sessions_before": outcome.sessions - 1,
            "images": images,
            "wall_seconds": wall,
            "profiling_seconds": self._profiling,
            "overlapped": list(self._clock.overlapped),
            "stages": {
                name: {
                    "seconds": value,
                    "share": value / wall,
                    "microseconds_per_image": 1e6 * value / images if images else None,
                }
                for name, value in total.items()
            },
            **(self._limits.figures(combined) if self._limits is not None else {}),
            "gpu": self._gpu,
            "traced_steps": self.traced_steps,
            "epochs": self._rows,
        }


def _add(row: dict[str, Any], more: dict[str, Any]) -> None:
    """Add what came after the end of an epoch to its row."""
    row["images"] += more["images"]
    row["wall_seconds"] += more["wall_seconds"]
    for name, seconds in more["seconds"].items():
        row["seconds"][name] += seconds
