"""How the package reads and writes files: whole or not at all, regular files only, valid JSON, one kind of lock."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError
from .text import utf8

MAX_JSON_BYTES = 256 * 2**20
"""A record with 10,000 epochs takes 5 MB; what is larger than this is not one of ours."""

BLOCK = 4096
"""Bytes that a disk must take before any work begins."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What flock gives on file systems without locks, such as Lustre or NFS without its lock service."""


def write_atomic(path: Path, content: bytes | memoryview | str | Callable[[BinaryIO], object]) -> None:
    """Write or replace a file so that it is whole or untouched after a crash, a kill or a full disk.

    The content goes to a hidden file in the same folder, is flushed to the disk and moved into place.

    path: the file; its folder must exist.
    content: bytes, text (written as UTF-8), or a function that writes to the binary file it is given.
    Raises OSError, and leaves what was there.
    """
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def writing(path: Path, fix: str, *, option: str = "") -> Iterator[None]:
    """Raise UserError where a block cannot write.

    path: the file or folder that the message names.
    fix: what to do.
    option: the option that named the path, if there is one.
    """
    try:
        yield
    except OSError as error:
        what = f"{option} {path}".strip()
        raise UserError(f"{what} cannot be written ({error.strerror})", fix, option=option, value=path) from None


def check_writable(path: Path, fix: str, *, option: str = "") -> None:
    """Raise UserError where a file cannot be written, before the work whose result it takes.

    A block is written next to it, or in the nearest folder above that exists, and removed again.

    path, fix, option: as of `writing`.
    """
    with writing(path, fix, option=option):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        try_writing(folder / path.name)


def try_writing(path: Path) -> None:
    """Write a block under the hidden name of a file, and remove it. Raises OSError."""
    probe = _partial(path)
    try:
        with probe.open("wb") as file:
            file.write(bytes(BLOCK))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink()


def _partial(path: Path) -> Path:
    """Return the hidden name of a file while it is written."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def remove_partial(folder: Path) -> None:
    """Delete what killed writers left in a folder. Only its owner may call this: a live writer's file goes too."""
    for left in folder.glob(".*.partial"):
        with suppress(OSError):
            left.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(path: Path) -> list[Path]:
    """Make a folder, and those above it that are missing. Return the folders made, the deepest first.

    Raises OSError: FileExistsError where there is something by that name.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    path.mkdir(parents=True)
    return missing


def user_path(text: str) -> Path:
    """Return the path that a user wrote: ~ and ~user are expanded, and nothing else.

    Raises UserError for what cannot be a path: nothing, "-", a NUL byte, a user without a home, a name that is too
    long, links in a circle.
    """
    if text in ("", "-"):
        raise UserError(f"{text!r} is not a path", "name a file or folder (./- for one called -)", value=text)
    if "\0" in text:
        raise UserError(f"{text!r} is not a path, with a NUL byte", "name another", value=text)
    path = Path(os.path.expanduser(text))
    if text.startswith("~") and str(path).startswith("~"):
        raise UserError(
            f"{text} has no home folder behind its ~", "write the path in full (./~... for one called so)", value=text
        )
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            shown = text if len(text) <= 100 else f"{text[:100]}..."
            raise UserError(f"{shown} is not a path ({error.strerror})", "name another", value=text) from None
    return path


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises OSError, also for a folder, a fifo or a device: reading one could wait or go on for ever.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, *, limit: int | None = None) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises OSError, with EFBIG for a larger one."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes, where at most {limit:,} are expected", str(path))
        return file.read()


def to_json(values: Any, *, indent: int | None = 2) -> str:
    """Return valid JSON by the standard: NaN and infinities become null, text that is not UTF-8 is escaped."""
    return json.dumps(_plain(values), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, Mapping):
        return {utf8(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write or replace a JSON file in one piece. Raises OSError, and leaves what was there."""
    write_atomic(path, to_json(values) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. NaN and infinities are None, as `to_json` writes them.

    Raises OSError if it cannot be read, and ValueError if it is not JSON.
    """
    try:
        return json.loads(read_bytes(path, limit=MAX_JSON_BYTES), parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def lock(path: Path) -> BinaryIO | None:
    """Take an exclusive lock on a file, which is made if it is not there.

    Returns the open file: the lock lasts until it is closed or the process ends, however it ends; None where the file
    system has no locks. Raises BlockingIOError if another process holds it, OSError if the file cannot be made.
    """
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in _NO_LOCKS:
                return None
            raise
        # The holder before may have removed the file since it was opened here: then another process can lock a new one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()
