"""The report of a reproduction, written into its folder: report.html, report.md and a picture of each plot."""

from __future__ import annotations

import string
from functools import partial
from pathlib import Path

from ..experiments.reproduction import read
from ..files import write_atomic, writing
from .document import text
from .html import page
from .plots import picture, svg


def write_report(folder: Path) -> list[Path]:
    """Write the report of a reproduction into its folder, and return the files. Raises UserError."""
    values = read(folder)
    names = [
        [f"{name}{letter}.svg" for letter, _ in zip(string.ascii_lowercase, experiment["plots"], strict=False)]
        for name, experiment in values["experiments"].items()
    ]
    pictures = {
        name: svg(partial(picture, plot), Path(name).stem)
        for experiment, some in zip(values["experiments"].values(), names, strict=True)
        for plot, name in zip(experiment["plots"], some, strict=True)
    }
    markdown = text(values, names)
    files = {**pictures, "report.md": markdown, "report.html": page(markdown, pictures)}
    for name, content in files.items():
        with writing(folder / name, "make room, or change its permissions"):
            write_atomic(folder / name, content)
    return [folder / name for name in files]
