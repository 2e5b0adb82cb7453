"""The one error that is the user's to mend, and the one that says that somebody stopped the run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, float)


class UserError(ValueError):
    """Bad input: one line that names the value, what is allowed and what to do. The command line exits with 2."""


class Interrupted(Exception):
    """Raised by a check when somebody asked the run to stop."""


def one_of(what: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is among `allowed`; else raise a UserError that lists them and suggests the nearest."""
    names = list(allowed)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{what} {value!r} is unknown: choose one of {', '.join(names)}.{hint}")


def in_range(what: str, value: T, least: float, most: float) -> T:
    """Return `value` if least <= value <= most; else raise a UserError that states the range."""
    if least <= value <= most:  # not NaN
        return value
    raise UserError(f"{what} {value} is out of range: choose one in [{_bound(least)}, {_bound(most)}].")


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
