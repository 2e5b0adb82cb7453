"""A comparison for people and for machines: the table in the terminal, plain values for JSON, Markdown for a review."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from ..markdown import bullets, escape
from .metrics import with_unit
from .records import ComparisonRow, RecordComparison
from .statistics import Verdict, worst

COLOURS: dict[Verdict, str] = {"same": "", "faster": "green", "slower": "bold red", "ambiguous": "yellow"}
HEADER = ("figure", "old", "new", "new / old", "interval", "verdict")
SCHEMA = 1
SENTENCES: dict[Verdict, str] = {
    "same": "the same: nothing changed by more than {0:g}%",
    "faster": "faster by more than {0:g}%, nothing slower",
    "slower": "slower by more than {0:g}%",
    "ambiguous": "ambiguous: nothing is slower as far as measured, but not everything is decided at {0:g}%",
}


def overall(comparison: RecordComparison) -> Verdict:
    """Return the verdict on all lines."""
    return worst([line.verdict for line in comparison.lines])


def sentence(comparison: RecordComparison) -> str:
    """Return the overall verdict in words, with the lines that it rests on."""
    word = overall(comparison)
    names = [line.name.removesuffix(", s") for line in comparison.lines if line.verdict == word != "same"]
    rest = f": {', '.join(names)}" if names else ""
    return SENTENCES[word].format(100 * comparison.threshold) + rest


def _cells(line: ComparisonRow) -> list[str]:
    estimate = line.estimate
    interval = f"{estimate.low:.3f} - {estimate.high:.3f}" if estimate.values and math.isfinite(estimate.high) else "-"
    values = [with_unit(line.name, value) for value in (line.old, line.new)]
    return [line.name.removesuffix(", s"), *values, f"{estimate.ratio:.3f}", interval, line.verdict]


def _notes(comparison: RecordComparison) -> list[str]:
    return [*comparison.notes, *(f"not compared: {name}: {why}" for name, why in comparison.skipped)]


def show(comparison: RecordComparison, console: Console) -> None:
    """Print the table, the notes and the verdict."""
    table = Table(header_style="bold", caption="new / old: of the cost, above 1 where it grew", caption_justify="left")
    for position, column in enumerate(HEADER):
        table.add_column(column, justify="left" if position in (0, 5) else "right", no_wrap=position > 0)
    for line in comparison.lines:
        table.add_row(*_cells(line), style=COLOURS[line.verdict])
    console.print(table)
    for note in _notes(comparison):
        console.print(note, soft_wrap=True)
    console.print(sentence(comparison), soft_wrap=True)


def as_dict(comparison: RecordComparison) -> dict[str, Any]:
    """Return the comparison as plain values; an interval without an end has null there."""
    lines = []
    for line in comparison.lines:
        values = asdict(line)
        interval = values.pop("estimate")
        values |= {name: value if math.isfinite(value) else None for name, value in interval.items()}
        lines.append(values)
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "old": comparison.old,
        "new": comparison.new,
        "threshold": comparison.threshold,
        "verdict": overall(comparison),
        "lines": lines,
        "notes": list(comparison.notes),
        "left_out": [{"name": name, "why": why} for name, why in comparison.skipped],
    }


def markdown(comparison: RecordComparison) -> str:
    """Return the summary for a pull request: the verdict, then the table, with what stayed the same folded away."""

    def table(lines: list[ComparisonRow]) -> list[str]:
        rows = [" | ".join(map(escape, _cells(line))) for line in lines]
        head = [f"| {' | '.join(HEADER)} |", "| --- | ---: | ---: | ---: | ---: | --- |"]
        return [*head, *(f"| {row} |" for row in rows)]

    changed = [line for line in comparison.lines if line.verdict != "same"]
    same = [line for line in comparison.lines if line.verdict == "same"]
    names = f"{escape(comparison.old)} and {escape(comparison.new)}; new / old is of the cost"
    out = [f"**{escape(sentence(comparison))}**", "", names, ""]
    if changed:
        out += [*table(changed), ""]
    if same:
        out += [f"<details><summary>{len(same)} the same</summary>", "", *table(same), "", "</details>", ""]
    out += bullets(_notes(comparison))
    return "\n".join(out).rstrip() + "\n"
