"""Results by what made them: a folder for each task, named by the hash of everything that its numbers depend on.

cache.json is written last. It has the identity that was hashed and the checksums of the result's files, so that an
entry that was cut short, changed or made under another contract is noticed and made again.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..config import affecting
from ..data import Dataset, Resident
from ..data.digest import digest_all, digest_some
from ..data.source import Split
from ..experiments.declare import Computation, Result, Task
from ..rng import CONTRACT_VERSION
from .record import SCHEMA_VERSION, write_json

FILES = ("config.json", "curve.csv", "labels.npz", "result.json")


def data_identity(dataset: Dataset) -> str:
    """A hash of the samples that take part: of all their pixels where they are at hand, else of some and the source."""
    digest = hashlib.sha256(f"{dataset.name} {dataset.num_classes}".encode())
    for split in (dataset.train, dataset.test):
        if split is not None:
            _add(digest, split, dataset.data_source)
    return digest.hexdigest()[:16]


def _add(digest: Any, split: Split, source: str) -> None:
    digest.update(split.index.numpy().tobytes())
    digest.update(split.labels[split.index].numpy().tobytes())
    if isinstance(split.images, Resident):
        digest.update(digest_all(split).encode())
    else:
        digest.update(f"{source} {split.images.shape} {digest_some(split)}".encode())


def identity(task: Task, data: str, device: torch.device) -> dict[str, Any]:
    """Everything that the numbers of a task depend on, as plain values. task: resolved, if it is a run.

    data: from data_identity.
    """
    common = {"contract_version": CONTRACT_VERSION, "schema": SCHEMA_VERSION, "data": data, "device": device.type}
    if isinstance(task, Computation):
        return {**common, "computation": asdict(task)}
    return {**common, "run": {"dataset": task.dataset, **affecting(task, "results", "length")}}


def key_of(identity: dict[str, Any]) -> str:
    """The name of the folder of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(folder: Path, identity: dict[str, Any]) -> None:
    """Mark what a folder holds as whole."""
    present = [name for name in FILES if (folder / name).is_file()]
    write_json(
        folder / "cache.json", {"identity": identity, "files": {name: _checksum(folder / name) for name in present}}
    )


def load(folder: Path, identity: dict[str, Any]) -> Result | None:
    """The result in a folder; None where there is none. Raises ValueError where it is not whole, saying why."""
    if not (folder / "cache.json").is_file():
        return None
    try:
        seal = json.loads((folder / "cache.json").read_text())
        # through JSON, as the file has been: tuples become lists
        if seal["identity"] != json.loads(json.dumps(identity)):
            raise ValueError("it is of another configuration or contract version")
        for name, checksum in seal["files"].items():
            if _checksum(folder / name) != checksum:
                raise ValueError(f"{name} was changed")
        record = json.loads((folder / "result.json").read_text())
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return Result(record, read_curve(folder / "curve.csv"))


def read_curve(path: Path) -> tuple[dict[str, float | None], ...]:
    """The rows of a curve.csv; none where there is no such file."""
    if not path.is_file():
        return ()
    with path.open(newline="") as file:
        return tuple(
            {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)
        )
