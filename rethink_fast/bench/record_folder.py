"""The folder of one run: who may write in it, and its files, each of which is whole at every moment.

config.json, labels.npz    the configuration, and the labels before and after; written at the start
metrics.csv, result.json     a row for each epoch, and the record; replaced as the run goes on
.lock                      held by the process that owns the folder; its lock goes with that process
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..crash import TRACEBACK
from ..defaults import ResolvedRun, affecting
from ..errors import UserError
from ..files import open_regular, read_bytes, to_json, write_atomic, write_json
from ..owned_folder import OwnedFolder
from ..schema import BadFile, Each, read, shown
from ..train.checkpoint import Checkpoints
from ..train.setup import RunContext
from ..train.state import EpochMetrics
from ..train.weights import MODEL, WEIGHTS
from .record import RUN_SHAPE
from .tensorboard import EVENTS

FILES = ("config.json", "metrics.csv", "labels.npz", "result.json")
CURVES = ("train_loss", "train_accuracy", "test_accuracy", "clean_accuracy", "corrupted_accuracy")
"""Columns of metrics.csv that a report draws, each as COLUMN.svg."""
KNOWN = (
    *(*FILES, WEIGHTS, MODEL, "trace.json", "profile.png", "profile.svg", "measures.json", "report.md", "report.html"),
    EVENTS,
    *(f"{column}.svg" for column in CURVES),
)
MAX_CURVE_BYTES = 2**28
ENDS = {
    "target_reached": ("it reached its goal", "to run it again, choose another folder by --out"),
    "max_epochs": ("its epochs are used up", "give more by --epochs to resume"),
    "non_finite_loss": ("its loss was not finite", "it would end so again; choose a smaller --lr and another --out"),
}
"""Why a run has ended, and what to do, by the record's "stop_reason"."""
CONFIG_SHAPE = {"dataset": str, **dict.fromkeys(("data", "corruption", "model", "train"), Each())}


class RecordFolder(OwnedFolder):
    """The folder of one run, or the one around those of several seeds.

    path: the folder.
    resumed: whether it must exist; else a folder that has a run is refused.
    made: as of OwnedFolder.
    kept (attribute): whether the last record is on the disk.
    Raises UserError.
    """

    def __init__(self, path: Path, *, resumed: bool = False, made: Sequence[Path] = ()) -> None:
        self.kept = True
        if resumed and not path.is_dir():
            raise _cannot_resume(path, "is not a folder", "name the folder of a run, such as runs/DATE-TIME-...")
        super().__init__(path, "--resume" if resumed else "--out", made=made)
        if not resumed and ((path / "result.json").exists() or Checkpoints(path).exist()):
            self.close()
            raise UserError(
                f"--out {path} holds a record already",
                f"choose another folder, remove that one, or resume it by --resume {path}",
                option="--out",
                value=path,
            )

    def begin(self, setup: RunContext, rows: list[EpochMetrics], record: Mapping[str, Any]) -> None:
        """Write all four files; a file that already has this content stays.

        Raises UserError where the disk takes no more, and removes what this call has written to a new run.
        """
        before = set(os.listdir(self.path))
        try:
            self._keep("config.json", to_json(setup.run.as_dict()).encode() + b"\n")
            self._keep("labels.npz", _labels(setup))
            self.keep(rows, record)
        except OSError as error:
            for name in FILES:
                if name not in before:
                    with suppress(OSError):
                        (self.path / name).unlink(missing_ok=True)
            raise UserError(
                f"{self.path} cannot be written ({error.strerror})",
                "make room, or choose another folder by --out",
                option="--out",
                value=self.path,
            ) from None

    def keep(self, rows: list[EpochMetrics], record: Mapping[str, Any]) -> None:
        """Replace the curve and the record. Raises OSError, and leaves what was there."""
        self._keep("metrics.csv", curve(rows))
        self.write("result.json", record)

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a JSON file. Raises OSError, and leaves what was there."""
        write_json(self.path / name, values)

    def _keep(self, name: str, content: bytes) -> None:
        with suppress(OSError):
            if read_bytes(self.path / name, limit=len(content)) == content:
                return
        write_atomic(self.path / name, content)

    def record(self) -> dict[str, Any] | None:
        """Return the record; None where it is absent or torn. Raises UserError for content that does not fit."""
        return _or_none(lambda: read(self.path / "result.json", RUN_SHAPE, "restore it, or choose another folder"))

    def finished(self, run: ResolvedRun) -> dict[str, Any] | None:
        """Return the record of a run that has ended, with no more epochs to come; else None.

        run: resolved, to be compared with the one in the folder.
        Raises UserError if the folder is another run's.
        """
        record = self.record()
        if record is None or record["interrupted"]:
            return None
        if record["stop_reason"] == "max_epochs" and record["epochs"] < run.train.epochs:
            return None
        self._compare(run)
        return record

    def has_checkpoint(self, run: ResolvedRun) -> bool:
        """Return whether a run that is resumed here has a checkpoint; if not, it may start over here.

        run: resolved, to be compared with the one in the folder.
        Raises UserError if the folder has another run, a finished one, or none.
        """
        foreign = sorted(
            name for name in os.listdir(self.path) if name not in KNOWN and not name.startswith((".", TRACEBACK))
        )
        if foreign and foreign[0].startswith("seed-"):
            raise _cannot_resume(self.path, "holds runs with several seeds", "give --seeds as at its start")
        finished = self.finished(run)
        if finished is not None:
            why, advice = ENDS[finished["stop_reason"]]
            raise _cannot_resume(self.path, f"is a finished run, {why} after {finished['epochs']} epochs", advice)
        if Checkpoints(self.path).exist():
            return True
        record = self.record()
        if record is not None and not record["interrupted"]:
            raise _cannot_resume(
                self.path, "is a finished run without a checkpoint", "to run it again, choose another folder by --out"
            )
        if not self._compare(run) and foreign:
            raise _cannot_resume(
                self.path, f"is not a run's folder, for it holds {shown(foreign[0])}", "name the folder of a run"
            )
        return False

    def _compare(self, run: ResolvedRun) -> bool:
        """Return whether there is a whole config.json. Raises UserError if it is another run's."""
        config = _or_none(lambda: read(self.path / "config.json", CONFIG_SHAPE, "restore it, or choose another folder"))
        differing = differences(config, run) if config is not None else []
        if differing:
            raise _cannot_resume(
                self.path,
                f"is another run ({'; '.join(differing)})",
                "give the options it was started with, or choose another folder by --out",
            )
        return config is not None


