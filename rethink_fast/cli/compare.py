"""`rethink-fast compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..compare.statistics import THRESHOLD
from ..config import PATH
from ..files import user_path
from ..output import print_json
from ..terminal import Terminal

RECORD = Parameter(converter=lambda _, tokens: str(user_path(tokens[0].value)))
"""A path, or a git revision, which never begins with ~."""


def compare(
    old: Annotated[str, RECORD],
    new: Annotated[str, RECORD],
    /,
    *,
    threshold: float = THRESHOLD,
    strict: bool = False,
    cases: str = "",
    out: Annotated[Path | None, PATH] = None,
    json: bool = False,
) -> int:
    """Report whether NEW is slower than OLD: two records, a folder of records and one, or two git revisions.

    Exit code 0; 1 if a figure is slower by more than the threshold; 2 for bad input; 3 with --strict if one is
    ambiguous. Revisions are built in throw-away worktrees and timed interleaved on this machine.

    Parameters
    ----------
    old:
        A record (result.json or its folder, a record of gpu-check, the JSON of `pytest benchmarks`), a folder of
        records such as benchmarks/results, or a git revision.
    new:
        The same; a record where OLD is a folder of them.
    threshold:
        The least change that counts, as a fraction.
    strict:
        Exit with 3 if a figure is ambiguous and none is slower.
    cases:
        Of revisions, time only the cases whose name contains this.
    out:
        Folder for comparison.json and comparison.md. Default: a new one under runs/.
    json:
        Print comparison.json on stdout, and everything else on stderr.
    """
    from ..compare.run import run_compare

    options: dict[str, Any] = {"threshold": threshold, "strict": strict, "cases": cases, "out": out}
    comparison, code = run_compare(old, new, **options, console=Terminal(stderr=json))
    printed = print_json(comparison) if json else 0
    return code or printed
