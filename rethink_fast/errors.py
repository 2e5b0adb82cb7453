"""Errors: bad input, which the user can fix, and a run that was asked to stop."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, float)


class UserError(ValueError):
    """Bad input, shown as one line. The command line exits with 2.

    problem: what is wrong, naming the value: "--lr 0 is out of range".
    fix: what to do: "choose one in [1e-12, 1e+06]". "" where the problem says it.
    option: the option or parameter at fault, as it is written: "--lr". "" where it is none.
    value: the value at fault, a path included.
    allowed: what is allowed, in words or as a list of choices. "" where that is open.
    """

    def __init__(
        self,
        problem: str,
        fix: str = "",
        *,
        option: str = "",
        value: object = None,
        allowed: str | tuple[str, ...] = "",
    ) -> None:
        line = f"{problem}: {fix}" if fix else problem
        super().__init__(line if not fix or line.endswith((".", "?")) else f"{line}.")
        self.problem, self.fix, self.option, self.value, self.allowed = problem, fix, option, value, allowed


def bad_path(path: object, problem: str, fix: str) -> UserError:
    """Return the UserError about a file or folder: "PATH PROBLEM: FIX."."""
    return UserError(f"{path} {problem}", fix, value=path)


def unreadable(path: object, error: Exception, fix: str = "check that it exists and can be read") -> UserError:
    """Return the UserError about a file or folder that cannot be read."""
    return bad_path(path, f"cannot be read ({getattr(error, 'strerror', None) or error})", fix)


class Interrupted(Exception):
    """Raised by a check when somebody asked the run to stop."""


def one_of(what: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is among `allowed`; else raise a UserError that lists them and suggests the nearest."""
    names = list(allowed)
    if value in names:
        return value
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    fix = f"choose one of {', '.join(names)}.{hint}"
    raise UserError(f"{what} {value!r} is unknown", fix, option=what, value=value, allowed=tuple(names))


def in_range(what: str, value: T, least: float, most: float) -> T:
    """Return `value` if least <= value <= most; else raise a UserError that states the range."""
    if least <= value <= most:  # not NaN
        return value
    allowed = f"[{_bound(least)}, {_bound(most)}]"
    raise UserError(
        f"{what} {value} is out of range", f"choose one in {allowed}", option=what, value=value, allowed=allowed
    )


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
