"""`rethink-fast report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..config import PATH
from ..report import write_report
from ..terminal import Terminal


def report(folder: Annotated[Path, PATH], /) -> int:
    """Make a page (report.html), a text (report.md) and pictures of a reproduction.

    Parameters
    ----------
    folder:
        The folder that was --out of `rethink-fast reproduce`.
    """
    console = Terminal()
    for path in write_report(folder):
        console.print(str(path), soft_wrap=True)
    return 0
