"""Image files that cannot be decoded: found once, before training, and remembered; skipped, or a reason to stop."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, bad_path
from . import search_path
from .dali import dali_version
from .examine import find_undecodable
from .image_files import read_image, stamp_of
from .source import Progress

CHECKED_AT_ONCE = 128
CACHE_VERSION = 1
NOT_READ = "cannot be read"
_WORDS = (
    (("empty", "truncated", "corrupt"), "is damaged ({})", "restore the file"),
    ((NOT_READ,), "{}", "make it readable"),
    (("larger than",), "is {}", "make it smaller"),
    (("",), "is of a kind that is not decoded ({})", "convert it to JPEG or PNG"),
)
"""By how a reason begins: what is wrong with the file, and the fix."""


def find_damaged(
    root: Path, files: Sequence[str], index: Tensor, *, workers: int, progress: Progress | None
) -> tuple[list[tuple[int, str]], np.ndarray]:
    """Find the files among `index` that cannot be read or decoded. All are decoded once.

    The answer is kept in the user's cache, under every file's path, size and time of change, so that it is worked out
    again only for other files.

    Returns (sample index, reason) of each, and the stamps of all files (`jpeg_images.stamp_of`), int64 [N, 2].
    """
    samples = index.tolist()
    stamps = np.full((len(files), 2), -1, np.int64)
    for sample in samples:
        with suppress(OSError):
            stamps[sample] = stamp_of(root / files[sample])
    name = f"{_fingerprint(root, files, samples, stamps)}.json"
    with suppress(ValueError):
        return _remembered(search_path.recall(name), set(samples)), stamps
    damaged = list(_check(root, files, samples, workers, progress))
    if not any(reason.startswith(NOT_READ) for _, reason in damaged):  # which may change and leave the stamp as it is
        search_path.remember(name, {"damaged": damaged})
    return damaged, stamps


def _remembered(values: Any, samples: set[int]) -> list[tuple[int, str]]:
    """Raises ValueError if it is not what find_damaged writes."""
    rows = values.get("damaged") if isinstance(values, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise ValueError("not a list of damaged files")
    if not all(type(sample) is int and sample in samples and isinstance(reason, str) for sample, reason in rows):
        raise ValueError("not a sample and a reason")
    return [(sample, reason) for sample, reason in rows]


def _fingerprint(root: Path, files: Sequence[str], samples: list[int], stamps: np.ndarray) -> str:
    decoders = f"{dali_version()}\0{version('pillow')}"
    digest = hashlib.sha256(f"{CACHE_VERSION}\0{decoders}\0{root.absolute()}\0".encode(errors="surrogateescape"))
    for sample in samples:
        digest.update(f"{sample}\0{files[sample]}\0".encode(errors="surrogateescape"))
    digest.update(stamps[samples].tobytes())
    return digest.hexdigest()


def _check(
    root: Path, files: Sequence[str], samples: list[int], workers: int, progress: Progress | None
) -> Iterator[tuple[int, str]]:
    parts = [samples[i : i + CHECKED_AT_ONCE] for i in range(0, len(samples), CHECKED_AT_ONCE)]
    not_read: dict[int, str] = {}

    def read(sample: int) -> np.ndarray:
        try:
            return read_image(root / files[sample])[0]
        except OSError as error:
            not_read[sample] = f"{NOT_READ}: {error.strerror or error}"
            return np.empty(0, np.uint8)

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
        for part, reasons in zip(parts, find_undecodable(ahead(), workers=workers), strict=True):
            known = [not_read.get(sample, reason) for sample, reason in zip(part, reasons, strict=True)]
            yield from ((sample, reason) for sample, reason in zip(part, known, strict=True) if reason is not None)
            done += len(part)
            if progress is not None:
                progress("checking image files", done, len(samples))


def describe(reason: str) -> tuple[str, str]:
    """Return what is wrong with a file that cannot be decoded, as "is damaged (empty)", and the fix."""
    words, advice = next((problem, advice) for starts, problem, advice in _WORDS if reason.startswith(starts))
    return words.format(reason), advice


def drop_samples(
    root: Path, files: Sequence[str] | Mapping[int, str], index: Tensor, damaged: list[tuple[int, str]], what_to_do: str
) -> tuple[Tensor, tuple[tuple[str, str], ...]]:
    """Return the samples that can be decoded, int64 [n], and (file, reason) of the others.

    Raises UserError if no sample is left or, with what_to_do "raise", if any cannot be decoded.
    """
    if not damaged:
        return index, ()
    named = tuple((str(root / files[sample]), reason) for sample, reason in damaged)
    problem, advice = describe(named[0][1])
    if what_to_do == "raise":
        more = f", and {len(named) - 1} more cannot be decoded" if len(named) > 1 else ""
        raise UserError(
            f"{named[0][0]} {problem}{more}",
            f"{advice}, or skip such files with --on-decode-error skip",
            option="--on-decode-error",
            value=named[0][0],
        )
    kept = index[~torch.isin(index, torch.tensor([sample for sample, _ in damaged]))]
    if not len(kept):
        raise bad_path(
            root, f"has {len(named)} images, and none can be decoded; the first, {named[0][0]}, {problem}", advice
        )
    return kept, named
