"""One part of a pack, made in its own process: read, decode whole, encode, write, move into place.

A part is as many samples as a shard holds. It is finished once its record is there, which is moved into place after the
bytes it speaks of are on the disk; a part that was begun and not finished is made again, and comes out the same.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import multiprocessing
import os
import signal
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.pack_format import checksum
from ..data.pack_schema import BLOCK, INDEX, check_npy_positions, check_rows, check_tar_positions, file_of
from ..errors import UserError
from ..files import read_json, write_atomic
from ..stderr import suppress_stderr
from .source import EncodedSplit

QUALITY, SUBSAMPLING = 90, "4:2:0"
"""Of re-encoded JPEGs. Most photographs of ImageNet come in 4:2:0 themselves."""
BATCH = 32
RECORDS = "parts"


@dataclass(frozen=True)
class ShardJob:
    """A part to be made. folder: of the unfinished pack. start: sample index of its first image.

    shape: height, width and channels of every image, of the npy format; () of jpeg. byte_offset: where the part
    begins in the .npy.
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
        return file_of(self.format, self.split, self.number)

    @property
    def offset(self) -> int:
        """From which byte of its file on it is the part: the header of a .npy goes with its first part."""
        return 0 if self.format == "jpeg" or self.number == 0 else self.byte_offset

    @property
    def record(self) -> Path:
        """Where the part's record stands once it is finished."""
        return self.folder / RECORDS / f"{self.split}-{self.number:05}.json"


def begin_process() -> None:
    """For each process at its start: leave the stopping to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def make_part(job: ShardJob) -> int:
    """Make one part and its record; returns its samples. Raises OSError where the disk takes no more."""
    write = _write_npy if job.format == "npy" else _write_tar
    rows, quarantine, sha256, length = write(job)
    record: dict[str, Any] = {
        "part": {"file": job.file, "offset": job.offset, "bytes": length, "sha256": sha256},
        "rows": rows,
        "quarantine": quarantine,
    }
    record["sha256"] = checksum(record)
    write_atomic(job.record, json.dumps(record))
    return len(job.source)


def read_record(job: ShardJob) -> dict[str, Any] | None:
    """Return the record of a part that is finished, its rows as INDEX; None of anything else that stands there."""
    try:
        record = read_json(job.record)
        if record["sha256"] != checksum(record):
            return None
        rows = np.array([tuple(row) for row in record["rows"]], INDEX)
        bad = [sample for sample, file, reason in record["quarantine"] if isinstance(file + reason, str)]
        check_rows(rows, format=job.format, size=job.size, labels=job.source.labels, bad=bad, first=job.start)
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


NO_PIXELS = np.empty(0, np.uint8)
Image = tuple[np.ndarray, tuple[int, int], str]
"""Pixels uint8 [H, W, 3], empty where they are not needed; height and width; why it cannot be decoded, or ""."""


def images(job: ShardJob) -> Iterator[tuple[int, np.ndarray, Image]]:
    """For each sample in order: its position in the source, its bytes, and the image."""
    source = job.source
    for first in range(0, len(source), BATCH):
        samples = range(first, min(first + BATCH, len(source)))
        encoded = [source.read(k) for k in samples]
        known = [source.quarantined.get(k, ("", ""))[1] for k in samples]
        yield from zip(samples, encoded, _decoded(encoded, known, job.format, job.size), strict=True)


def _decoded(encoded: list[np.ndarray], known: list[str], format: str, size: int | None) -> list[Image]:
    made: list[Image] = []
    with suppress_stderr():  # what the decoders write on stderr is in the quarantine
        examined = _examiner(format, size).decode_one_by_one(encoded)
        for (reason, _, _, output), quarantined in zip(examined, known, strict=True):
            if output is None:
                made.append((NO_PIXELS, (0, 0), quarantined or reason or ""))
            elif format == "jpeg" and size is None:
                shape = np.asarray(output)
                made.append((NO_PIXELS, (int(shape[0]), int(shape[1])), ""))
            else:
                pixels = np.array(output) if size is None else _resized(output, size)
                made.append((pixels, (pixels.shape[0], pixels.shape[1]), ""))
    return made


def _resized(output: Any, size: int) -> np.ndarray:
    """A decoded image of DALI's as a folder gives it, uint8 [size, size, 3]."""
    import torch

    from ..data.resize import resize

    out = torch.empty((1, size, size, 3), dtype=torch.uint8)
    resize([torch.from_numpy(np.asarray(output))], out)
    return out[0].numpy()


