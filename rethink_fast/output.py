"""A command's output, which may go away while it works: a closed pipe, a dead terminal, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from rich.console import Console

from .files import to_json


class Output:
    """A text stream that never fails. What it cannot write is dropped, and so is all that follows.

    file: the stream.
    on_closed: called once if it is a pipe that nobody reads any more.
    """

    def __init__(self, file: IO[str], on_closed: Callable[[], None]) -> None:
        self._file, self._on_closed = file, on_closed
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, or drop it. Returns its length."""
        self._try(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except ValueError:
            if not self._file.closed:
                raise
        except OSError as error:
            discard(self._file)
            if self.error is None:
                self.error = error
                if error.errno == errno.EPIPE:
                    self._on_closed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def never_failing(console: Console, on_closed: Callable[[], None]) -> Iterator[None]:
    """Make a console drop what its stream does not take, for the length of a block.

    on_closed: called once if nobody reads the stream any more.
    """
    before = console.file
    console.file = cast(IO[str], Output(before, on_closed))
    try:
        yield
    finally:
        console.file = before


def discard(file: IO[str]) -> None:
    """Send what is still buffered for a stream, and all that follows, to the null device: its end raises nothing."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, file.fileno())
        os.close(null)


def print_json(values: Any) -> int:
    """Print values as JSON on stdout. Returns an exit code: 0; 141 if nobody reads it; 1 if it cannot be written."""
    try:
        print(to_json(values), flush=True)
    except OSError as error:
        discard(sys.stdout)
        if error.errno == errno.EPIPE:
            return 128 + signal.SIGPIPE
        with suppress(OSError):
            print(f"rethink-fast: the output cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    return 0
