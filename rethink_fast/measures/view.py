"""What was measured, as a table on the screen and as a section of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import markdown
from ..schema import Each, Maybe, Number, read
from ..terminal import fitted_table

WORDS = {
    "vacuous": "a bound on the error that is no better than guessing",
    "says something": "a bound on the error below that of guessing",
    "tracks": "an estimate or correlate that went with what was measured; it explains nothing",
    "-": "no bound, and one run alone cannot tell: compare it with another run by --against",
}
NAMES = {
    "vc_dimension": "VC dimension",
    "golowich": "Frobenius norms",
    "neyshabur": "distance from start",
    "pac_bayes": "PAC-Bayes",
    "ntk_complexity": "NTK complexity",
    "rrm": "RRM",
    "ratt": "RATT",
    "rademacher": "Rademacher complexity",
}
"""Names in tables, where they are not those in measures.json with spaces."""
WIDE, DROPPED = 120, ("bounds", "seconds", "reference")
"""Columns of the terminal below which these columns of the table are not shown."""
TITLE = "What generalization is made of, measured"
_COUNT = Number(0, 2**63, whole=True)
_MEASURED = {"value": Maybe(float), "error": Maybe(float)}
_CORRUPTION = {"kind": str}
SHAPE = {
    **{"dataset": str, "model": str, "corruption": _CORRUPTION, "n_train": _COUNT, "n_test": _COUNT},
    "measures": Each(
        {
            **_MEASURED,
            **{"bound": Maybe(float), "verdict": Maybe(frozenset(WORDS)), "bounds": str},
            **{"seconds": float, "note": str, "reference": str},
        }
    ),
    "not_measured": Each(str),
    "subsampled": Each((_COUNT, _COUNT)),
    "against": Maybe(
        {
            **{"run": str, "corruption": _CORRUPTION, "other_differences": [str]},
            "measures": Each({**_MEASURED, "ratio": Maybe(float), "moves": Maybe(str)}),
        }
    ),
}
"""What is read of a measures.json."""


def named(name: str) -> str:
    """Return the name of a measure for people."""
    return NAMES.get(name, name.replace("_", " "))


def load(path: Path) -> dict[str, Any]:
    """Return the values of a measures.json. Raises UserError where it is not one."""
    return read(path, SHAPE, "measure the run again by rethink-fast measure")


def show(values: dict[str, Any], console: Console) -> None:
    """Print the table, and what was omitted, assumed or subsampled.

    values: as in measures.json.
    """
    header, rows = cells(values)
    shown = [place for place, name in enumerate(header) if console.width >= WIDE or name not in DROPPED]
    names, *lines = [[row[place] for place in shown] for row in (header, *rows)]
    console.print(fitted_table(names, lines, console.width, padding=0 if len(shown) < len(header) else 1))
    if len(shown) < len(header):
        console.print(f"{console.width} columns are too few for {', '.join(DROPPED)}: they are in measures.json")
    if not values.get("against"):
        console.print(f"verdict -: {WORDS['-']}")
    for line in remarks(values):
        console.print(line)


def section(values: dict[str, Any], title: str = TITLE) -> list[str]:
    """Return the lines of the section as Markdown.

    values: as in measures.json.
    """
    header, rows = cells(values)
    verdicts = [f"{name}: {meaning}" for name, meaning in WORDS.items()]
    lines = markdown.heading(2, title) + markdown.paragraph(_run(values)) + markdown.table(header, rows)
    return lines + markdown.bullets(remarks(values)) + markdown.paragraph("Verdicts:") + markdown.bullets(verdicts)


def _run(values: dict[str, Any]) -> str:
    return (
        f"{values['model']} on {values['n_train']:,} images of {values['dataset']}, {values['corruption']['kind']}, "
        f"{values['n_test']:,} test images."
    )


def cells(values: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table."""
    against = values.get("against")
    header = [
        "measure",
        "value",
        *(["other run", "ratio", "moves"] if against else []),
        "bound on the error",
        "verdict",
    ]
    header += ["bounds", "seconds", "reference"]
    rows = []
    for name, each in values["measures"].items():
        row = [named(name), _value(each)]
        if against:
            pair = against["measures"].get(name)
            row += [_value(pair), _number(pair.get("ratio")), pair.get("moves") or "-"] if pair else ["-", "-", "-"]
        row += [_number(each.get("bound")), each.get("verdict") or "-", each["bounds"]]
        rows.append([*row, f"{each['seconds']:.1f}", each["reference"]])
    return header, rows


def _value(each: dict[str, Any]) -> str:
    """Return the value, and its error to two digits with the value to the same place."""
    value, error = each.get("value"), each.get("error")
    if value is None or error is None:
        return _number(value)
    if not 1e-5 < error < 1e5:
        return f"{_number(value)} ± {error:.2g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{places}f} ± {error:.{places}f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e7 else f"{value:,.0f}"


def remarks(values: dict[str, Any]) -> list[str]:
    """Return what was omitted, assumed, subsampled and not measured, a line each."""
    lines = list(_remarks(values))
    against = values.get("against")
    if against:
        lines.append(f"other run: {against['run']}, {against['corruption']['kind']}; ratio: its value over that here")
        lines += [f"the runs differ in more than their labels: {line}" for line in against["other_differences"]]
        if all(row.get("moves") is None for row in against["measures"].values()):
            lines.append("the gaps of the two runs are alike within their errors: no measure can be judged by them")
    return lines


def _remarks(values: dict[str, Any]) -> Iterator[str]:
    notes: dict[str, list[str]] = {}
    for name, each in values["measures"].items():
        if each["note"]:
            notes.setdefault(each["note"], []).append(named(name))
    if any(each.get("error") is not None for each in values["measures"].values()):
        yield "±: one standard error, unless a note says otherwise"
    for note, names in notes.items():
        yield f"{', '.join(names)}: {note}"
    for name, (taken, of) in values["subsampled"].items():
        yield f"{named(name)}: on {taken:,} of {of:,} training images"
    for name, why in values["not_measured"].items():
        yield f"{named(name)}: not measured; {why}"
