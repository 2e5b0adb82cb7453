"""Writing a pack: its plan, its shards in many processes, and the last step that puts it in place.

    DEST.partial/plan.json, .lock      what is being written, and by which process
    DEST.partial/parts/...json         a record of each finished shard
    DEST.partial/*.tar or *.npy        their bytes
    DEST                               is there once it is whole

A run that was stopped, however it was, is resumed by the same command.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pack_format import MANIFEST, Pack, read_manifest, read_pack, write_manifest
from ..data.source import Progress
from ..errors import UserError, bad_path
from ..files import lock, read_json, remove_partial, write_atomic
from .plan import PackPlan, npy_header, plan
from .worker import RECORDS, ShardJob, begin_process, make_part, read_record

__all__ = ["PackPlan", "plan", "write"]


def write(
    plan: PackPlan, *, workers: int, progress: Progress | None, note: Callable[[str], None] | None = None
) -> Pack:
    """Write the pack of a plan, or resume it, and return it.

    workers: processes that decode and encode.
    note: called with a line for the user.
    Raises UserError, also where the disk lacks the bytes: what is written by then stays, and the next call resumes it.
    """
    jobs = list(plan.jobs())
    missing = sum(len(job.source) for job in jobs if not job.record.exists())
    check_room(plan.dest, plan.bytes * missing // plan.images)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with locked(plan.folder, note):
            if not (plan.folder / MANIFEST).exists():
                _resume_or_start(plan)
                _make_all(plan, jobs, workers, progress)
                _describe(plan, jobs)
            return _publish(plan)
    except OSError as error:
        raise bad_path(
            plan.dest,
            f"cannot be written ({error.strerror})",
            f"make room, or choose another place; what is made so far is in {plan.folder}, and the same command "
            "resumes it",
        ) from None


@contextmanager
def locked(folder: Path, note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the folder for this process, until it ends, however it ends."""
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


def _make_all(plan: PackPlan, jobs: Sequence[ShardJob], workers: int, progress: Progress | None) -> None:
    """Make every shard that is not there yet."""
    missing = [job for job in jobs if read_record(job) is None]
    for job in missing:
        with suppress(FileNotFoundError):
            job.record.unlink()
    total = plan.images
    done = total - sum(len(job.source) for job in missing)
    for images in _make(missing, workers, plan):
        done += images
        if progress is not None:
            progress("packing images", done, total)


def _resume_or_start(plan: PackPlan) -> None:
    """Check what another run left in the folder, or begin with an empty one."""
    plan_file = plan.folder / "plan.json"
    if plan_file.exists():
        try:
            identity = read_json(plan_file)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            fix = f"remove {plan.folder}, or choose another place"
            raise bad_path(plan_file, f"cannot be read ({why})", fix) from None
        _check_same(plan, identity)
        remove_partial(plan.folder)
        remove_partial(plan.folder / RECORDS)
    else:
        strangers = sorted(path.name for path in plan.folder.iterdir() if not path.name.startswith("."))
        if strangers:
            raise bad_path(plan.folder, f"holds {strangers[0]} and no plan.json", "remove it, or choose another place")
        write_atomic(plan_file, json.dumps(plan.identity()))
    (plan.folder / RECORDS).mkdir(exist_ok=True)
    if plan.shape:
        for name, source in plan.tree.splits.items():
            _lay_out(plan.folder / f"{name}.npy", (len(source), *plan.shape))


def _check_same(plan: PackPlan, identity: Any) -> None:
    if identity != plan.identity():
        problem = "holds an unfinished pack of other images, --format or --size"
        raise bad_path(plan.folder, problem, "remove it, or choose another place")


def _lay_out(path: Path, shape: tuple[int, ...]) -> None:
    """Give a .npy its header and its full length. Not open_memmap: the rows of a file that is there must stay."""
    header = npy_header(shape)
    with path.open("ab"), path.open("r+b") as file:
        file.write(header)
        file.truncate(len(header) + int(np.prod(shape)))


def check_room(dest: Path, needed: int) -> None:
    """Raise UserError where the disk of a folder that is to be made lacks these bytes."""
    folder = next(folder for folder in dest.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        problem = f"needs {needed:,} bytes and {free:,} are free in {folder}"
        raise bad_path(dest, problem, "make room, or choose another place")


def _make(jobs: Sequence[ShardJob], workers: int, plan: PackPlan) -> Iterator[int]:
    """The number of images of each shard, as it is finished. One worker is this process."""
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
        problem = f"a process that packs for {plan.dest} was killed (was memory short?)"
        raise UserError(problem, "the same command resumes it; try fewer --workers", value=plan.dest) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _describe(plan: PackPlan, jobs: Sequence[ShardJob]) -> None:
    """Write the index, the quarantine and, last of all, the manifest, from the records of all shards."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.tree.splits}
    for job in jobs:
        record = read_record(job)
        if record is None:
            raise bad_path(job.record, "changed while it was being read", "start the same command again")
        records[job.split].append(record)
    indexes = {name: np.concatenate([record["rows"] for record in each]) for name, each in records.items()}
    quarantine = [(name, *row) for name, each in records.items() for record in each for row in record["quarantine"]]
    values = {
        "format": plan.format,
        "size": plan.size if plan.size is not None else plan.tree.size,
        "classes": list(plan.tree.classes),
        "splits": {name: {"parts": [record["part"] for record in each]} for name, each in records.items()},
        "plan": plan.identity(),
    }
    write_manifest(plan.folder, values, indexes, quarantine)


def _publish(plan: PackPlan) -> Pack:
    """Check the pack, remove what only its writing needed, and give the folder its name."""
    try:
        _check_same(plan, read_manifest(plan.folder).get("plan"))
        read_pack(plan.folder)
    except UserError as error:
        raise UserError(error.problem, f"remove {plan.folder}, and pack the images again", value=plan.folder) from None
    shutil.rmtree(plan.folder / RECORDS, ignore_errors=True)
    for name in ("plan.json", ".lock"):
        (plan.folder / name).unlink(missing_ok=True)
    plan.folder.replace(plan.dest)
    return read_pack(plan.dest)
