"""The contents of reproduction.json, and how they are read."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from .. import schema
from ..errors import UserError
from ..schema import Each, Either, Maybe
from . import EXPERIMENTS
from .verdicts import VERDICTS

SCHEMA_VERSION = 1
REPRODUCTION = "reproduction.json"

_SERIES = {
    "label": str,
    "x": [float],
    "y": [Maybe(float)],
    "spread": [Maybe(float)],
    "mark": Maybe((float, float, str)),
}
_PLOT = {
    **dict.fromkeys(("title", "x_label", "y_label", "note"), str),
    "x_limit": Maybe(float),
    "y_limits": Maybe((float, float)),
    "paper": [_SERIES],
    "ours": [_SERIES],
}
_VALUE = {
    **dict.fromkeys(("column", "reason", "why"), str),
    "paper": Maybe(Either()),
    "ours": Maybe({"n": int, "of": int, "mean": float, "std": float}),
    "difference": Maybe(float),
    "tolerance": Maybe(float),
    "verdict": frozenset(VERDICTS),
}
_ROW = {"labels": [str], "note": str, "runs": [str], "values": [_VALUE]}
_FINDING = {
    "statement": str,
    "margin": str,
    "value": str,
    "verdict": frozenset(("pass", "fail", "not run")),
}
_EXPERIMENT = {
    **dict.fromkeys(("title", "status", "skipped_because"), str),
    "tables": [{"title": str, "labels": [str], "unit": str, "rows": [_ROW]}],
    "plots": [_PLOT],
    "summaries": Maybe([{"title": str, "header": [str], "rows": [[str]], "notes": [str]}]),
    "findings": [_FINDING],
    "deviations": [str],
}
_ENVIRONMENT = {
    **dict.fromkeys(("processor", "system", "python", "rethink_fast"), str),
    **dict.fromkeys(("cores", "contract_version"), int),
    "gpu": Maybe({"name": str, "driver": Maybe(str)}),
    "git": {"revision": Maybe(str), "dirty": Maybe(bool)},
    "packages": Each(Maybe(str)),
}
_RECORD = {
    **dict.fromkeys(("n", "n_train", "n_test", "batch_size", "epochs"), Maybe(int)),
    **dict.fromkeys(
        ("seconds", "train_seconds", "eval_seconds", "compile_seconds", "checkpoint_seconds"), Maybe(float)
    ),
    **dict.fromkeys(("precision", "device", "model", "dataset", "data_source"), Maybe(str)),
    "recipe": Maybe({"overrides": [str]}),
    "environment": _ENVIRONMENT,
}
_SHAPE = {
    "scale": {"name": str, "words": str, "deviations": [str]},
    "seeds": int,
    "verdicts": Each(str),
    "runs": Each({"what": str, "status": str, "record": Maybe(_RECORD)}),
}


def read(folder: Path) -> dict[str, Any]:
    """Return what `rethink-fast reproduce` left in a folder. Raises UserError, also for what it would not write."""
    path, again = folder / REPRODUCTION, "run the same rethink-fast reproduce again"
    if schema.read(path, {"schema": int}, again)["schema"] != SCHEMA_VERSION:
        raise UserError(f"{path} is of another version", again, value=path)
    shape = {**_SHAPE, "experiments": Each(_EXPERIMENT, frozenset(EXPERIMENTS))}
    return schema.read(path, shape, again, also=_check_links)


def _check_links(values: dict[str, Any]) -> None:
    """Raise ValueError where parts of a reproduction do not fit together."""
    for name, experiment in values["experiments"].items():
        for table in experiment["tables"]:
            for row in table["rows"]:
                if len(row["labels"]) != len(table["labels"]) or not set(row["runs"]) <= set(values["runs"]):
                    raise ValueError(f"has a row of {name} that does not fit its table or the runs")
        for summary in experiment.get("summaries") or ():
            if any(len(row) != len(summary["header"]) for row in summary["rows"]):
                raise ValueError(f"has a row of {name} that does not fit its table")
        if len(experiment["plots"]) > len(string.ascii_lowercase):
            raise ValueError(f"has {len(experiment['plots'])} plots of {name}")
        for plot in experiment["plots"]:
            for series in (*plot["paper"], *plot["ours"]):
                if len(series["x"]) != len(series["y"]) or len(series["spread"]) not in (0, len(series["x"])):
                    raise ValueError(f"has a curve of {name} with more or fewer values than places")
