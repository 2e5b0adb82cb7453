"""Making a pack: plan, parts in many processes, and the end that puts it in place.

    DEST.partial/plan.json, .lock      what is being made, and who makes it
    DEST.partial/parts/...json         a record of each finished part
    DEST.partial/*.tar or *.npy        their bytes
    DEST                               is there once it is whole

A run that was stopped, by whatever, is resumed by the same command.
"""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pack_format import MANIFEST, Pack, read_manifest, read_pack, write_manifest
from ..data.pack_schema import BLOCK, INDEX, LARGEST_SIZE, PACK_FORMATS
from ..data.source import Progress
from ..errors import UserError, bad_path, in_range, one_of
from ..files import lock, read_json, remove_partial, write_atomic
from . import worker
from .source import EncodedSplit, PackSource, open_tree
from .worker import QUALITY, RECORDS, SUBSAMPLING, ShardJob, begin_process, make_part, read_record

SHARD = 1024
"""Samples in a part: about 110 MB of ImageNet's own photographs, about 30 MB of them at 299 pixels."""
MIN_SHARD, PARTS = 64, 16
"""A small set is cut finer, into so many parts, so that all processes have work."""
ESTIMATE_SAMPLES = 64
"""Images that are encoded to foretell how long all of them will be."""


@dataclass(frozen=True)
class PackPlan:
    """What is to be made.

    shape: height, width and channels of every image, of the npy format; () of jpeg. bytes: what it takes. exact:
    whether bytes is exact, not estimated from a few images.
    """

    dest: Path
    tree: PackSource
    format: str
    size: int | None
    shape: tuple[int, ...]
    bytes: int
    exact: bool

    @property
    def folder(self) -> Path:
        """Where it is made."""
        return self.dest.with_name(f"{self.dest.name}.partial")

    @property
    def images(self) -> int:
        return sum(len(source) for source in self.tree.splits.values())

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on where another stopped."""
        return {
            "format": self.format,
            "size": self.size,
            "encoding": f"JPEG, quality {QUALITY}, {SUBSAMPLING}" if self.format == "jpeg" and self.size else None,
            "shard": SHARD,
            "source": self.tree.fingerprint(),
        }


def plan(src: Path, dest: Path, *, format: str, size: int | None) -> PackPlan:
    """Look at the source and say what its pack takes. size: None keeps every image as it is. Raises UserError."""
    one_of("format", format, PACK_FORMATS)
    if size is not None:
        in_range("--size", size, 1, LARGEST_SIZE)
    if dest.exists():
        raise bad_path(dest, "exists already", "choose another place, or remove it")
    made = PackPlan(dest, open_tree(src), format, size, (), 0, True)
    if size is not None and made.tree.size is not None:
        raise UserError(
            f"{src} is a pack of images at --size {made.tree.size} already",
            f"omit --size {size}",
            option="--size",
            value=size,
        )
    if format == "npy":
        shape = (size, size, 3) if size is not None else _own_shape(made)
        needed = sum(_npy_bytes(source, shape) for source in made.tree.splits.values())
        return replace(made, shape=shape, bytes=needed)
    splits = made.tree.splits.values()
    lengths = [source.lengths if size is None else np.full(len(source), _length(made, source)) for source in splits]
    needed = sum(_tar_bytes(source, each) for source, each in zip(splits, lengths, strict=True))
    return replace(made, bytes=needed, exact=size is None)


def _npy_bytes(source: EncodedSplit, shape: tuple[int, ...]) -> int:
    return len(source) * int(np.prod(shape)) + _metadata_bytes(source)


def _tar_bytes(source: EncodedSplit, lengths: np.ndarray) -> int:
    """Of each sample a header and the image in whole blocks, and a header and a block with the label."""
    blocks = -(-lengths // BLOCK) + 3
    return int(blocks.sum()) * BLOCK + _metadata_bytes(source)


def _metadata_bytes(source: EncodedSplit) -> int:
    """At most: a sample's rows in the index and in the record of its part, 64 bytes in text; of a part its description
    and the end of its tar; the headers and the text around them."""
    return len(source) * (INDEX.itemsize + 64) + (len(source) // MIN_SHARD + 1) * (2 * BLOCK + 256) + 4096


def _tried(made: PackPlan, source: EncodedSplit, number: int) -> Iterator[tuple[int, worker.Image]]:
    """The first images, or so many evenly spread ones, decoded here."""
    for k in np.unique(np.linspace(0, len(source) - 1, number, dtype=np.int64)).tolist():
        job = ShardJob(made.folder, "", 0, 0, source.part(k, k + 1), made.format, made.size, (), 0)
        for _, _, image in worker.images(job):
            yield k, image


def _own_shape(made: PackPlan) -> tuple[int, ...]:
    """The shape of the first image that can be decoded."""
    source = made.tree.splits["train"]
    for _, (pixels, _, _) in _tried(made, source, len(source)):
        if pixels.size:
            return tuple(pixels.shape)
    raise bad_path(
        source.root, f"has {len(source)} images, and none can be decoded", "name a folder of JPEG or PNG images"
    )


def _length(made: PackPlan, source: EncodedSplit) -> int:
    """Bytes of a re-encoded image: the mean of a few, and three standard errors."""
    found = [len(worker.jpeg_of(pixels)) for _, (pixels, _, _) in _tried(made, source, ESTIMATE_SAMPLES) if pixels.size]
    if not found:
        raise bad_path(
            source.root,
            f"has no image that can be decoded among {min(ESTIMATE_SAMPLES, len(source))} tried",
            "name a folder of JPEG or PNG images",
        )
    error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
    return int(statistics.mean(found) + 3 * error)


def write(
    made: PackPlan, *, workers: int, progress: Progress | None, note: Callable[[str], None] | None = None
) -> Pack:
    """Make the pack, or go on making it.

    note: takes a line for the user. Raises UserError where the disk lacks the bytes, now or later: what is made by then
    stays, and the next call goes on from there.
    """
    jobs = list(_jobs(made))
    _check_room(made, jobs)
    try:
        made.folder.mkdir(parents=True, exist_ok=True)
        with _locked(made.folder, note):
            if not (made.folder / MANIFEST).exists():
                _resume_or_start(made)
                _make_all(made, jobs, workers, progress)
                _describe(made, jobs)
            return _publish(made)
    except OSError as error:
        raise bad_path(
            made.dest,
            f"cannot be written ({error.strerror})",
            f"make room, or choose another place; what is made so far is in {made.folder}, and the same command "
            "resumes it",
        ) from None


@contextmanager
def _locked(folder: Path, note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the folder for this process; its end, however it comes, lets go of it."""
    try:
        held = lock(folder / ".lock")
    except BlockingIOError:
        raise bad_path(folder, "is being written by another process", "wait for it, or stop it") from None
    if held is None and note is not None:
        note(f"the file system of {folder} has no locks: do not run this command twice at once")
    try:
        yield
    finally:
        if held is not None:
            held.close()


