"""Where the wall time of a run goes: a watch over its stages, and what it found as plain values.

    CPU    stages follow one another and are timed by the host's clock; what lies inside another counts for itself alone
    CUDA   the device's stages are timed by events on its stream, read when an epoch is over, with no synchronisation
           inside it; order, load and decode are the host's, run beside them and add nothing to the wall time

Idle is the wall time less all that. What the profile itself takes is no part of it. On
CUDA each stage of the step is a separate CUDA graph, where a run without a profile has one for the whole step.
"""

from __future__ import annotations

import errno
import tempfile
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ..files import write_atomic
from ..stages import STAGES
from ..stderr import suppress_stderr
from .arithmetic import Rooflines, measure_limits
from .device import synchronize
from .gpu_monitor import PowerMonitor
from .setup import RunContext
from .state import TrainState

PROFILING = "profiling"
"""A separate stage, outside the wall time: measuring the limits, starting and ending the trace."""

DEVICE_STAGES = ("copy", "corruption and augmentation", "forward", "backward", "update")
OVERLAPPED = ("order", "load", "decode")
FULL_BATCH = ("evaluation", "checkpoint", "compile", PROFILING)
"""Stages that are one thing, whatever they go through inside."""

WARM_STEPS, TRACED_STEPS = 3, 10
PENDING = 4096

_NOTHING: AbstractContextManager[None] = nullcontext()


class _Span:
    """One stage, as a context that may be entered again and again, also within itself."""

    __slots__ = ("_name", "_profile")

    def __init__(self, profile: Profile, name: str) -> None:
        self._profile, self._name = profile, name

    def __enter__(self) -> None:
        self._profile.enter(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._profile.leave(self._name)


class Profile:
    """The watch over one run: stages.watching(profile) around train.engine.fit, whose listener calls the methods.

    ready: before the first step. end_epoch: after each epoch and what belongs to it. finish: after the last.
    """

    def __init__(self, setup: RunContext) -> None:
        self._setup = setup
        self._on_device = DEVICE_STAGES if setup.device.type == "cuda" else ()
        self._spans = {name: _Span(self, name) for name in (*STAGES, PROFILING)}
        self._stack: list[str] = []
        self._since = 0.0
        self._seconds = dict.fromkeys(self._spans, 0.0)
        self._started: list[torch.cuda.Event] = []
        self._pending: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()
        self._free: list[torch.cuda.Event] = []

        self._rows: list[dict[str, Any]] = []
        self._row_start = time.perf_counter()
        self._images = 0
        self._begin = TrainState()
        self._limits: Rooflines | None = None
        self._meter = PowerMonitor(setup.device) if setup.device.type == "cuda" else None
        self._gpu: dict[str, Any] | None = None

        self._steps = 0
        self._last = ""
        self._profiler: torch.profiler.profile | None = None
        self._recorded: list[torch.profiler.record_function] = []
        self._tracing = False
        self._profiling = 0.0
        self._clocked = 0.0  # seconds of the training clock that went into the trace

    def span(self, name: str) -> AbstractContextManager[None]:
        """As stages.StageTimer.span."""
        if self._stack and self._stack[-1] in FULL_BATCH:
            return _NOTHING
        return self._spans[name]

    def enter(self, name: str) -> None:
        """Begin a stage."""
        if self._tracing:
            self._recorded.append(torch.profiler.record_function(name))
            self._recorded[-1].__enter__()
        if name in self._on_device:
            self._started.append(self._record())
        now = time.perf_counter()
        if self._stack:
            self._count(now)
        self._stack.append(name)
        self._since = now

    def leave(self, name: str) -> None:
        """End the stage that was begun last."""
        now = time.perf_counter()
        self._count(now)
        self._stack.pop()
        self._since = now
        if name in self._on_device:
            self._pending.append((name, self._started.pop(), self._record()))
            if len(self._pending) > PENDING:
                self._resolve()
        if self._recorded:
            self._recorded.pop().__exit__(None, None, None)
        last, self._last = self._last, name
        if name == "update" and last == "backward":
            self._steps += 1
            if self._steps in (WARM_STEPS, WARM_STEPS + TRACED_STEPS):
                self._clocked += self._turn_trace(on=self._steps == WARM_STEPS)

    def _count(self, now: float) -> None:
        name = self._stack[-1]
        if name not in self._on_device:
            self._seconds[name] += now - self._since

    def _record(self) -> torch.cuda.Event:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._setup.device))
        return event

    def _resolve(self) -> None:
        """Read the events that the device has passed already; none is waited for."""
        while self._pending and self._pending[0][2].query():
            name, start, end = self._pending.popleft()
            self._seconds[name] += start.elapsed_time(end) / 1000
            self._free += (start, end)

    def _turn_trace(self, *, on: bool) -> float:
        """Start or end the trace between two steps; the device is waited for. Returns the seconds it took."""
        synchronize(self._setup.device)
        self._tracing = False
        start = time.perf_counter()
        with self.span(PROFILING), suppress_stderr():  # the tracing library reports both on stderr
            if on:
                self._profiler = torch.profiler.profile()
                self._profiler.start()
            elif self._profiler is not None:
                self._profiler.stop()
        self._tracing = on
        return time.perf_counter() - start

    def ready(self, outcome: TrainState) -> None:
        """Measure the limits, and begin with the run as it stands: an earlier session's part is not counted."""
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
        """Close the books of the epoch that was finished last."""
        self._end_row(outcome.epoch, outcome)

    def finish(self, outcome: TrainState) -> None:
        """Close them for good; an epoch broken off has its own row."""
        if self._tracing:
            self._turn_trace(on=False)
        if self._meter is not None:
            self._gpu = self._meter.stop(outcome.images - self._begin.images)
        self._end_row(outcome.epoch + 1 if outcome.images > self._images else outcome.epoch, outcome)

    def _end_row(self, epoch: int, outcome: TrainState) -> None:
        synchronize(self._setup.device)
        self._resolve()
        now = time.perf_counter()
        profiling = self._seconds.pop(PROFILING)
        wall = now - self._row_start - profiling
        counted = sum(seconds for name, seconds in self._seconds.items() if name not in self.overlapped)
        self._profiling += profiling
        row = {
            "epoch": epoch,
            "images": outcome.images - self._images,
            "wall_seconds": wall,
            "seconds": {**self._seconds, "idle": wall - counted},
        }
        if self._rows and self._rows[-1]["epoch"] == epoch:
            _add(self._rows[-1], row)
        else:
            self._rows.append(row)
        self._seconds = dict.fromkeys(self._spans, 0.0)
        self._images, self._row_start = outcome.images, now

    @property
    def overlapped(self) -> tuple[str, ...]:
        """Stages that run beside the others and are no part of the wall time."""
        return OVERLAPPED if self._on_device else ()

    @property
    def traced_steps(self) -> int:
        """Training steps in the trace: 0 where the run was too short for one."""
        return max(0, min(self._steps - WARM_STEPS, TRACED_STEPS))

    def save_trace(self, path: Path) -> None:
        """Write the trace, if there is one. Raises OSError."""
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
        """The profile for the record, after `finish`."""
        assert self._limits is not None
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
            "overlapped": list(self.overlapped),
            "stages": {
                name: {
                    "seconds": value,
                    "share": value / wall,
                    "microseconds_per_image": 1e6 * value / images if images else None,
                }
                for name, value in total.items()
            },
            **self._limits.figures(combined),
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