@functools.cache
def _examiner(format: str, size: int | None) -> Any:
    from ..data.dali import whole, whole_then_centre
    from ..data.examine import Examiner

    if size is not None:
        return Examiner(whole_then_centre)
    return Examiner(whole if format == "npy" else lambda encoded: whole(encoded).shape())


def jpeg_of(pixels: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3] as JPEG."""
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    return file.getvalue()


class _ShardFile:
    """What is written and hashed piece by piece."""

    def __init__(self, file: Any) -> None:
        self._file, self._seen, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._seen.update(data)
        self.bytes += len(data)

    def sha256(self) -> str:
        return self._seen.hexdigest()


Rows = list[tuple[int, int, int, int, int, int]]
Written = tuple[Rows, list[tuple[int, str, str]], str, int]
"""Rows of INDEX, (sample index, file, reason) of the quarantined, checksum and bytes."""


def _write_tar(job: ShardJob) -> Written:
    rows: Rows = []
    quarantine = []
    sha256, length = "", 0

    def fill(opened: BinaryIO) -> None:
        nonlocal sha256, length
        file = _ShardFile(opened)
        for k, encoded, (pixels, shape, reason) in images(job):
            label = int(job.source.labels[k])
            if reason:
                quarantine.append((job.start + k, _named(job.source, k), reason))
                rows.append((job.number, 0, 0, label, 0, 0))
                continue
            data = jpeg_of(pixels) if pixels.size else encoded.tobytes()
            ending = "png" if data.startswith(b"\x89PNG") else "jpg"
            offset = file.bytes + BLOCK
            file.write(member(f"{job.start + k:09}.{ending}", data))
            file.write(member(f"{job.start + k:09}.cls", str(label).encode()))
            rows.append((job.number, offset, len(data), label, *shape))
        file.write(bytes(2 * BLOCK))  # the end of a tar
        sha256, length = file.sha256(), file.bytes

    write_atomic(job.folder / job.file, fill)
    return rows, quarantine, sha256, length


def member(name: str, data: bytes) -> bytes:
    """One file of a tar: header, content, and zeros up to a whole block. Nothing in it depends on when or where."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def _write_npy(job: ShardJob) -> Written:
    """Into the .npy, whose header and length are there already."""
    rows: Rows = []
    quarantine = []
    row = int(np.prod(job.shape))
    with (job.folder / job.file).open("r+b") as opened:
        header = opened.read(job.byte_offset) if job.number == 0 else b""
        opened.seek(job.byte_offset - len(header))
        file = _ShardFile(opened)
        file.write(header)
        for k, _, (pixels, shape, reason) in images(job):
            label = int(job.source.labels[k])
            if reason:
                quarantine.append((job.start + k, _named(job.source, k), reason))
                rows.append((0, 0, 0, label, 0, 0))
                file.write(bytes(row))
                continue
            if pixels.shape != job.shape:
                raise UserError(
                    f"{job.source.root / job.source.files[k]} is {shape[1]}x{shape[0]} pixels and other images are "
                    f"{job.shape[1]}x{job.shape[0]}",
                    "give a --size, to which all are resized",
                    option="--size",
                    value=job.source.root / job.source.files[k],
                )
            rows.append((0, job.byte_offset + k * row, row, label, *shape))
            file.write(pixels.tobytes())
        opened.flush()
        os.fsync(opened.fileno())
    return rows, quarantine, file.sha256(), file.bytes


def _named(source: EncodedSplit, k: int) -> str:
    known = source.quarantined.get(k)
    return known[0] if known is not None else source.files[k]
