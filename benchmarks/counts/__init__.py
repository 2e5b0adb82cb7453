"""What can be counted, and so needs no clock: `python -m benchmarks.counts [PART...] [--update]`.

Each part counts something and compares it with the committed <part>.json, exactly or within the part's stated margin.
Counts that depend on versions (of compilers, of torch) are only compared where those agree; where they do not, the part
says that it was not compared. A change that is meant is written with --update, and reviewed as the lines it changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rethink_fast.files import write_atomic

FOLDER = Path(__file__).resolve().parent


class Unavailable(Exception):
    """Why a part cannot be counted on this machine."""


@dataclass(frozen=True)
class Part:
    """versions: what the counts depend on, cheap to find. count: gives them, nested dicts of numbers, words and lists.

    margins: how far, relative to the committed value, a count may be off whose path ends in this word; else exact.
    """

    name: str
    what: str
    versions: Callable[[], dict[str, str | None]]
    count: Callable[[], dict[str, Any]]
    margins: dict[str, float] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"


@dataclass(frozen=True)
class CountOutcome:
    """What became of a part: "the same", "differs", "not compared" (with why in lines) or "written"."""

    part: Part
    said: str
    lines: tuple[str, ...] = ()


def flat(values: Any, path: str = "") -> dict[str, Any]:
    """Nested values by path, such as `mlp_1x512 / train / operators`."""
    if not isinstance(values, dict):
        return {path: values}
    return {k: v for key, value in values.items() for k, v in flat(value, f"{path} / {key}" if path else key).items()}


def differences(part: Part, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """One line for each count that is not as committed."""
    was, is_now = flat(expected), flat(found)
    lines = [f"{path}: {was[path]} is no longer counted" for path in was if path not in is_now]
    lines += [f"{path}: {is_now[path]} is new" for path in is_now if path not in was]
    for path in was:
        if path in is_now and not within(part, path, was[path], is_now[path]):
            change = (
                f" ({is_now[path] / was[path] - 1:+.1%})" if isinstance(was[path], int | float) and was[path] else ""
            )
            lines.append(f"{path}: {is_now[path]}, was {was[path]}{change}")
    return lines


def within(part: Part, path: str, was: Any, is_now: Any) -> bool:
    """Whether a count is as committed, as far as its margin goes."""
    margin = next((margin for word, margin in part.margins.items() if path.endswith(word)), 0.0)
    if not margin or not isinstance(was, int | float):
        return bool(was == is_now)
    return abs(is_now - was) <= margin * abs(was)


def check(part: Part, *, update: bool) -> CountOutcome:
    """Count a part and compare it, or write it."""
    try:
        versions = part.versions()
        stored: dict[str, Any] = json.loads(part.path.read_text()) if part.path.exists() else {"versions": None}
        if not update and stored["versions"] != versions:
            return CountOutcome(
                part, "not compared", (f"committed with {_said(stored['versions'])}, here {_said(versions)}",)
            )
        counts = part.count()
    except Unavailable as error:
        return CountOutcome(part, "not compared", (str(error),))
    if update:
        content = json.dumps({"versions": versions, "counts": counts}, indent=1, sort_keys=True, allow_nan=False)
        write_atomic(part.path, content + "\n")
        return CountOutcome(part, "written", (str(part.path),))
    lines = differences(part, stored["counts"], counts)
    return CountOutcome(part, "differs" if lines else "the same", tuple(lines))


def _said(versions: dict[str, str | None] | None) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if versions else "nothing"
