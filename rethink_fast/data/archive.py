"""Tar archives read into memory, never extracted to disk: one entry after another.

A tar is decompressed as it is read, and only wanted files are kept. More than MAX_BYTES are not unpacked or kept.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import files
from ..errors import UserError, bad_path, unreadable

MAX_BYTES = 4 * 2**30
"""All 1.28 million images of ImageNet at 32 x 32 pixels take 3.7 GiB decoded, and memory must hold that as well."""
MAX_FILE = 256 * 2**20
"""Of one file: the largest batch of CIFAR-10 has 31 MB."""
MAX_ENTRIES = 2**21
"""ImageNet has 1.3 million files."""
CHUNK = 2**20
MAX_PADDING = 16 * CHUNK
"""Zeros behind the end: tar fills its last record, of 10 KiB or what --blocking-factor says."""

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_FOREIGN = {b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}


class _TooMuch(Exception):
    """The archive unpacks to more than is allowed."""


class _Stream:
    """The bytes of a tar, read forwards only, and no more than are allowed."""

    def __init__(self, file: Any, compressed: bool) -> None:
        self._file, self._compressed, self._position = file, compressed, 0
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > MAX_FILE:
            raise _TooMuch(f"one entry has {size:,} bytes, at most {MAX_FILE:,} are allowed")
        self.last = bytes(self._file.read(size))
        self._position += len(self.last)
        if self._compressed and self._position > MAX_BYTES:
            raise _TooMuch(f"it unpacks to more than {MAX_BYTES:,} bytes")
        return self.last

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("an entry of negative size")
        if not self._compressed:
            self._file.seek(position)
            self._position = position
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def tell(self) -> int:
        return self._position


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise a UserError in place of what goes wrong while a tar is read in this block."""
    try:
        yield
    except UserError:
        raise
    except _TooMuch as error:
        raise bad_path(path, f"is too large to read into memory ({error})", "unpack it and open the folder") from None
    except (
        tarfile.TarError,
        EOFError,
        lzma.LZMAError,
        zlib.error,
        gzip.BadGzipFile,
        ValueError,
        RecursionError,
    ) as error:
        raise bad_path(path, f"is no tar archive, or a damaged one ({error})", "fetch it again") from None
    except OSError as error:
        raise unreadable(path, error) from None


def entries(path: Path, notes: list[str]) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Yield each entry of a tar (plain, .gz, .bz2 or .xz), and how to read it before the next. Raises as tarfile does.

    notes: gets a line about what lies behind the end.
    """
    with files.open_regular(path) as file:
        yield from _read(path, file, notes)


def _opener(start: bytes) -> Callable[..., Any] | None:
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)


def is_compressed(path: Path) -> bool:
    """Return whether the bytes of a tar are not those of its members. Raises OSError."""
    with files.open_regular(path) as file:
        return _opener(file.read(8)) is not None


def _read(path: Path, file: BinaryIO, notes: list[str]) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    start = file.read(8)
    file.seek(0)
    foreign = next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), None)
    if foreign is not None:
        raise bad_path(path, f"is a {foreign} archive, not a tar (plain, .gz, .bz2 or .xz)", "unpack it")
    opener = _opener(start)
    stream = _Stream(opener(file, "rb") if opener else file, opener is not None)
    kept = 0
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        number = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # it would keep all of them
            number += 1
            if number > MAX_ENTRIES:
                raise _TooMuch(f"it has more than {MAX_ENTRIES:,} entries")

            def content(member: tarfile.TarInfo = member) -> bytes:
                nonlocal kept
                if not 0 <= member.size <= MAX_FILE:
                    raise _TooMuch(f"{member.name} has {member.size:,} bytes, at most {MAX_FILE:,} are allowed")
                opened = archive.extractfile(member)
                data = b"" if opened is None else opened.read()
                if len(data) != member.size:
                    raise tarfile.ReadError("unexpected end of data")
                kept += len(data)
                if kept > MAX_BYTES:
                    raise _TooMuch(f"its files have more than {MAX_BYTES:,} bytes")
                return data

            yield member, content
    # tarfile takes a damaged header, or a cut between two entries, for the end; only a block of zeros is one.
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise bad_path(path, "is no tar archive, or a truncated one", "fetch it again")
    end = stream.tell()
    behind = False
    while not behind and stream.read(CHUNK):  # to the end, where the checksum of a compressed file is
        behind = stream.last != bytes(len(stream.last)) or stream.tell() > end + MAX_PADDING
    if behind:
        notes.append(f"{path} holds something behind its end (another archive?), which is not read")
