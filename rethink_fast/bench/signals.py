"""How a run is asked to stop: by a signal, or by the program that read its output going away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import Interrupted
from ..train.distributed import SINGLE_PROCESS, DelayedMax, Distributed

ALWAYS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a run even where the parent process had them ignored, as a shell does for background jobs."""

UNLESS_IGNORED = (
    *(signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
    *(signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU, signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
"""Every other signal that ends a process by default and can be caught. nohup ignores SIGHUP, and a profiler may have
a handler for SIGPROF: those stay. Python turns SIGPIPE and SIGXFSZ into OSError; see output.py."""

AT_ONCE = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
TOGETHER_SECONDS = 1.0
"""Signals this close together are one request: a terminal that closes, or a service manager, sends two or more."""


class GracefulStop:
    """A request to stop, made by the first signal.

    A second SIGINT, SIGQUIT or SIGTERM ends a single process at once; torchrun kills its own.

    ranks: the processes that stop together.
    """

    def __init__(self, ranks: Distributed = SINGLE_PROCESS) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._poll = DelayedMax() if ranks.is_distributed else None

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Take note of a signal."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = number, now
        elif self._poll is None and number in AT_ONCE and now - self._since > TOGETHER_SECONDS:
            os._exit(128 + number)

    def output_closed(self) -> None:
        """Stop as SIGPIPE would, because nobody reads the output any more."""
        self.handle(signal.SIGPIPE)

    def check(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.signal is not None:
            raise Interrupted

    def check_together(self) -> None:
        """Raise Interrupted, on every rank at the same call, if any of them was asked to stop."""
        if self._poll is not None:
            number = self._poll(self.signal or 0)
            if number:
                self.signal = number
                raise Interrupted
        else:
            self.check()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals for the length of a block. Only the main thread can: in another it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        default = (signal.SIG_DFL, signal.default_int_handler)
        taken = [*ALWAYS, *(number for number in UNLESS_IGNORED if signal.getsignal(number) in default)]
        before = {number: signal.signal(number, self.handle) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
