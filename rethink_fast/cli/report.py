"""`rethink-fast report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..config import PATH
from ..files import user_path
from ..report import write_report
from ..terminal import Terminal

PATHS = Parameter(converter=lambda _, tokens: tuple(user_path(token.value) for token in tokens), negative=())


def report(
    folder: Annotated[tuple[Path, ...], PATHS],
    /,
    *,
    out: Annotated[Path | None, PATH] = None,
) -> int:
    """Make a page (report.html), a text (report.md) and pictures: of a reproduction, or of runs over one another.

    Of runs it has the curves, the figures, and the measures where `rethink-fast measure` has left them.

    Parameters
    ----------
    folder:
        The folder of a run, or of the runs of several seeds; several of them are drawn over one another. Or the folder
        that was --out of `rethink-fast reproduce`.
    out:
        Where to write. Default: that folder, or a new one under reports/ for several.
    """
    console = Terminal()
    for path in write_report(*folder, out=out):
        console.print(str(path), soft_wrap=True)
    return 0
