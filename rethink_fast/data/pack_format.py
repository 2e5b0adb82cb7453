"""What a pack is on disk, read and checked.

DEST/pack.json              version, contract, format, classes, and of each split its parts with their SHA-256
DEST/SPLIT-00000.tar ...    jpeg: shards in the WebDataset convention, KEY.jpg (or .png) and KEY.cls
DEST/SPLIT.npy              npy: uint8 [N, H, W, C], for numpy.load(mmap_mode="r")
DEST/SPLIT.index.npy        a row of INDEX for each sample
DEST/unreadable.csv         split, index, file and reason of every image that cannot be decoded

SPLIT is train or test. KEY is the sample index, the position in the sorted order of the source: an image that cannot be
decoded keeps its row (of length 0) in the index, and in a .npy its place (zeros), so that nothing moves. pack_schema.py
checks all that they say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, bad_path, unreadable
from ..files import read_bytes, write_atomic
from ..rng import CONTRACT_VERSION
from . import pack_schema
from .npy_images import PACK_AGAIN, RESTORE, load_npy
from .pack_schema import INDEX

VERSION = 1
MANIFEST = "pack.json"
QUARANTINE = "unreadable.csv"
MAX_MANIFEST_BYTES, MAX_QUARANTINE_BYTES, MAX_INDEX_BYTES = 2**26, 2**28, 2**31
"""Far above what 60 million images take."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that was written in one piece, and its checksum."""

    file: str
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PackSplit:
    """One split of a pack.

    index: INDEX [N].
    quarantine: (sample index, file, reason) of each sample without an image.
    """

    parts: tuple[Part, ...]
    index: np.ndarray
    quarantine: tuple[tuple[int, str, str], ...]

    @property
    def files(self) -> list[str]:
        """The files of the images, in the order of INDEX's shard."""
        return list(dict.fromkeys(part.file for part in self.parts))


@dataclass(frozen=True)
class Pack:
    """A pack that is whole, as far as its sizes and its index tell.

    size: height and width that the images were resized to; None where they were not.
    """

    path: Path
    format: str
    size: int | None
    classes: tuple[str, ...]
    train: PackSplit
    test: PackSplit | None
    sha256: str

    @property
    def splits(self) -> tuple[PackSplit, ...]:
        return (self.train,) if self.test is None else (self.train, self.test)


def is_pack(path: Path) -> bool:
    """Return whether a folder is a pack, damaged or not."""
    return os.path.lexists(path / MANIFEST)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, values: dict[str, Any], indexes: dict[str, np.ndarray], quarantine: list[Any]) -> None:
    """Write pack.json, last of all, with the checksums of what is written before it: the indexes and the quarantine.

    values: format, size, classes, and splits by name, each with its parts.
    """
    for name, index in indexes.items():
        values["splits"][name]["index"] = _write(folder / f"{name}.index.npy", _npy(index))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("split", "index", "file", "reason"), *quarantine])
    values["quarantine"] = _write(folder / QUARANTINE, text.getvalue().encode(errors="surrogateescape"))
    values = {"type": "rethink_fast pack", "version": VERSION, "contract": CONTRACT_VERSION, **values}
    values["sha256"] = checksum(values)
    _write(folder / MANIFEST, json.dumps(values, indent=1).encode())


def checksum(values: dict[str, Any]) -> str:
    """Return the SHA-256 of everything in a JSON object but its own "sha256"."""
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _write(path: Path, data: bytes) -> str:
    write_atomic(path, data)
    return digest(data)


def read_pack(path: Path) -> Pack:
    """Read a pack's manifest and index, and check that every file is there with its size. Raises UserError."""
    values = read_manifest(path)
    quarantine = _whole(path / QUARANTINE, values["quarantine"], MAX_QUARANTINE_BYTES)
    try:
        rows = list(csv.reader(io.StringIO(quarantine.decode(errors="surrogateescape"), newline="")))
        bad = pack_schema.check_quarantine(rows)
        splits = {name: _read_split(path, values, name, bad) for name in values["splits"]}
        listed = sum(len(split.quarantine) for split in splits.values())
        if listed != len(bad):
            raise ValueError("a quarantine of a split that is not there")
    except (ValueError, csv.Error) as error:
        raise _strange(path, error) from None
    size, classes = values["size"], tuple(values["classes"])
    return Pack(path, values["format"], size, classes, splits["train"], splits.get("test"), values["sha256"])


