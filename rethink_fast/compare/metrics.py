"""What a JSON file measured: its figures, the scale they were measured at, and the machine and versions.

Three kinds of file are known: result.json of a run or of several seeds, a record of `make gpu-check`, and what
`pytest benchmarks --benchmark-json` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import schema
from ..bench.record_folder import read_curve
from ..schema import BadFile, Each
from .shapes import SHAPES

KINDS = "result.json of a run, a record of gpu-check, or the JSON of `pytest benchmarks`"
LEAST = 1e-30
"""Of a figure that was measured."""
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True)
class Metric:
    """One thing that was measured.

    values: one or more samples, each above 0.
    more_is_better: whether it is a rate; else a time or a size.
    machine_independent: whether it means the same on another machine, as ratios within one process do.
    """

    name: str
    values: tuple[float, ...]
    more_is_better: bool = False
    machine_independent: bool = False

    def costs(self) -> list[float]:
        """Return the samples such that more is worse."""
        return [1.0 / value for value in self.values] if self.more_is_better else list(self.values)


def time_unit(value: float) -> tuple[float, str]:
    """Return the unit for so many seconds, and how many seconds it has."""
    return next(((scale, unit) for scale, unit in SECONDS if value >= scale), SECONDS[-1])


def with_unit(name: str, value: float) -> str:
    """Return a value as text, with the unit that reads best where the figure's name ends in ", s"."""
    if name.endswith(", s"):
        scale, unit = time_unit(value)
        return f"{value / scale:.3g} {unit}"
    return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"


@dataclass(frozen=True)
class MeasuredRecord:
    """The figures of one file.

    scale: what must be equal for two files to be compared at all.
    machine: hardware and versions.
    """

    path: Path
    kind: str
    date: str
    scale: dict[str, Any]
    machine: dict[str, Any]
    figures: dict[str, Metric]


def read(path: Path) -> MeasuredRecord:
    """Return the record in a file, or in the result.json of a folder. Raises BadFile for anything else, in one line."""
    path = path / "result.json" if path.is_dir() else path
    advice = f"give {KINDS}"
    values = schema.read(path, Each(), advice)
    kind = _kind(values)
    if kind is None:
        raise BadFile(path, "is JSON, but nothing that is known here", advice)
    try:
        schema.check(values, SHAPES[kind])
        if kind == "seeds" and not values["runs"]:
            raise ValueError("has no runs")
    except ValueError as error:
        raise BadFile(path, f"looks like a record ({kind}), but {error}", advice) from None
    return {"run": _run, "seeds": _seeds, "gpu-check": _gpu_check, "benchmarks": _benchmarks}[kind](path, values)


def _kind(values: dict[str, Any]) -> str | None:
    if values.get("kind") == "gpu-check":
        return "gpu-check"
    if "benchmarks" in values and "machine_info" in values:
        return "benchmarks"
    if "schema" in values and "runs" in values:
        return "seeds"
    return "run" if "schema" in values and "time_to_memorize" in values else None


def _figures(figures: Iterable[Metric]) -> dict[str, Metric]:
    """Return the figures by name, without those that were not measured: None, 0 or NaN."""
    kept = {}
    for figure in figures:
        values = tuple(float(v) for v in figure.values if v is not None and v > LEAST)
        if values:
            kept[figure.name] = Metric(figure.name, values, figure.more_is_better, figure.machine_independent)
    return kept


def _run(path: Path, values: dict[str, Any]) -> MeasuredRecord:
    figures = _figures_of_runs([values])
    epochs = _epoch_rates(path.parent / "metrics.csv")
    if epochs:
        figures["images_per_second"] = Metric("images_per_second", epochs, more_is_better=True)
    return MeasuredRecord(path, "run", _date(path), _scale(values), _machine(values["environment"]), figures)


def _seeds(path: Path, values: dict[str, Any]) -> MeasuredRecord:
    runs = values["runs"]
    scale, machine = _scale(runs[0]), _machine(runs[0]["environment"])
    return MeasuredRecord(path, "seeds", _date(path), scale, machine, _figures_of_runs(runs))


def _date(path: Path) -> str:
    """Runs carry none: the name of their folder, or of a file that was kept under another name, begins with it."""
    return path.parent.name if path.name == "result.json" else path.stem


