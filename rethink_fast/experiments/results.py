"""reproduction.json: everything that a report says, as plain values. Several commands on one folder add up in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..env import environment
from ..errors import UserError
from ..files import write_json, writing
from ..rng import CONTRACT_VERSION
from . import EXPERIMENTS, Scale
from .reproduction import REPRODUCTION, SCHEMA_VERSION, read
from .spec import Result
from .verdicts import VERDICTS

MUST_MATCH = ("schema", "contract_version", "scale", "seeds")
"""What two reproductions must have in common to stand in one report."""
NOT_REPORTED = ("profile", "compile", "measures", "pairs", "self_pair", "at_least")
"""Keys of a run's record that a report omits."""


def describe_task(what: str, result: Result | str | None) -> dict[str, Any]:
    """Return what a report needs of a task: its name, status, and record.

    what: the task in one line.
    result: its result; in words why it failed; None if it has not run.
    """
    if result is None:
        return {"what": what, "status": "not run", "record": None}
    if isinstance(result, str):
        return {"what": what, "status": f"failed: {result}", "record": None}
    record = {name: value for name, value in result.record.items() if name not in NOT_REPORTED}
    return {"what": what, "status": "done", "record": record}


def summary(scale: Scale, seeds: int, experiments: dict[str, Any], runs: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of reproduction.json.

    experiments: as judged, by name.
    runs: of each task as `describe_task` returns it, by the name of its folder.
    """
    return {
        "schema": SCHEMA_VERSION,
        "contract_version": CONTRACT_VERSION,
        "scale": {"name": scale.name, "words": scale.words, "deviations": list(scale.deviations)},
        "seeds": seeds,
        "verdicts": VERDICTS,
        "experiments": experiments,
        "runs": runs,
        "environment": environment(),
    }


def keep(folder: Path, values: dict[str, Any]) -> None:
    """Write reproduction.json, with the experiments that an earlier command left there if they are of one kind.

    folder: of the reproduction.
    values: from `summary`.
    Raises UserError where it cannot be written.
    """
    path, runs = folder / REPRODUCTION, folder / "runs"
    with writing(path, f"the results are kept in {runs}: make room, and give the same command again"):
        write_json(path, _with_earlier(folder, values))


def _with_earlier(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    try:
        earlier = read(folder)
        both = {**earlier["experiments"], **values["experiments"]}
        runs = {**earlier["runs"], **values["runs"]}
    except (UserError, KeyError, TypeError):
        return values
    if any(earlier.get(name) != values[name] for name in MUST_MATCH):
        return values
    return {**values, "experiments": {name: both[name] for name in EXPERIMENTS if name in both}, "runs": runs}
