"""What the description and the index of a pack may say: the one check of their content, after their checksums.

Where an image lies in a file follows from the lengths of those before it, so that every offset is known, and every
label, size and name is in its range. Everything here raises ValueError with what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PACK_FORMATS = ("jpeg", "npy")
INDEX = np.dtype(
    [("shard", "<i4"), ("offset", "<i8"), ("length", "<i8"), ("label", "<i4"), ("height", "<i4"), ("width", "<i4")]
)
"""Where a sample's bytes are: which of the split's files, from which byte on, and how many; its label; height and
width of the image."""
LARGEST_SIZE = 4096
"""Pixels of --size."""
BLOCK = 512
"""Of a tar: headers and contents fill whole blocks."""
_MOST_BYTES = 2**48
_MOST_PIXELS = 2**31


def file_of(format: str, split: str, number: int) -> str:
    """Return the name of the file that holds part `number` of a split."""
    return f"{split}.npy" if format == "npy" else f"{split}-{number:05}.tar"


def check_manifest(values: Mapping[str, Any]) -> None:
    """Check everything in pack.json but its version and its checksum."""
    format: Any = values.get("format")
    _need(format in PACK_FORMATS, f"format {_short(format)}")
    size = values.get("size")
    _need(size is None or _is_count(size, 1, LARGEST_SIZE), f"size {_short(size)}")
    classes: Any = values.get("classes")
    check_classes(classes)
    _need(_is_digest(values.get("quarantine")), "no checksum of the quarantine")
    splits: Any = values.get("splits")
    _need(isinstance(splits, dict) and {"train"} <= set(splits) <= {"train", "test"}, "no splits train and test")
    for name, split in splits.items():
        _need(isinstance(split, dict) and _is_digest(split.get("index")), f"no checksum of the index of {name}")
        _check_parts(format, name, split.get("parts"))


def check_classes(classes: Any) -> None:
    """Check a list of the names of classes."""
    _need(isinstance(classes, list) and len(classes) > 0, "no list of classes")
    _need(all(isinstance(name, str) and _is_name(name) for name in classes), "a class whose name is no text")
    _need(len(set(classes)) == len(classes), "a class twice")


def _check_parts(format: str, split: str, parts: Any) -> None:
    """The parts of a split are its files one after another, or one stretch of its file after another."""
    _need(isinstance(parts, list) and len(parts) > 0, f"no list of parts of {split}")
    end = 0
    for number, part in enumerate(parts):
        where = f"part {number} of {split}"
        _need(isinstance(part, dict) and set(part) == {"file", "offset", "bytes", "sha256"}, f"{where} is none")
        _need(part["file"] == file_of(format, split, number), f"{where} in the file {_short(part['file'])}")
        _need(_is_count(part["bytes"], 1, _MOST_BYTES), f"{where} of {_short(part['bytes'])} bytes")
        offset = end if format == "npy" else 0
        _need(_is_count(part["offset"], offset, offset), f"{where} at the offset {_short(part['offset'])}")
        end = offset + part["bytes"]
        _need(_is_digest(part["sha256"]), f"{where} without a checksum")


def check_rows(
    rows: np.ndarray, *, size: int | None, labels: int | np.ndarray, bad: Sequence[int], first: int = 0
) -> None:
    """Check what holds in every row of INDEX.

    labels: the number of classes, or the label of each row.
    bad: the samples without an image.
    first: the sample of the first row.
    """
    _need(len(rows) > 0, "no samples")
    label, length, height, width = (rows[name].astype(np.int64) for name in ("label", "length", "height", "width"))
    if isinstance(labels, int):
        _check_all((label >= 0) & (label < labels), rows, "label", first)
    else:
        _need(len(labels) == len(rows), f"{len(rows)} samples instead of {len(labels)}")
        _check_all(label == labels, rows, "label", first)
    _check_all((length >= 0) & (length <= _MOST_BYTES), rows, "length", first)
    without = np.flatnonzero(length == 0) + first
    _need(sorted(bad) == without.tolist(), "other samples without an image than in the quarantine")
    empty = length == 0
    if size is not None:
        _check_all(empty | (height == size), rows, "height", first)
        _check_all(empty | (width == size), rows, "width", first)
    _check_all(np.where(empty, height == 0, height > 0), rows, "height", first)
    _check_all(np.where(empty, width == 0, (width > 0) & (height * width <= _MOST_PIXELS)), rows, "width", first)


def check_tar_positions(rows: np.ndarray, sizes: Sequence[int], *, shard: int = 0, first: int = 0) -> None:
    """Check where the images are in tars, the first of which has the number `shard`. sizes: bytes of each."""
    number = rows["shard"].astype(np.int64) - shard
    _check_all((number >= 0) & (number < len(sizes)), rows, "shard", first)
    _need(bool(np.all(np.diff(number, prepend=0) >= 0)), "samples that are not in the order of their shards")
    length = rows["length"]
    _check_all(length <= np.asarray(sizes)[number], rows, "length", first)
    # A header and the image in whole blocks, a header and a block with the label.
    taken = np.where(length > 0, -(-length // BLOCK) * BLOCK + 3 * BLOCK, 0)
    end = np.cumsum(taken)
    starts = np.searchsorted(number, np.arange(len(sizes) + 1))
    _need(bool(np.all(np.diff(starts) > 0)), "a shard without samples")
    before = (end - taken)[starts[:-1]]
    expected = np.where(length > 0, end - taken - before[number] + BLOCK, 0)
    _check_all(rows["offset"] == expected, rows, "offset", first)
    expected_sizes = end[starts[1:] - 1] - before + 2 * BLOCK
    _need(expected_sizes.tolist() == list(sizes), "a shard that is longer or shorter than its samples")


def check_npy_positions(rows: np.ndarray, shape: Sequence[int], start: int, *, first: int = 0) -> None:
    """Check where the images lie in a .npy of images of this shape, whose sample `first` begins at the byte `start`."""
    row = int(np.prod(shape, dtype=object))
    empty = rows["length"] == 0
    _check_all(rows["shard"] == 0, rows, "shard", first)
    _check_all(empty | (rows["height"] == shape[0]), rows, "height", first)
    _check_all(empty | (rows["width"] == shape[1]), rows, "width", first)
    _check_all(empty | (rows["length"] == row), rows, "length", first)
    expected = np.where(empty, 0, start + np.arange(len(rows), dtype=np.int64) * row)
    _check_all(rows["offset"] == expected, rows, "offset", first)


def check_quarantine(rows: list[list[str]]) -> list[tuple[str, int, str, str]]:
    """Return the rows of unreadable.csv under its head as (split, sample index, file, reason)."""
    _need(rows[:1] == [["split", "index", "file", "reason"]], "a quarantine with another head")
    for row in rows[1:]:
        known = len(row) == 4 and row[0] in ("train", "test") and re.fullmatch("[0-9]{1,18}", row[1])
        _need(bool(known), f"the row {_short(row)} in the quarantine")
    return [(split, int(index), file, reason) for split, index, file, reason in rows[1:]]


def _check_all(fine: np.ndarray, rows: np.ndarray, field: str, first: int) -> None:
    wrong = np.flatnonzero(~fine)
    if len(wrong):
        raise ValueError(f"sample {wrong[0] + first} with the {field} {rows[field][wrong[0]]}")


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_name(text: str) -> bool:
    """Whether it can stand in a file system: surrogates are the bytes of a name that are not UTF-8."""
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return text != ""


def _short(value: Any) -> str:
    return repr(value)[:80]


def _need(fine: bool, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)
