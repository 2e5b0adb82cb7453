"""Reports as files: report.html, report.md and pictures, of a reproduction or of runs."""

from __future__ import annotations

import os
import string
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ..errors import UserError
from ..experiments.reproduction import REPRODUCTION, read
from ..files import check_writable, write_atomic, writing
from ..measures import view
from . import document, run_document
from .html import page
from .plots import curves, picture, svg
from .runs import COLUMNS, curves_of, name_of, open_runs

MEASURES, MARKDOWN, PAGE = "measures.json", "report.md", "report.html"
FIX = "make room, or choose another folder by --out"


def write_report(*folders: Path, out: Path | None = None) -> list[Path]:
    """Write the report of a reproduction, or of runs over one another, and return the files.

    folders: one of a reproduction; or any of runs, and of the runs of several seeds.
    out: where to write. Default: the folder, or a new one under reports/ where there are several.
    Raises UserError for what is none of these, and for a folder that cannot be written.
    """
    reproductions = [folder for folder in folders if os.path.lexists(folder / REPRODUCTION)]
    if reproductions and len(folders) > 1:
        raise UserError(
            f"{reproductions[0]} is a reproduction, which is reported alone",
            "name one reproduction, or runs",
            value=reproductions[0],
        )
    place = out or (folders[0] if len(folders) == 1 else Path("reports") / time.strftime("%Y%m%d-%H%M%S"))
    if place != folders[0] or place.is_dir():
        for name in (MARKDOWN, PAGE):
            check_writable(place / name, FIX)
    markdown, pictures = _of_reproduction(folders[0]) if reproductions else _of_runs(folders)
    files = {**pictures, MARKDOWN: markdown, PAGE: page(markdown, pictures)}
    with writing(place, FIX):
        place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with writing(place / name, FIX):
            write_atomic(place / name, content)
    return [place / name for name in files]


def _of_reproduction(folder: Path) -> tuple[str, Mapping[str, str]]:
    """Return the Markdown, and the SVG of each picture by its file's name."""
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
    return document.text(values, names), pictures


def _of_runs(folders: tuple[Path, ...]) -> tuple[str, Mapping[str, str]]:
    """Return the same of runs."""
    runs = open_runs(folders)
    pictures, titles = {}, {}
    for column, title in COLUMNS.items():
        found = curves_of(runs, column)
        if found:
            name, top = f"{column}.svg", None if column == "train_loss" else 102.0
            label = "train loss" if top is None else "accuracy (%)"
            pictures[name] = svg(partial(curves, found, label, top), column)
            titles[name] = title[0].upper() + title[1:]
    measured = [
        (name_of(run, record), view.load(record.folder / MEASURES))
        for run in runs
        for record in run.record.runs
        if os.path.lexists(record.folder / MEASURES)
    ]
    return run_document.text(runs, titles, measured), pictures
