"""Image files: which names are taken for one, and which files are damaged."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..files import read_bytes
from . import auto
from .source import Progress

SUFFIXES = (
    *(".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".gif"),
)
CHECKED_AT_ONCE = 128
CACHE_VERSION = 1


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its suffix, in any case, and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def read_or_reason(path: Path) -> tuple[np.ndarray, str | None]:
    """Return the bytes of a file, uint8 [n]; if it cannot be read, none and why."""
    try:
        return np.frombuffer(read_bytes(path), np.uint8), None
    except OSError as error:
        return np.empty(0, np.uint8), f"cannot be read: {error.strerror or error}"


def find_damaged(
    root: Path, files: Sequence[str], index: Tensor, *, workers: int, progress: Progress | None
) -> list[tuple[int, str]]:
    """(sample index, reason) of the files among `index` that cannot be read or decoded.

    All are decoded once through DALI. The answer is kept in the user's cache, under every file's path, size and
    time of change, so that it is worked out again only for other files.
    """
    samples = index.tolist()
    cache = auto.cache_dir() / "checked" / f"{_fingerprint(root, files, samples)}.json"
    with suppress(OSError, ValueError):
        return [(int(sample), str(reason)) for sample, reason in json.loads(cache.read_text())]
    unreadable: dict[int, str] = {}
    found = list(_check(root, files, samples, workers, progress, unreadable))
    if unreadable:  # what may change without a trace in the file's size and time
        return found
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(found))
        partial.replace(cache)
    return found


def _fingerprint(root: Path, files: Sequence[str], samples: list[int]) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION}\0{root.absolute()}\0".encode())
    for sample in samples:
        try:
            status = os.stat(root / files[sample])
            seen = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:
            seen = "unreadable"
        digest.update(f"{sample}\0{files[sample]}\0{seen}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _check(
    root: Path,
    files: Sequence[str],
    samples: list[int],
    workers: int,
    progress: Progress | None,
    unreadable: dict[int, str],
) -> Iterator[tuple[int, str]]:
    from .dali import faults

    parts = [samples[i : i + CHECKED_AT_ONCE] for i in range(0, len(samples), CHECKED_AT_ONCE)]

    def read(sample: int) -> np.ndarray:
        data, reason = read_or_reason(root / files[sample])
        if reason is not None:
            unreadable[sample] = reason
        return data

    def load(part: list[int]) -> list[np.ndarray]:
        return [read(sample) for sample in part]

    with ThreadPoolExecutor(1) as pool:

        def ahead() -> Iterator[list[np.ndarray]]:
            following = pool.submit(load, parts[0])
            for part in itertools.chain(parts[1:], [None]):
                batch = following.result()
                if part is not None:
                    following = pool.submit(load, part)
                yield batch

        done = 0
        for part, reasons in zip(parts, faults(ahead(), workers=workers), strict=True):
            known = [unreadable.get(sample, reason) for sample, reason in zip(part, reasons, strict=True)]
            yield from ((sample, reason) for sample, reason in zip(part, known, strict=True) if reason is not None)
            done += len(part)
            if progress is not None:
                progress("checking image files", done, len(samples))


def leave_out(
    root: Path,
    files: Sequence[str] | Mapping[int, str],
    index: Tensor,
    damaged: list[tuple[int, str]],
    what_to_do: str,
) -> tuple[Tensor, tuple[tuple[str, str], ...]]:
    """The samples without the damaged ones, and (file, reason) of those; with "stop", a UserError if there are any."""
    if not damaged:
        return index, ()
    named = tuple((str(root / files[sample]), reason) for sample, reason in damaged)
    if what_to_do == "stop":
        others = f" and {len(named) - 1} more are damaged" if len(named) > 1 else ""
        raise UserError(f"{named[0][0]} is damaged ({named[0][1]}){others}: mend or leave out with --damaged skip")
    kept = index[~torch.isin(index, torch.tensor([sample for sample, _ in damaged]))]
    if not len(kept):
        raise UserError(f"{root}: all {len(named)} images are damaged, the first is {named[0][0]} ({named[0][1]})")
    return kept, named
