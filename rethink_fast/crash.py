"""The edge of the command line: streams that can take any text, and one line for an exception that nobody expected."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import UserError
from .text import printable

EXIT_UNEXPECTED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
MOST_CHARACTERS = 300
"""Of an exception's own message in the line: torch's can go on for pages, and the file has it all."""

TRACEBACK = "traceback"
"""The name of a file with one begins with this."""

_folder: Path | None = None


def save_in(folder: Path) -> None:
    """Save the traceback of an unexpected exception of this process in a folder: that of its run."""
    global _folder
    _folder = folder


def complain(line: str) -> None:
    """Print one line on stderr, if there is one that can be written to."""
    with contextlib.suppress(OSError, ValueError):
        print(f"rethink-fast: {printable(line)}", file=sys.stderr, flush=True)


def flat(text: object) -> str:
    """Return text that somebody else broke into lines, as of an exception, on one line."""
    return " ".join(str(text).split())


def guarded(main: Callable[[], int]) -> int:
    """Run the command line, and return its exit code.

    A UserError, and a package that cannot be imported, is one line and 2; Ctrl-C is 130; a reader that has gone is
    141. Any other exception is one line that names the file with its traceback, and 1.
    """
    with _edge():
        try:
            if not _current_folder():
                raise UserError("the current folder is gone or closed", "change into another one")
            code = main()
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except UserError as error:
            complain(str(error))
            return EXIT_BAD_INPUT
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
                return _unexpected(error)
            # Python flushes stdout again at exit, and would say so again.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if error.errno == errno.EPIPE:
                return EXIT_BROKEN_PIPE
            complain(f"what this command prints or writes has no room ({error.strerror}): make some, and run it again.")
            return EXIT_BAD_INPUT
        except ImportError as error:
            if (error.name or "").partition(".")[0] == __package__:
                return _unexpected(error)
            what = (
                f"{error.name} cannot be imported ({flat(error)})"
                if error.name
                else f"a package is broken ({flat(error)})"
            )
            complain(f"{what}: install rethink-fast again, with what it depends on ({sys.executable} -m pip install).")
            return EXIT_BAD_INPUT
        except Exception as error:
            return _unexpected(error)


def _unexpected(error: BaseException) -> int:
    place = _save("".join(traceback.format_exception(error)))
    message = flat(error)
    if len(message) > MOST_CHARACTERS:
        message = f"{message[:MOST_CHARACTERS]}..."
    where = f"its traceback is in {place}" if place is not None else "its traceback could not be saved, and is above"
    complain(
        f"unexpected {type(error).__name__}{f': {message}' if message else ''}: {where}. Please report it with that "
        f"and the output of: rethink-fast env --json"
    )
    return EXIT_UNEXPECTED


def _save(text: str) -> Path | None:
    """Write a traceback into the run's folder, else a temporary one; else print it and return None."""
    text = f"{' '.join(sys.argv)}\n\n{text}"
    if _folder is not None:
        rank = os.environ.get("RANK", "")
        path = _folder / f"{TRACEBACK}{f'-rank-{int(rank)}' if rank.isdecimal() else ''}.txt"
        with contextlib.suppress(OSError):
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=f"rethink-fast-{TRACEBACK}-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return Path(name)
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr)
    return None


def _current_folder() -> bool:
    """Whether there is one: without, no relative path has a meaning, and torch's own libraries end the process."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _edge() -> Iterator[None]:
    """Prepare the process: descriptors, encodings, warnings, and threads that fail."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file to be opened would be stdout, and what libraries print would go into it.
            os.open(os.devnull, os.O_RDWR)
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # empty, it would stand for /; without it the user's entry counts
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"  # pictures are only written; what the variable names may not be there
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home folder that it cannot write to
    before = threading.excepthook
    threading.excepthook = lambda failed: failed.exc_value and _unexpected(failed.exc_value)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            yield
    finally:
        threading.excepthook = before


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    complain(f"{category.__name__}: {flat(message)}")
