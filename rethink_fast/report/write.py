"""Reads a reproduction and writes its report: report.html, report.md and a picture for each figure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from .page import page
from .plots import svg
from .text import text

SCHEMA_VERSION = 1


def read(folder: Path) -> dict[str, Any]:
    """What `rethink-fast reproduce` left in a folder. Raises UserError."""
    path = folder / "reproduction.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        raise UserError(
            f"{folder} holds no reproduction.json: name the --out folder of rethink-fast reproduce."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run the same rethink-fast reproduce again.") from None
    if not isinstance(values, dict) or values.get("schema") != SCHEMA_VERSION:
        raise UserError(f"{path} is of another version: run the same rethink-fast reproduce again.")
    return values


def write_report(folder: Path) -> list[Path]:
    """Write the report of a reproduction beside it, and return the files. Raises UserError."""
    values = read(folder)
    plots = [plot for experiment in values["experiments"].values() for plot in experiment["plots"]]
    pictures = {plot["name"]: svg(plot) for plot in plots}
    files = {folder / f"{name}.svg": content for name, content in pictures.items()}
    files[folder / "report.md"] = text(values)
    files[folder / "report.html"] = page(values, pictures)
    for path, content in files.items():
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(content, encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}).") from None
    return list(files)
