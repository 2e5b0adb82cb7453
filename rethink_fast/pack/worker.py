"""One shard of a pack, made in a separate process: read, decode whole, encode, write, move into place.

A shard is finished once its record is there, which is moved into place after its bytes are on the disk. One that was
begun and not finished is made again, and comes out the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.pack_format import checksum
from ..data.pack_schema import BLOCK, INDEX, check_npy_positions, check_rows, check_tar_positions, file_of
from ..errors import UserError
from ..files import read_json, write_atomic
from .decode import images, jpeg_of
from .source import EncodedSplit

RECORDS = "parts"


@dataclass(frozen=True)
class ShardJob:
    """A shard to be made.

    folder: of the unfinished pack.
    start: the sample index of its first image.
    shape: height, width and channels of every image in npy format; () in jpeg format.
    byte_offset: where its first image begins in the .npy.
    """

    folder: Path
    split: str
    number: int
    start: int
    source: EncodedSplit
    format: str
    size: int | None
    shape: tuple[int, ...]
    byte_offset: int

    @property
    def file(self) -> str:
        """The name of the file it is in."""
        return file_of(self.format, self.split, self.number)

    @property
    def offset(self) -> int:
        """Where it begins in its file: the header of a .npy belongs to its first shard."""
        return 0 if self.format == "jpeg" or self.number == 0 else self.byte_offset

    @property
    def record(self) -> Path:
        """The file of its record, which is there once it is finished."""
        return self.folder / RECORDS / f"{self.split}-{self.number:05}.json"


def begin_process() -> None:
    """Leave Ctrl-C to the parent process, and end this one when the parent ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def make_part(job: ShardJob) -> int:
    """Make one shard and its record, and return its number of samples. Raises OSError where the disk is full."""
    path = job.folder / job.file
    file = _HashedFile()
    rows, quarantine = (_write_npy if job.format == "npy" else _write_tar)(job, path, file)
    record: dict[str, Any] = {
        "part": {"file": job.file, "offset": job.offset, "bytes": file.bytes, "sha256": file.sha256.hexdigest()},
        "rows": rows,
        "quarantine": quarantine,
    }
    record["sha256"] = checksum(record)
    write_atomic(job.record, json.dumps(record))
    return len(job.source)


def read_record(job: ShardJob) -> dict[str, Any] | None:
    """Return the record of a finished shard, its rows as INDEX; None where there is none, or anything else."""
    try:
        record = read_json(job.record)
        if record["sha256"] != checksum(record):
            return None
        rows = np.array([tuple(row) for row in record["rows"]], INDEX)
        bad = [sample for sample, file, reason in record["quarantine"] if isinstance(file + reason, str)]
        check_rows(rows, size=job.size, labels=job.source.labels, bad=bad, first=job.start)
        size = (job.folder / job.file).stat().st_size
        if job.format == "jpeg":
            length = size
            check_tar_positions(rows, [size], shard=job.number, first=job.start)
        else:
            length = job.byte_offset - job.offset + len(rows) * math.prod(job.shape)
            check_npy_positions(rows, job.shape, job.byte_offset, first=job.start)
        part = {"file": job.file, "offset": job.offset, "bytes": length, "sha256": record["part"]["sha256"]}
        whole = record["part"] == part and job.offset + length <= size
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return {**record, "rows": rows} if whole else None


class _HashedFile:
    """Counts and hashes what is written to `file`."""

    file: BinaryIO

    def __init__(self) -> None:
        self.sha256, self.bytes = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)
        self.bytes += len(data)


Rows = tuple[list[tuple[int, int, int, int, int, int]], list[tuple[int, str, str]]]
"""Rows of INDEX; and (sample index, file, reason) of each quarantined sample."""


def _write_tar(job: ShardJob, path: Path, file: _HashedFile) -> Rows:
    rows: Rows = [], []

    def store(k: int, encoded: np.ndarray, pixels: np.ndarray) -> tuple[int, int]:
        data = jpeg_of(pixels) if pixels.size else encoded.tobytes()
        ending = "png" if data.startswith(b"\x89PNG") else "jpg"
        offset = file.bytes + BLOCK
        file.write(member(f"{job.start + k:09}.{ending}", data))
        file.write(member(f"{job.start + k:09}.cls", str(int(job.source.labels[k])).encode()))
        return offset, len(data)

    def fill(opened: BinaryIO) -> None:
        nonlocal rows
        file.file = opened
        rows = _store_all(job, file, job.number, store)
        file.write(bytes(2 * BLOCK))  # the end of a tar

    write_atomic(path, fill)
    return rows


def member(name: str, data: bytes) -> bytes:
    """Return one file of a tar: header, content, and zeros up to a whole block. It does not depend on time or place."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def _write_npy(job: ShardJob, path: Path, file: _HashedFile) -> Rows:
    """Into the .npy, whose header and length are there already."""
    row = math.prod(job.shape)

    def store(k: int, _: np.ndarray, pixels: np.ndarray) -> tuple[int, int]:
        if pixels.shape != job.shape:
            name = job.source.root / job.source.files[k]
            raise UserError(
                f"{name} is {pixels.shape[1]}x{pixels.shape[0]} pixels and other images are "
                f"{job.shape[1]}x{job.shape[0]}",
                "give a --size, to which all are resized",
                option="--size",
                value=name,
            )
        file.write(pixels.tobytes())
        return job.byte_offset + k * row, row

    with path.open("r+b") as opened:
        file.file = opened
        header = opened.read(job.byte_offset) if job.number == 0 else b""
        opened.seek(job.byte_offset - len(header))
        file.write(header)
        rows = _store_all(job, file, 0, store, blank=bytes(row))
        opened.flush()
        os.fsync(opened.fileno())
    return rows


Store = Callable[[int, np.ndarray, np.ndarray], tuple[int, int]]
"""(position in the source, bytes, pixels) -> the offset and the length at which the image was written."""


def _store_all(job: ShardJob, file: _HashedFile, shard: int, store: Store, blank: bytes = b"") -> Rows:
    """Write every image in order. blank: what is written for one that cannot be decoded."""
    rows, quarantine = [], []
    for k, encoded, (pixels, shape, reason) in images(job.source, job.format, job.size):
        offset = length = 0
        if reason:
            name, _ = job.source.quarantined.get(k, (job.source.files[k], ""))
            quarantine.append((job.start + k, name, reason))
            file.write(blank)
        else:
            offset, length = store(k, encoded, pixels)
        rows.append((shard, offset, length, int(job.source.labels[k]), *shape))
    return rows, quarantine
