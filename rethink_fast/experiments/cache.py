"""Results by what made them: a folder for each task, named by the hash of everything that its numbers depend on.

cache.json is written last. It has the identity that was hashed and the checksums of the result's files, so that an
entry that was cut short, changed or made under another contract is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..bench.record import RUN_SHAPE, SCHEMA_VERSION
from ..bench.record_folder import FILES, read_curve
from ..defaults import affecting
from ..files import read_bytes, to_json, write_json
from ..rng import CONTRACT_VERSION
from ..schema import BadFile, Each, Maybe, read
from .spec import ResolvedTask, Result, TheoryTask

SEAL = "cache.json"
SEAL_SHAPE = {"identity": Each(), "files": {name: str if name == "result.json" else Maybe(str) for name in FILES}}


def identity(task: ResolvedTask, data: str, device: torch.device) -> dict[str, Any]:
    """Return everything that the numbers of a task depend on, as plain values.

    task: with every default filled in.
    data: from `data.digest.data_identity`.
    device: of which the type counts.
    """
    common = {"contract_version": CONTRACT_VERSION, "schema": SCHEMA_VERSION, "data": data, "device": device.type}
    if isinstance(task, TheoryTask):
        return {**common, "computation": asdict(task)}
    return {**common, "run": {"dataset": task.dataset, **affecting(task, "results", "length")}}


def _checksum(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def mark_complete(folder: Path, identity: dict[str, Any]) -> None:
    """Mark what a folder holds as whole. Raises OSError."""
    present = [name for name in FILES if (folder / name).is_file()]
    write_json(folder / SEAL, {"identity": identity, "files": {name: _checksum(folder / name) for name in present}})


def load(folder: Path, identity: dict[str, Any]) -> Result | None:
    """Return the result in a folder; None where there is none.

    Raises ValueError, with the reason, where it is not whole or of another identity.
    """
    if not (folder / SEAL).exists():
        return None
    try:
        seal = read(folder / SEAL, SEAL_SHAPE, "")
        # through JSON, as the file has been: tuples become lists
        if seal["identity"] != json.loads(to_json(identity)):
            raise ValueError("it is of another configuration or contract version")
        for name in FILES:
            if seal["files"][name] is not None and _checksum(folder / name) != seal["files"][name]:
                raise ValueError(f"{name} was changed")
        is_run = "run" in identity
        record = read(folder / "result.json", RUN_SHAPE if is_run else Each(), "")
        return Result(record, read_curve(folder / "metrics.csv") if seal["files"]["metrics.csv"] is not None else ())
    except BadFile as error:
        raise ValueError(f"{error.path.name} {error.why}") from None
    except OSError as error:
        raise ValueError(f"{error.filename or folder}: {error.strerror}") from None
