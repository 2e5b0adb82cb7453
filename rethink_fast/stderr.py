"""Silence for C++ libraries that write to stderr what the package reports itself, or what nobody needs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_kept: int | None = None
_blocks = 0


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr for the length of a block, in any number of threads at once."""
    global _kept, _blocks
    with _lock:
        if _blocks == 0:
            sys.stderr.flush()
            _kept = os.dup(2)
            with open(os.devnull, "wb") as sink:
                os.dup2(sink.fileno(), 2)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0 and _kept is not None:
                os.dup2(_kept, 2)
                os.close(_kept)
                _kept = None
