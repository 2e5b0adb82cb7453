"""The one error that is the user's to mend, and the one that says that somebody stopped the run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