def _cannot_resume(path: Path, problem: str, fix: str) -> UserError:
    return UserError(f"--resume {path} {problem}", fix, option="--resume", value=path)


def _or_none(load: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return load()
    except BadFile as error:
        if not error.torn:
            raise
        return None


def differences(config: Mapping[str, Any], run: ResolvedRun) -> list[str]:
    """Return, in words, the options in a config.json that affect the results and are not those of a run."""
    sections = ("data", "corruption", "model", "train")
    theirs = {"dataset": config["dataset"], **{k: v for each in sections for k, v in config[each].items()}}
    ours = {"dataset": run.dataset, **affecting(run, "results")}
    if run.train.schedule != "exponential":
        ours["epochs"] = run.train.epochs
    return [
        f"{name.replace('_', ' ')} {shown(theirs.get(name))} there, {shown(value)} here"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]


def curve(rows: list[EpochMetrics]) -> bytes:
    """Return the text of metrics.csv: empty where a value was not measured; else a number, nan, inf or -inf."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(field.name for field in fields(EpochMetrics))
    writer.writerows(["" if value is None else value for value in asdict(row).values()] for row in rows)
    return file.getvalue().encode()


def read_curve(path: Path) -> tuple[dict[str, float | None], ...]:
    """Read a metrics.csv, and return a dict for each row. What is empty or not finite is None.

    Raises OSError, or ValueError where it is no table of numbers.
    """
    with open_regular(path) as file:
        content = file.read(MAX_CURVE_BYTES + 1)
    if len(content) > MAX_CURVE_BYTES:
        raise ValueError(f"it has more than {MAX_CURVE_BYTES:,} bytes")
    try:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    head = rows[0] if rows else []
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} of {len(head)} cells")
    return tuple(dict(zip(head, map(_number, row), strict=True)) for row in rows[1:])


def _number(word: str) -> float | None:
    value = float(word) if word else math.nan
    return value if math.isfinite(value) else None


def _labels(setup: RunContext) -> bytes:
    index = setup.dataset.train.index
    classes = np.uint16 if setup.dataset.num_classes <= 2**16 else np.uint32
    file = io.BytesIO()
    np.savez_compressed(
        file,
        index=index.numpy(),
        original=setup.original[index].numpy().astype(classes),
        label=setup.labels[index].numpy().astype(classes),
        corrupted=setup.corrupted[index].numpy(),
    )
    return file.getvalue()
