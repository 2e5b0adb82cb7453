"""The records of a folder as the report tells them: every figure over time, its last step, and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...report.history import Change, Group, History, Line, Source
from ...report.plots import svg
from . import chart, history
from .figures import Record, said
from .history import Series

KINDS = {
    "run": "Runs",
    "seeds": "Runs over several seeds",
    "gpu-check": "Kernels on a GPU",
    "benchmarks": "The suite",
}


def gather(folder: Path) -> History:
    """What the report says of a folder's records; of none where there are none."""
    records, refused = history.scan(folder)
    machines = history.machines(records)
    number = {record.path: place for place, alike in enumerate(machines) for record in alike}
    names = [f"{place}: {_name(alike[0].machine)}" for place, alike in enumerate(machines, 1)]
    groups, lines = [], 0
    for group in history.groups(records):
        every = history.over_machines(group)
        named = [(f"history-{lines + place:03}", each) for place, each in enumerate(every, 1)]
        lines += len(every)
        title, note = _scale(group[0])
        groups.append(Group(title, note, tuple(_line(name, each, number, names) for name, each in named)))
    sources = [
        Source(each.path.name, each.kind, each.day, names[number[each.path]], len(each.figures)) for each in records
    ]
    return History(
        tuple(groups),
        tuple(sources),
        {name: _facts(alike[0].machine) for name, alike in zip(names, machines, strict=True)},
        tuple(f"{path.name} {error.why}" for path, error in refused),
    )


def _line(name: str, series: Series, number: dict[Path, int], names: Sequence[str]) -> Line:
    places = [number[record.path] for record in series.records]
    shown = sorted(set(places))
    machine = names[shown[0]] if len(shown) == 1 else ", ".join(str(place + 1) for place in shown)
    change = None
    for step in series.steps()[-1:]:
        moved = places[step.at] != places[step.at - 1]
        since = series.records[step.at].day + (", on another machine" if moved else "")
        change = Change(f"{step.ratio - 1:+.1%}", step.better, since)
    what, unit, better = chart.words(series)
    measure = "time" if series.figures[0].parts()[1] in ("s", "us") else unit or better
    last, values = series.records[-1], series.values
    picture = svg(partial(chart.picture, series, places), name)
    value = said(series.name, values[-1])
    return Line(name, what, measure, unit, better, value, last.day, len(values), machine, change, picture)


def _name(machine: dict[str, Any]) -> str:
    return machine["GPU"] or machine["processor"]


def _facts(machine: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in machine.items() if value is not None}


def _scale(record: Record) -> tuple[str, str]:
    """A title for the records of one scale, and the scale in words."""
    scale = record.scale
    title = KINDS[record.kind] + (f": {scale['model']} on {scale['dataset']}" if "model" in scale else "")
    return title, ", ".join(f"{key} {value}" for key, value in scale.items() if value not in (None, False))
