"""Tar archives read into memory, never extracted to disk, with the tree that tar would make of them.

A tar is decompressed as it is read, and only wanted files are kept. More than MAX_BYTES are not unpacked or kept.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import files
from ..errors import UserError, bad_path, unreadable
from .tree import BROKEN, LOOP, SPECIAL, Listing

MAX_BYTES = 4 * 2**30
"""All 1.28 million images of ImageNet at 32 x 32 pixels take 3.7 GiB decoded, and memory must hold that as well."""
MAX_FILE = 256 * 2**20
"""Of one file: the largest batch of CIFAR-10 has 31 MB."""
MAX_ENTRIES = 2**21
"""ImageNet has 1.3 million files."""
MAX_LINKS = 40
"""From one to the next, as Linux has it."""
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


class _File:
    """A file in a tar. content: if it was wanted; odd: what it is instead of a regular file."""

    def __init__(self, number: int, odd: str | None = None) -> None:
        self.number, self.odd = number, odd
        self.content: bytes | None = None


_Node = Any
"""A folder, dict[str, _Node]; a _File; or a symbolic link, its target as str."""


class TarTree:
    """What a tar extracts to, in memory: later entries replace earlier ones, links are followed inside it."""

    kind = "tar"

    def __init__(self, path: Path, is_wanted: Callable[[str], bool]) -> None:
        """Read a tar. is_wanted: whether the content of a file of this name, without its folders, is kept."""
        self.path = path
        self.notes: list[str] = []
        self._root: dict[str, _Node] = {}
        with reported(path):
            self._read_targets(self._load(is_wanted))

    def _load(self, is_wanted: Callable[[str], bool]) -> list[str]:
        """Make the tree; returns the links with wanted names."""
        links: list[str] = []
        outside = 0
        for number, (member, content) in enumerate(entries(self.path, self.notes)):
            names = _names(member.name)
            if ".." in names:
                outside += 1
            elif names:
                node = self._node(number, member)
                is_link = member.issym() or member.islnk()
                if isinstance(node, _File) and node.odd is None and not is_link and is_wanted(names[-1]):
                    node.content = content()
                self._place(names, node)
                if is_link and is_wanted(names[-1]):
                    links.append("/".join(names))
        if outside:
            self.notes.append(f"not used in {self.path}: {outside} entries with .. in their names")
        return links

    def _node(self, number: int, member: tarfile.TarInfo) -> _Node:
        if member.isdir():
            return {}
        if member.issym():
            return member.linkname
        if member.islnk():
            *folders, name = _names(member.linkname) or [""]
            folder = self._resolve(folders)[0]
            target = folder[-1].get(name) if isinstance(folder, list) else None
            return target if isinstance(target, _File | str) else _File(number, BROKEN)
        return _File(number, SPECIAL if member.isfifo() or member.isdev() else None)

    def _place(self, names: list[str], node: _Node) -> None:
        folder = self._root
        for k, name in enumerate(names[:-1]):
            if name not in folder:
                folder[name] = {}
            target = self._resolve(names[: k + 1])[0]
            if not isinstance(target, list):
                problem = f"has {'/'.join(names)} below {'/'.join(names[: k + 1])}, which is no folder"
                raise bad_path(self.path, problem, "pack it again")
            folder = target[-1]
        name = names[-1]
        earlier = folder.get(name)
        if isinstance(node, dict) and isinstance(self._resolve(names)[0], list):
            return
        if isinstance(earlier, dict) and earlier:
            raise bad_path(self.path, f"has {'/'.join(names)} both as a folder and as a file", "pack it again")
        folder[name] = node

    def _resolve(self, names: Iterable[str]) -> tuple[list[dict[str, _Node]] | _File | None, str]:
        """Follow names and links from the root: the chain of folders to a folder, or a file; else None, and why."""
        chain = [self._root]
        left, links = list(names)[::-1], 0
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(chain) == 1:
                    return None, BROKEN
                chain.pop()
                continue
            node = chain[-1].get(name)
            if isinstance(node, str):
                links += 1
                if links > MAX_LINKS:
                    return None, LOOP
                if node.startswith("/"):
                    return None, BROKEN
                left += node.split("/")[::-1]
            elif isinstance(node, dict):
                chain.append(node)
            elif node is None or any(name not in ("", ".") for name in left):
                return None, BROKEN
            elif isinstance(node, _File):
                return node, ""
        return chain, ""

    def _read_targets(self, links: list[str]) -> None:
        """Read, in a second pass, files that only a link names as wanted."""
        missing: dict[int, _File] = {}
        for link in links:
            node = self._resolve(link.split("/"))[0]
            if isinstance(node, _File) and node.odd is None and node.content is None:
                missing[node.number] = node
        if missing:
            for number, (_, content) in enumerate(entries(self.path, [])):
                if number in missing:
                    missing[number].content = content()

    def listing(self, folder: str) -> Listing:
        """Return the entries of a folder, as Tree.listing."""
        chain, why = self._resolve(folder.split("/"))
        if not isinstance(chain, list):
            raise bad_path(
                self.path / folder, f"cannot be read ({why or 'not a folder'})", "check that it exists and can be read"
            )
        folders, names, odd = [], [], {}
        for name in chain[-1]:
            target, why = self._resolve([*folder.split("/"), name])
            if isinstance(target, list) and not (isinstance(chain[-1][name], str) and _is_in(target[-1], chain)):
                folders.append(name)
                continue
            names.append(name)
            if isinstance(target, list):
                odd[name] = LOOP
            elif target is None or target.odd is not None:
                odd[name] = why if target is None else target.odd or ""
        return Listing(tuple(sorted(folders)), tuple(sorted(names)), odd, (0, id(chain[-1])))

    def read(self, file: str, limit: int | None = None) -> bytes:
        """Return the bytes of a file, as Tree.read."""
        target, why = self._resolve(file.split("/"))
        if not isinstance(target, _File):
            raise OSError(errno.ENOENT, why or "is a folder", file)
        if target.odd is not None:
            raise OSError(errno.EINVAL, target.odd, file)
        if target.content is None:
            raise ValueError(f"{file} was not wanted when the archive was read")
        if limit is not None and len(target.content) > limit:
            raise OSError(errno.EFBIG, f"{len(target.content):,} bytes, where at most {limit:,} are expected", file)
        return target.content


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _is_in(folder: dict[str, _Node], chain: list[dict[str, _Node]]) -> bool:
    return any(folder is above for above in chain)