def _make_all(made: PackPlan, jobs: Sequence[ShardJob], workers: int, progress: Progress | None) -> None:
    """Make every part that is not there yet."""
    missing = [job for job in jobs if read_record(job) is None]
    for job in missing:
        with suppress(FileNotFoundError):
            job.record.unlink()
    total = made.images
    done = total - sum(len(job.source) for job in missing)
    for images in _make(missing, workers, made):
        done += images
        if progress is not None:
            progress("packing images", done, total)


def _resume_or_start(made: PackPlan) -> None:
    """Make the folder what a run of this plan starts from, fresh or left by another."""
    plan_file = made.folder / "plan.json"
    if plan_file.exists():
        try:
            _check_same(made, read_json(plan_file))
        except UserError:
            raise
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise bad_path(
                plan_file, f"cannot be read ({why})", f"remove {made.folder}, or choose another place"
            ) from None
        remove_partial(made.folder)
        remove_partial(made.folder / RECORDS)
    else:
        others = sorted(path.name for path in made.folder.iterdir() if not path.name.startswith("."))
        if others:
            raise bad_path(made.folder, f"holds {others[0]} and no plan.json", "remove it, or choose another place")
        write_atomic(plan_file, json.dumps(made.identity()))
    (made.folder / RECORDS).mkdir(exist_ok=True)
    if made.shape:
        for name, source in made.tree.splits.items():
            _lay_out(made.folder / f"{name}.npy", (len(source), *made.shape))


