"""`rethink-fast pack`: make a pack, or check one, and show what is in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.table import Table

from .. import kernels
from ..config import PATH
from ..data import pack_format, pack_verify
from ..data.pack_format import Pack
from ..env import cores
from ..errors import UserError, in_range
from ..output import print_json
from ..pack import write
from ..terminal import LiveLine, Terminal, number_table
from ..text import duration, format_bytes

LISTED = 10
"""Unreadable images that are printed; all are in the pack's unreadable.csv."""


def pack(
    src: Annotated[Path | None, PATH] = None,
    dest: Annotated[Path | None, PATH] = None,
    /,
    *,
    verify: Annotated[Path | None, PATH] = None,
    format: Literal["jpeg", "npy"] = "jpeg",
    size: int | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Convert an image tree once into verified shards, with permanent sample indices, that train at full speed.

    The same command resumes a run that was stopped. Then: rethink-fast bench imagenet --data DEST

    Parameters
    ----------
    src:
        A folder with train/CLASS and val/ or test/, any folder of class folders, or a pack in jpeg format.
    dest:
        The pack, a folder that appears once it is whole.
    verify:
        Only check the bytes of this pack.
    format:
        jpeg: tar shards in the WebDataset convention; npy: decoded images in one .npy file per split.
    size:
        Bring the images to this height and width, as for the run. Default: as they are, jpeg with the bytes they have.
    workers:
        Processes. Default: the number of cores.
    json:
        Print what is in the pack as JSON on stdout, and everything else on stderr.
    """
    screen = LiveLine(Terminal(stderr=json))
    processes = min(cores(), 1024) if workers is None else in_range("--workers", workers, 1, 1024)
    if verify is not None:
        if src is not None:
            raise UserError(f"--verify {verify} only checks a pack", f"omit {src}", option="--verify", value=verify)
        packed = check(verify, workers=processes, screen=screen)
    elif src is None or dest is None:
        raise UserError("pack needs SRC and DEST", "give both, or --verify DEST", option="DEST", value=dest)
    else:
        packed = make(src, dest, format=format, size=size, workers=processes, screen=screen)
    return print_json(as_dict(packed)) if json else 0


def make(src: Path, dest: Path, *, format: str, size: int | None, workers: int, screen: LiveLine) -> Pack:
    """Write a pack; print a plan first and a table last.

    src: an image tree, or a pack in jpeg format.
    dest: the pack.
    format: jpeg or npy.
    size: height and width of the images in pixels; None keeps them.
    workers: processes.
    Raises UserError.
    """
    start = time.perf_counter()
    plan = write.plan(src, dest, format=format, size=size)
    counts = " and ".join(f"{len(source):,} {name}" for name, source in plan.tree.splits.items())
    at = f"at {size} px" if size is not None else "as they are"
    needed = f"{'' if plan.exact else 'about '}{format_bytes(plan.bytes)}"
    screen.print(f"{counts} images, {len(plan.tree.classes):,} classes, from {src}")
    for line in plan.tree.notes:
        screen.print(line)
    slow = kernels.slow(torch.device("cpu"))
    if slow is not None:
        screen.print(slow)
    screen.print(f"format {format}, {at}: {needed} will be written to {dest}")
    try:
        with screen:
            pack = write.write(plan, workers=workers, progress=screen.count, note=screen.print)
    except KeyboardInterrupt:
        screen.print(f"stopped: {plan.folder} is kept, and the same command resumes it")
        raise
    screen.print(f"packed in {duration(time.perf_counter() - start)}: {dest}")
    screen.console.print(_table(pack))
    for name, split in (("train", pack.train), ("test", pack.test)):
        for sample, file, reason in split.quarantine[:LISTED] if split else ():
            screen.print(f"quarantined: {name} sample {sample}, {file} ({reason})")
    return pack


def check(path: Path, *, workers: int, screen: LiveLine) -> Pack:
    """Read every byte of a pack and compare its checksums.

    Raises UserError, which names what is damaged.
    """
    start = time.perf_counter()
    pack = pack_format.read_pack(path)
    with screen:
        count = pack_verify.verify(pack, workers=workers, progress=screen.count)
    seconds = time.perf_counter() - start
    screen.print(f"{path} is whole: {format_bytes(count)} checked in {duration(seconds)}")
    screen.console.print(_table(pack))
    return pack


def as_dict(pack: Pack) -> dict[str, object]:
    """Return a pack as plain values, for --json."""
    splits = {"train": pack.train, "test": pack.test}
    return {
        "path": str(pack.path),
        "format": pack.format,
        "size": pack.size,
        "classes": len(pack.classes),
        "splits": {
            name: {
                "samples": len(split.index),
                "files": len(split.files),
                "bytes": sum(part.bytes for part in split.parts),
                "quarantine": [list(row) for row in split.quarantine],
            }
            for name, split in splits.items()
            if split is not None
        },
        "sha256": pack.sha256,
    }


def _table(pack: Pack) -> Table:
    table = number_table("split", "samples", "quarantined", "files", "bytes")
    for name, split in (("train", pack.train), ("test", pack.test)):
        if split is not None:
            count = sum(part.bytes for part in split.parts)
            row = (len(split.index), len(split.quarantine), len(split.files), count)
            table.add_row(name, *(f"{value:,}" for value in row))
    return table
