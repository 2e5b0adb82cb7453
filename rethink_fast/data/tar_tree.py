"""The tree that tar would make of an archive, in memory."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import bad_path
from .archive import entries, reported
from .tree import BROKEN, LOOP, SPECIAL, Listing

MAX_LINKS = 40
"""From one to the next, as Linux has it."""


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