def _check_same(made: PackPlan, identity: Any) -> None:
    if identity != made.identity():
        raise bad_path(
            made.folder,
            "holds an unfinished pack of other images, --format or --size",
            "remove it, or choose another place",
        )


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _lay_out(path: Path, shape: tuple[int, ...]) -> None:
    """A .npy of its full length, with nothing but its header written; one that is there stays."""
    header = _header(shape)
    with path.open("ab"), path.open("r+b") as file:
        file.write(header)
        file.truncate(len(header) + int(np.prod(shape)))


def _check_room(made: PackPlan, jobs: Sequence[ShardJob]) -> None:
    missing = sum(len(job.source) for job in jobs if not job.record.exists())
    place = next(place for place in made.folder.absolute().parents if place.exists())
    needed, free = made.bytes * missing // made.images, shutil.disk_usage(place).free
    if needed > free:
        raise bad_path(
            made.dest, f"needs {needed:,} bytes and {free:,} are free in {place}", "make room, or choose another place"
        )


def _jobs(made: PackPlan) -> Iterator[ShardJob]:
    for name, source in made.tree.splits.items():
        per = min(SHARD, max(MIN_SHARD, -(-len(source) // PARTS)))
        header = len(_header((len(source), *made.shape))) if made.shape else 0
        row = int(np.prod(made.shape)) if made.shape else 0
        for number, start in enumerate(range(0, len(source), per)):
            part = source.part(start, min(start + per, len(source)))
            place = header + start * row
            yield ShardJob(made.folder, name, number, start, part, made.format, made.size, made.shape, place)


def _make(jobs: Sequence[ShardJob], workers: int, made: PackPlan) -> Iterator[int]:
    """The images of each part, as it is finished. One worker is this process."""
    if workers == 1 or len(jobs) <= 1:
        yield from map(make_part, jobs)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn"), initializer=begin_process
    )
    waiting, running = iter(jobs), set[Future[int]]()
    try:
        while True:
            for job in itertools.islice(waiting, 2 * workers - len(running)):
                running.add(pool.submit(make_part, job))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool:
        raise UserError(
            f"a process that packs for {made.dest} was killed (was memory short?)",
            "the same command resumes it; try fewer --workers",
            value=made.dest,
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _describe(made: PackPlan, jobs: Sequence[ShardJob]) -> None:
    """From the records of all parts to the index, the quarantine and, last of all, the description."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in made.tree.splits}
    for job in jobs:
        record = read_record(job)
        if record is None:
            raise bad_path(job.record, "changed while it was being read", "start the same command again")
        records[job.split].append(record)
    indexes = {name: np.concatenate([record["rows"] for record in found]) for name, found in records.items()}
    quarantine = [(name, *row) for name, found in records.items() for record in found for row in record["quarantine"]]
    values = {
        "format": made.format,
        "size": made.size if made.size is not None else made.tree.size,
        "classes": list(made.tree.classes),
        "splits": {name: {"parts": [record["part"] for record in found]} for name, found in records.items()},
        "plan": made.identity(),
    }
    write_manifest(made.folder, values, indexes, quarantine)


def _publish(made: PackPlan) -> Pack:
    """Check the pack, remove what only the making needed, and give the folder its name."""
    try:
        _check_same(made, read_manifest(made.folder).get("plan"))
        read_pack(made.folder)
    except UserError as error:
        raise UserError(error.problem, f"remove {made.folder}, and pack the images again", value=made.folder) from None
    shutil.rmtree(made.folder / RECORDS, ignore_errors=True)
    for name in ("plan.json", ".lock"):
        (made.folder / name).unlink(missing_ok=True)
    made.folder.replace(made.dest)
    return read_pack(made.dest)
