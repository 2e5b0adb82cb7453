"""The command line within the test's process, a small run, and its files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rethink_fast.bench.record_folder import FILES
from rethink_fast.cli.app import main
from rethink_fast.owned_folder import LOCK

SMALL = [
    *("bench", "mnist", "--data", "synthetic", "--max-samples", "60", "--batch-size", "20"),
    *("--device", "cpu", "--compile", "off", "--target-accuracy", "1", "--lr", "1e-4"),
]
EPOCHS = [*SMALL, "--epochs", "6"]


def cli(*words: str | Path) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def refused(capfd: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run a command that must fail with 2 and one line on stderr, and return the line."""
    capfd.readouterr()
    assert cli(*words) == 2
    err = capfd.readouterr().err
    assert err.startswith("rethink-fast: ")
    assert err.count("\n") == 1, err
    return err


def load(folder: Path) -> dict[str, Any]:
    """Return a run's result.json, which must be JSON by the standard."""
    record: dict[str, Any] = json.loads((folder / "result.json").read_text(), parse_constant=pytest.fail)
    return record


def changed(name: str, value: str) -> list[str]:
    """The words of EPOCHS with another value of an option."""
    place = EPOCHS.index(name) + 1
    return [*EPOCHS[:place], value, *EPOCHS[place + 1 :]]


def losses(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["online_loss"] for row in csv.DictReader(file)]


def check_whole(folder: Path) -> None:
    """Every file of a run can be read."""
    json.loads((folder / "config.json").read_text())
    assert len(losses(folder)) == load(folder)["epochs"]
    with np.load(folder / "labels.npz") as labels:
        assert len(labels["index"]) == 60
    assert not list(folder.glob(".*partial"))


def fill(place: Path, *, free: int = 0) -> Path:
    """Leave so many bytes free."""
    room = os.statvfs(place)
    size = room.f_bavail * room.f_frsize - free
    (place / "filler").write_bytes(bytes(size))
    return place / "filler"


# Starting over


def unstarted(unbroken: Path, folder: Path, **changes: bytes | None) -> Path:
    """What a run leaves that was killed before its first checkpoint. changes: other contents of files; None: none."""
    shutil.copytree(unbroken, folder)
    for path in folder.glob("*checkpoint*"):
        path.unlink()
    for path in folder.iterdir():
        if path.name not in FILES:
            path.unlink()
    record = {**load(folder), "interrupted": True, "stop_reason": "interrupted", "epochs": 0}
    (folder / "result.json").write_text(json.dumps(record))
    (folder / LOCK).touch()
    (folder / ".result.json.123.partial").write_text("{")
    for name, content in changes.items():
        path = folder / f"{name}.json" if name != "labels" else folder / "labels.npz"
        path.unlink() if content is None else path.write_bytes(content)
    return folder
