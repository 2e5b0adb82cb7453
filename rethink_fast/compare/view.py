"""A comparison for people and for machines: the table in the terminal, plain values for JSON, Markdown for a review."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from ..markdown import bullets, escape
from .metrics import said
from .records import ComparisonRow, RecordComparison
from .statistics import Verdict, worst

COLOURS: dict[Verdict, str] = {"same": "", "faster": "green", "slower": "bold red", "ambiguous": "yellow"}
HEADER = ("figure", "old", "new", "new / old", "interval", "verdict")
SCHEMA = 1
SAYS: dict[Verdict, str] = {
    "same": "the same: nothing changed by more than {0:g}%",
    "faster": "faster by more than {0:g}%, nothing slower",
    "slower": "slower by more than {0:g}%",
    "ambiguous": "ambiguous: nothing is slower as far as measured, but not everything is decided at {0:g}%",
}


def overall(found: RecordComparison) -> Verdict:
    """The verdict on all lines."""
    return worst([line.verdict for line in found.lines])


def sentence(found: RecordComparison) -> str:
    """The overall verdict in words, with the lines that it rests on."""
    word = overall(found)
    names = [line.name.removesuffix(", s") for line in found.lines if line.verdict == word] if word != "same" else []
    rest = f": {', '.join(names)}" if names else ""
    return SAYS[word].format(100 * found.threshold) + rest


def _cells(line: ComparisonRow) -> list[str]:
    found = line.found
    interval = f"{found.low:.3f} - {found.high:.3f}" if found.values and math.isfinite(found.high) else "-"
    values = [said(line.name, value) for value in (line.old, line.new)]
    return [line.name.removesuffix(", s"), *values, f"{found.ratio:.3f}", interval, line.verdict]


def _others(found: RecordComparison) -> list[str]:
    return [*found.notes, *(f"not compared: {name}: {why}" for name, why in found.left_out)]


def show(found: RecordComparison, console: Console) -> None:
    """Print the table, the notes and the verdict."""
    table = Table(header_style="bold", caption="new / old: of the cost, above 1 where it grew", caption_justify="left")
    for place, column in enumerate(HEADER):
        table.add_column(column, justify="left" if place in (0, 5) else "right", no_wrap=place > 0)
    for line in found.lines:
        table.add_row(*_cells(line), style=COLOURS[line.verdict])
    console.print(table)
    for other in _others(found):
        console.print(other, soft_wrap=True)
    console.print(sentence(found), soft_wrap=True)


def as_dict(found: RecordComparison) -> dict[str, Any]:
    """The comparison as plain values; an interval without an end has null there."""
    lines = []
    for line in found.lines:
        values = asdict(line)
        interval = values.pop("found")
        values |= {name: value if math.isfinite(value) else None for name, value in interval.items()}
        lines.append(values)
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "old": found.old,
        "new": found.new,
        "threshold": found.threshold,
        "verdict": overall(found),
        "lines": lines,
        "notes": list(found.notes),
        "left_out": [{"name": name, "why": why} for name, why in found.left_out],
    }


def markdown(found: RecordComparison) -> str:
    """The summary for a pull request: the verdict, then the table, with what stayed the same folded away."""

    def table(lines: list[ComparisonRow]) -> list[str]:
        rows = [" | ".join(map(escape, _cells(line))) for line in lines]
        return [
            f"| {' | '.join(HEADER)} |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            *(f"| {row} |" for row in rows),
        ]

    changed = [line for line in found.lines if line.verdict != "same"]
    same = [line for line in found.lines if line.verdict == "same"]
    out = [
        f"**{escape(sentence(found))}**",
        "",
        f"{escape(found.old)} and {escape(found.new)}; new / old is of the cost",
        "",
    ]
    if changed:
        out += [*table(changed), ""]
    if same:
        out += [f"<details><summary>{len(same)} the same</summary>", "", *table(same), "", "</details>", ""]
    out += bullets(_others(found))
    return "\n".join(out).rstrip() + "\n"
