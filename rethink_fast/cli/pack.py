"""`rethink-fast pack`: what a person sees of the making and of the checking of a pack."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from .. import kernels
from ..bench.console import PLAIN_SECONDS
from ..data import pack_format
from ..data.pack_format import Pack
from ..pack import write
from ..text import duration, format_bytes

LISTED = 10
"""Quarantined images that are named on the screen; all are in the pack's unreadable.csv."""


def make(src: Path, dest: Path, *, format: str, size: int | None, workers: int, console: Console) -> Pack:
    """Make a pack, with a plan first and a table last. Raises UserError."""
    start = time.perf_counter()
    plan = write.plan(src, dest, format=format, size=size)
    counts = " and ".join(f"{len(source):,} {name}" for name, source in plan.tree.splits.items())
    at = f"at {size} px" if size is not None else "as they are"
    needed = f"{'' if plan.exact else 'about '}{format_bytes(plan.bytes)}"
    _say(console, f"{counts} images, {len(plan.tree.classes):,} classes, from {src}")
    for line in plan.tree.notes:
        _say(console, line)
    slow = kernels.slow(torch.device("cpu"))
    if slow is not None:
        _say(console, slow)
    _say(console, f"format {format}, {at}: {needed} will be written to {dest}")
    try:
        with Bar(console) as bar:
            pack = write.write(plan, workers=workers, progress=bar.show, note=partial(_say, console))
    except KeyboardInterrupt:
        _say(console, f"stopped: {plan.folder} is kept, and the same command goes on from there")
        raise
    _say(console, f"packed in {duration(time.perf_counter() - start)}: {dest}")
    console.print(_table(pack))
    for name, split in (("train", pack.train), ("test", pack.test)):
        for sample, file, reason in split.quarantine[:LISTED] if split else ():
            _say(console, f"quarantined: {name} sample {sample}, {file} ({reason})")
    return pack


def check(path: Path, *, workers: int, console: Console) -> Pack:
    """Read every byte of a pack and compare its checksums. Raises UserError that names what is damaged."""
    start = time.perf_counter()
    pack = pack_format.read_pack(path)
    with Bar(console) as bar:
        count = pack_format.verify(pack, workers=workers, progress=bar.show)
    seconds = time.perf_counter() - start
    _say(console, f"{path} is whole: {format_bytes(count)} checked in {duration(seconds)}")
    console.print(_table(pack))
    return pack


def as_dict(pack: Pack) -> dict[str, object]:
    """A pack as plain values, for --json."""
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


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True)


def _table(pack: Pack) -> Table:
    table = Table("split", header_style="bold")
    for column in ("samples", "quarantined", "files", "bytes"):
        table.add_column(column, justify="right")
    for name, split in (("train", pack.train), ("test", pack.test)):
        if split is not None:
            count = sum(part.bytes for part in split.parts)
            row = (len(split.index), len(split.quarantine), len(split.files), count)
            table.add_row(name, *(f"{value:,}" for value in row))
    return table


class Bar:
    """Progress with the time to come: a bar in a terminal, elsewhere a line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = self._last = time.perf_counter()
        self._first: int | None = None
        self._task: TaskID | None = None
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """How far it has come. The time to come is that of what this process has done itself."""
        now = time.perf_counter()
        if self._first is None:
            self._first, self._start = done, now
        spent, here = now - self._start, done - self._first
        left = f", {duration(spent / here * (total - done))} to come" if here and spent > 0 else ""
        text = f"{done:,} of {total:,}{left}"
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total, text=text)
            self._bar.update(self._task, completed=done, text=text)
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            _say(self._console, f"{what}: {text}")