def _figures_of_runs(runs: list[dict[str, Any]]) -> dict[str, Metric]:
    def each(*keys: str) -> tuple[float, ...]:
        values: list[Any] = list(runs)
        for key in keys:
            values = [value.get(key) if isinstance(value, dict) else None for value in values]
        return tuple(value for value in values if value is not None)

    figures = [
        Metric("images_per_second", each("images_per_second"), more_is_better=True),
        Metric("eval_seconds", each("eval_seconds")),
        Metric("peak_memory_bytes", each("peak_memory_bytes")),
    ]
    for part in ("training", "model"):
        key = f"{part}_share_of_matrix_rate"
        figures.append(Metric(key, each("profile", "arithmetic", key), more_is_better=True, machine_independent=True))
    for name in runs[0]["time_to_memorize"]:
        figures.append(Metric(f"seconds to {name}", each("time_to_memorize", name, "seconds")))
        figures.append(Metric(f"epochs to {name}", each("time_to_memorize", name, "epochs"), machine_independent=True))
    return _figures(figures)


def _epoch_rates(path: Path) -> tuple[float, ...]:
    """Return images a second of each epoch but the first, which warms up; () where there is no such curve."""
    try:
        rates = [row.get("images_per_second") for row in read_curve(path)]
    except (OSError, ValueError):
        return ()
    return tuple(rate for rate in rates[1:] if rate is not None and rate > 0)


def _scale(values: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "n_train", "n_test", "image_size", "model", "parameters", "precision", "batch_size")
    return {
        **{key: values[key] for key in keys},
        "synthetic images": "synthetic" in values["data_source"],
        "corruption": f"{values['corruption']['kind']} at {values['corruption']['probability']}",
        "recipe": (values.get("recipe") or {}).get("name"),
        "deterministic": bool(values.get("deterministic")),
        "device": values["device"].partition(":")[0],
    }


def _machine(environment: dict[str, Any]) -> dict[str, Any]:
    gpu = environment.get("gpu") or {}
    return {
        "processor": environment["processor"],
        "cores": environment["cores"],
        "threads": environment["threads"],
        "GPU": gpu.get("name"),
        "driver": gpu.get("driver"),
        "cuda": environment.get("cuda"),
        **environment["packages"],
    }


def _gpu_check(path: Path, values: dict[str, Any]) -> MeasuredRecord:
    figures: list[Metric] = []
    for row in values["rows"]:
        if row.get("microseconds") is not None:
            samples = row.get("samples") or row["microseconds"][:1]
            figures.append(Metric(f"{row['case']}, us", tuple(samples)))
            share = (row.get("share_of_copy"),)
            figures.append(Metric(f"{row['case']}, share of the copy bandwidth", share, True, machine_independent=True))
    for run in (values.get("engine") or {}).get("runs", []):
        name = f"run of {run['case']}"
        figures.append(Metric(f"{name}, s to 99.9 %", (run.get("seconds"),)))
        figures.append(Metric(f"{name}, images/s", (run.get("images_per_second"),), True))
        figures.append(
            Metric(f"{name}, share of the matrix rate", (run.get("share_of_matrix"),), True, machine_independent=True)
        )
    machine = {"GPU": values["gpu"], "driver": values["condition_before"].get("driver"), **values["versions"]}
    return MeasuredRecord(
        path, "gpu-check", values["date"], {"contract": values["contract"]}, machine, _figures(figures)
    )


def _benchmarks(path: Path, values: dict[str, Any]) -> MeasuredRecord:
    figures: list[Metric] = []
    for case in values["benchmarks"]:
        extra, name = case["extra_info"], case["name"].removeprefix("test_case[").removesuffix("]")
        figures.append(Metric(f"{name}, s", tuple(case["stats"].get("data") or [case["stats"]["median"]])))
        for key in ("times_as_fast", "share_of_copy", "share_of_matrix"):
            if extra.get(key):
                rival = f" as {extra.get('baseline')}" if key == "times_as_fast" else ""
                words = f"{name}, {key.replace('_', ' ')}{rival}"
                figures.append(Metric(words, tuple(extra[key]), True, machine_independent=True))
    return MeasuredRecord(
        path, "benchmarks", values["datetime"], {}, _machine(values["machine_info"]), _figures(figures)
    )
