"""Checking every byte of a pack by the checksums in its manifest."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import bad_path, unreadable
from ..files import open_regular
from . import search_path
from .npy_images import RESTORE
from .pack_format import Pack, Part
from .source import Progress

CHUNK = 2**20


def check(pack: Pack, *, workers: int, progress: Progress | None) -> None:
    """Check every byte of a pack, unless an earlier check passed. Raises UserError that names a damaged file.

    The result is kept in the user's cache, under every file's size and modification time.
    """
    seen = hashlib.sha256(f"{pack.path.absolute()}\0{pack.sha256}\0".encode(errors="surrogateescape"))
    for split in pack.splits:
        for file in split.files:
            status = (pack.path / file).stat()
            seen.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    name = f"pack-{seen.hexdigest()}"
    if search_path.recall(name) is None:
        verify(pack, workers=workers, progress=progress)
        search_path.remember(name, {})


def verify(pack: Pack, *, workers: int, progress: Progress | None) -> int:
    """Check every byte of a pack, and return how many it has. Raises UserError that names the first damaged file."""
    parts = [part for split in pack.splits for part in split.parts]
    total, done = sum(part.bytes for part in parts), 0
    damaged: list[Part] = []
    with ThreadPoolExecutor(workers) as pool:
        for part, sha256 in zip(parts, pool.map(lambda part: _sha256(pack.path, part), parts), strict=True):
            if sha256 != part.sha256:
                damaged.append(part)
            done += part.bytes
            if progress is not None:
                progress("checking the pack's bytes", done, total)
    if damaged:
        more = f" and {len(damaged) - 1} more stretches are" if len(damaged) > 1 else ""
        first = damaged[0]
        problem = f"is damaged in bytes {first.offset} to {first.offset + first.bytes}{more} (another checksum)"
        raise bad_path(pack.path / first.file, problem, RESTORE)
    return total


def _sha256(path: Path, part: Part) -> str:
    digest, left = hashlib.sha256(), part.bytes
    try:
        with open_regular(path / part.file) as file:
            file.seek(part.offset)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise unreadable(path / part.file, error, RESTORE) from None
    return digest.hexdigest()
