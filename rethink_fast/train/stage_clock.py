"""The seconds of a run's stages, by the host's clock and, on a GPU, by events on its stream.

CPU    stages follow one another and are timed by the host's clock; an inner stage counts for itself alone
CUDA   the device's stages are timed by events, read when an epoch is over, with no synchronisation inside it; order,
       load and decode are the host's, overlap the others and add nothing to the wall time
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import torch

from ..stages import STAGES

PROFILING = "profiling"
"""A separate stage, outside the wall time: measuring the limits, starting and ending the trace."""
DEVICE_STAGES = ("copy", "corruption and augmentation", "forward", "backward", "update")
OVERLAPPED = ("order", "load", "decode")
WHOLE_STAGES = ("evaluation", "checkpoint", "compile", PROFILING)
"""Stages inside which no other is timed."""
PENDING = 4096

_NOTHING: AbstractContextManager[None] = nullcontext()


class _Span:
    """One stage, as a context that may be entered again and again, also within itself."""

    __slots__ = ("_clock", "_name")

    def __init__(self, clock: StageClock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._clock.enter(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.leave(self._name)


class StageClock:
    """Times the stages of a run. A stages.StageTimer.

    on_step: called after each training step: an update that follows a backward pass.
    """

    def __init__(self, device: torch.device, on_step: Callable[[], None]) -> None:
        self._device, self._on_step = device, on_step
        self._on_device = DEVICE_STAGES if device.type == "cuda" else ()
        self._spans = {name: _Span(self, name) for name in (*STAGES, PROFILING)}
        self._stack: list[str] = []
        self._since = 0.0
        self._last = ""
        self._seconds = dict.fromkeys(self._spans, 0.0)
        self._started: list[torch.cuda.Event] = []
        self._pending: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()
        self._free: list[torch.cuda.Event] = []
        self._recorded: list[torch.profiler.record_function] = []
        self.tracing = False
        """Whether the stages are also written to torch's trace."""

    @property
    def overlapped(self) -> tuple[str, ...]:
        """Stages that overlap the others and are no part of the wall time."""
        return OVERLAPPED if self._on_device else ()

    def span(self, name: str) -> AbstractContextManager[None]:
        """Return the context of a stage, as stages.StageTimer.span."""
        if self._stack and self._stack[-1] in WHOLE_STAGES:
            return _NOTHING
        return self._spans[name]

    def enter(self, name: str) -> None:
        """Begin a stage."""
        if self.tracing:
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
                self._read_events()
        if self._recorded:
            self._recorded.pop().__exit__(None, None, None)
        last, self._last = self._last, name
        if name == "update" and last == "backward":
            self._on_step()

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call. The device must have been waited for."""
        self._read_events()
        seconds, self._seconds = self._seconds, dict.fromkeys(self._spans, 0.0)
        return seconds

    def _count(self, now: float) -> None:
        name = self._stack[-1]
        if name not in self._on_device:
            self._seconds[name] += now - self._since

    def _record(self) -> torch.cuda.Event:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _read_events(self) -> None:
        """Read the events that the device has passed, without waiting."""
        while self._pending and self._pending[0][2].query():
            name, start, end = self._pending.popleft()
            self._seconds[name] += start.elapsed_time(end) / 1000
            self._free += (start, end)
