"""Every entry of a data folder or a tar, in one form for both, and a line about those that are not used."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from .. import files
from ..errors import UserError, bad_path, unreadable
from .image_formats import is_image

SYSTEM = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
"""Folders that operating systems and file servers make, hidden or not."""
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
BROKEN, LOOP, SPECIAL, OTHER = "broken link", "link loop", "special file", "unreadable link"
"""What an entry is that is neither a folder nor a regular file. Special: a fifo, a socket or a device."""
DEEPEST = 64


@dataclass(frozen=True)
class Listing:
    """The names in one folder, sorted.

    odd: what the files are that are no regular files.
    identity: the same for every link to the folder.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]
    odd: dict[str, str]
    identity: tuple[int, int]

    @property
    def visible(self) -> list[str]:
        """The folders that are not hidden."""
        return [name for name in self.folders if not is_hidden(name)]

    @property
    def images(self) -> list[str]:
        """The image files, by their names."""
        return [name for name in self.files if is_image(name)]


class Tree(Protocol):
    """A folder or a tar. Names within it are relative, with "/"; "" is its root."""

    path: Path
    kind: str
    notes: list[str]

    def listing(self, folder: str) -> Listing:
        """Return the entries of a folder. Raises UserError if it cannot be read."""
        ...

    def read(self, file: str, limit: int | None = None) -> bytes:
        """Return the bytes of a file, at most `limit`. Raises OSError."""
        ...


class FolderTree:
    """A folder on disk, links followed."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._seen: dict[str, Listing] = {}

    def listing(self, folder: str) -> Listing:
        """Return the entries of a folder, as Tree.listing."""
        if folder not in self._seen:
            at = self.path / folder
            try:
                self._seen[folder] = _scan(at)
            except OSError as error:
                raise unreadable(at, error) from None
        return self._seen[folder]

    def read(self, file: str, limit: int | None = None) -> bytes:
        """Return the bytes of a file, as Tree.read."""
        return files.read_bytes(self.path / file, limit=limit)


def _scan(folder: Path) -> Listing:
    folders, names, odd = [], [], {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    if not (entry.is_symlink() and _is_above(entry.path, folder)):
                        folders.append(entry.name)
                        continue
                    odd[entry.name] = LOOP
                elif not entry.is_file():
                    odd[entry.name] = BROKEN if entry.is_symlink() and not os.path.exists(entry.path) else SPECIAL
            except OSError as error:
                odd[entry.name] = LOOP if error.errno == errno.ELOOP else OTHER
            names.append(entry.name)
    status = os.stat(folder)
    return Listing(tuple(sorted(folders)), tuple(sorted(names)), odd, (status.st_dev, status.st_ino))


def _is_above(link: str, folder: Path) -> bool:
    target = os.path.realpath(link)
    return os.path.commonpath((target, os.path.realpath(folder))) == target


def is_folder_at(path: Path, to_do: str) -> bool:
    """Return whether a path is a folder. Raises UserError, with what to do, if it is not there or cannot be read."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        what = "is a link to nowhere" if os.path.islink(path) else "does not exist"
        raise bad_path(path, what, to_do) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or an operating system's."""
    return name.startswith(".") or name in SYSTEM


def is_archive(name: str) -> bool:
    """Return whether a file is an archive, by its name."""
    return name.lower().endswith(ARCHIVES)


def join(folder: str, name: str) -> str:
    """Return the path of a name in a folder, "" being the root."""
    return f"{folder}/{name}" if folder else name


def count(number: int, what: str) -> str:
    """Return "1 image", "2 images"."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


@dataclass
class _Kind:
    number: int = 0
    first: str = ""
    suffixes: set[str] = field(default_factory=set)


class Unused:
    """The entries of a tree that are not used: by kind their number and the first name."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def add(self, what: str, path: str, where: str = "") -> None:
        """Count an entry.

        what: a noun in the singular.
        where: the words behind it.
        """
        kind = self._kinds.setdefault((what, where), _Kind())
        kind.number += 1
        kind.first = min(kind.first or path, path)
        if where == "of other types":
            kind.suffixes.add(PurePosixPath(path).suffix.lower())

    def __str__(self) -> str:
        return ", ".join(self._words())

    def _words(self) -> Iterator[str]:
        for (what, where), kind in sorted(self._kinds.items()):
            types = sorted(kind.suffixes - {""})
            listed = f"{', '.join(types[:4])}{', ...' if len(types) > 4 else ''}; " if types else ""
            first = kind.first if kind.number == 1 else f"first: {kind.first}"
            yield f"{count(kind.number, what)}{where and ' ' + where} ({listed}{first})"


def unused(tree: Tree, classes: set[str], used: set[str]) -> Unused:
    """Walk the whole tree and return what is not used.

    classes: the folders whose images are all used, without the folders below them.
    used: other files that are.
    """
    rest = Unused()
    seen: dict[tuple[int, int], int] = {}

    def visit(folder: str, depth: int, in_class: bool) -> int:
        """Return the images and the used files in a folder and below. in_class: whether it is below a class folder."""
        try:
            listing = tree.listing(folder)
        except UserError:
            rest.add("folder", folder, "that cannot be read")
            return 0
        if listing.identity in seen or depth > DEEPEST:
            return seen.get(listing.identity, 1)
        images = sum(is_image(name) or join(folder, name) in used for name in listing.files)
        seen[listing.identity] = images  # for a link from below to here
        for name in listing.files:
            path = join(folder, name)
            if path in used or (folder in classes and is_image(name)):
                continue
            if is_image(name):
                rest.add("image", path, "in folders below a class" if in_class else "outside of the class folders")
            elif name in listing.odd:
                rest.add(listing.odd[name], path)
            elif is_hidden(name):
                rest.add("hidden entry", path)
            elif is_archive(name):
                rest.add("archive", path, "not unpacked")
            else:
                rest.add("file", path, "of other types")
        for name in listing.folders:
            path = join(folder, name)
            if is_hidden(name):
                rest.add("hidden entry", path)
                continue
            inside = visit(path, depth + 1, in_class or folder in classes)
            if not inside:
                rest.add("folder", path, "without images")
            images += inside
        seen[listing.identity] = images
        return images

    visit("", 0, False)
    return rest