def _read_split(path: Path, values: dict[str, Any], name: str, bad: list[tuple[str, int, str, str]]) -> PackSplit:
    """Raises UserError for files that are not as they were written, and ValueError for strange content."""
    described = values["splits"][name]
    parts = tuple(Part(**part) for part in described["parts"])
    _check_sizes(path, parts)
    index = _index(_whole(path / f"{name}.index.npy", described["index"], MAX_INDEX_BYTES))
    listed = tuple((sample, file, reason) for split, sample, file, reason in bad if split == name)
    expected: dict[str, Any] = {"size": values["size"], "labels": len(values["classes"])}
    pack_schema.check_rows(index, bad=[sample for sample, _, _ in listed], **expected)
    if values["format"] == "jpeg":
        pack_schema.check_tar_positions(index, [part.bytes for part in parts])
    else:
        images = load_npy(path / parts[0].file)  # its checksum is not known yet
        if len(images) != len(index):
            problem = f"is damaged, or of another pack ({images.shape} for {len(index)} samples)"
            raise bad_path(path / parts[0].file, problem, PACK_AGAIN)
        pack_schema.check_npy_positions(index, images.shape[1:], images.offset)
    return PackSplit(parts, index, listed)


def _index(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    try:
        index: np.ndarray = np.lib.format.read_array(file)
    except Exception as error:  # a damaged header raises anything, from Python's tokenizer too
        raise ValueError(" ".join(str(error).split())[:200]) from None
    if index.dtype != INDEX or index.ndim != 1 or file.read(1):
        raise ValueError(f"an index of {index.dtype} {index.shape} in {len(content)} bytes")
    return index


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of a pack. Raises UserError."""
    content = _read(path / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        values = json.loads(content)
        known, version, contract = values["type"] == "rethink_fast pack", values["version"], values["contract"]
    except (ValueError, TypeError, KeyError, RecursionError):
        known, version, contract = False, None, None
    if not known:
        raise bad_path(path / MANIFEST, "does not describe a pack, or is damaged", PACK_AGAIN)
    for what, version_read, expected in (
        ("version", version, VERSION),
        ("contract version", contract, CONTRACT_VERSION),
    ):
        if type(version_read) is not int or version_read != expected:
            version_read = repr(version_read)[:80]
            problem = f"{path} is a pack of {what} {version_read}, and this program reads {expected}"
            raise UserError(problem, PACK_AGAIN, value=path, allowed=f"{what} {expected}")
    if values.get("sha256") != checksum(values):
        raise bad_path(path / MANIFEST, "is damaged (its checksum is another)", PACK_AGAIN)
    try:
        pack_schema.check_manifest(values)
    except ValueError as error:
        raise _strange(path / MANIFEST, error) from None
    return dict(values)


def _strange(path: Path, error: Exception) -> UserError:
    """The error about what has the right checksums and is not what this program writes."""
    if isinstance(error, UserError):
        return error
    return bad_path(path, f"has the right checksums and strange content ({error})", PACK_AGAIN)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit=limit)
    except OSError as error:
        raise unreadable(path, error, RESTORE) from None


def _whole(path: Path, sha256: str, limit: int) -> bytes:
    content = _read(path, limit)
    if digest(content) != sha256:
        raise bad_path(path, "is damaged (its checksum is another)", RESTORE)
    return content


def _check_sizes(path: Path, parts: tuple[Part, ...]) -> None:
    """Every file is as long as its parts together."""
    expected = {part.file: part.offset + part.bytes for part in parts}
    for file, size in expected.items():
        try:
            status = (path / file).stat()
        except OSError as error:
            raise unreadable(path / file, error, RESTORE) from None
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            what = f"has {status.st_size} bytes instead of {size}" if stat.S_ISREG(status.st_mode) else "is no file"
            raise bad_path(path / file, what, RESTORE)
