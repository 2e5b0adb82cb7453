"""Reads a reproduction and writes its report, and that of records over time: report.html, report.md and pictures."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import history
from .history import History
from .page import page
from .plots import picture, svg
from .text import text

SCHEMA_VERSION = 1
REPRODUCTION = "reproduction.json"


def read(folder: Path) -> dict[str, Any]:
    """What `rethink-fast reproduce` left in a folder. Raises UserError."""
    path = folder / REPRODUCTION
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run the same rethink-fast reproduce again.") from None
    if not isinstance(values, dict) or values.get("schema") != SCHEMA_VERSION:
        raise UserError(f"{path} is of another version: run the same rethink-fast reproduce again.")
    return values


def write_report(folder: Path, past: History) -> tuple[list[Path], list[str]]:
    """Write the report of a folder beside what it tells: a reproduction, records, or both.

    past: what the records there say. Returns the files, and a line on each that was passed over. Raises UserError
    where there is neither, and for a reproduction that is damaged where there is nothing else.
    """
    values, passed_over = None, list(past.passed_over)
    if (folder / REPRODUCTION).exists():
        try:
            values = read(folder)
        except UserError as error:
            if not past.sources:
                raise
            passed_over.append(str(error))
    elif not past.sources:
        others = f" Passed over: {'; '.join(passed_over)}." if passed_over else ""
        raise UserError(
            f"{folder} holds neither {REPRODUCTION} nor a record (*.json, as rethink-fast compare reads them): name "
            f"the --out folder of rethink-fast reproduce, or a folder of records such as benchmarks/results.{others}"
        )
    plots = [plot for experiment in values["experiments"].values() for plot in experiment["plots"]] if values else []
    pictures = {plot["name"]: svg(partial(picture, plot), plot["name"]) for plot in plots}
    shown = replace(past, passed_over=tuple(passed_over)) if past.sources else None
    texts = ([text(values)] if values else []) + ([history.text(shown)] if shown else [])
    drawn = pictures | (history.pictures(shown) if shown else {})
    files = {folder / f"{name}.svg": content for name, content in drawn.items()}
    files[folder / "report.md"] = "\n".join(texts)
    files[folder / "report.html"] = page(values, shown, pictures)
    for path, content in files.items():
        draft = path.with_name(f".{path.name}.partial")
        try:
            draft.write_text(content, encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}).") from None
    return list(files), passed_over
