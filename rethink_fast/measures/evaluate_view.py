"""Which measure predicts the gap, as a table on the screen and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from ..terminal import fitted_table, spare_width
from .evaluate import LEAST_SIZE, Environment, Evaluation, freedom, groups
from .run_table import RunTable

SCHEMA = 1
HOW = (
    "beyond: correlation of the ranks of measure and gap, each less its least-squares fit by an indicator of every "
    "value of every hyper-parameter"
)
COLUMNS = ("tau", "Psi", "sign error", "90 %", "worst", "beyond")


def ordered(found: Mapping[str, Evaluation]) -> list[str]:
    """Return the names of the measures, the best by tau first."""
    return sorted(found, key=lambda name: -found[name].tau)


def cells(found: Mapping[str, Evaluation], axes: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table. axes: the hyper-parameters."""
    header = ["measure", *COLUMNS[:2], *(f"psi {axis.replace('_', ' ')}" for axis in axes), *COLUMNS[2:]]
    rows = []
    for name in ordered(found):
        each = found[name]
        values = (each.tau, each.granulated, *each.psi, each.sign_error, each.percentile_90, each.worst, each.beyond)
        rows.append([name.replace("_", " "), *(_number(value) for value in values)])
    return header, rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def show(found: Mapping[str, Evaluation], table: RunTable, console: Console) -> None:
    """Print what the columns were taken for, the table, and the worst environment of each measure."""
    for line in taken(table):
        console.print(line, soft_wrap=True)
    header, rows = cells(found, list(table.settings))
    fits = spare_width(header, rows, console.width) >= 0
    shown = [place for place, name in enumerate(header) if fits or not name.startswith("psi ")]
    names, *lines = [[row[place] for place in shown] for row in (header, *rows)]
    console.print(fitted_table(names, lines, console.width, numbers=True))
    if not fits:
        console.print(f"{console.width} columns are too few for psi of each hyper-parameter: --json has it")
    for line in remarks(found, table):
        console.print(line, soft_wrap=True)


def taken(table: RunTable) -> list[str]:
    """Return what each column was taken for, a line each role."""
    runs, configurations = len(table.gap), len(groups(table.codes))
    unused: dict[str, list[str]] = {}
    for name, why in table.unused.items():
        unused.setdefault(why, []).append(name)
    settings = [f"{name} ({len(values)} values)" for name, values in table.settings.items()]
    return [
        f"runs: {runs:,}, of {configurations:,} configurations"
        + (": tau, psi and beyond are of their means" if configurations < runs else ""),
        f"gap: {table.gap_name}",
        f"hyper-parameters: {', '.join(settings) or 'none: psi and sign errors need some (--hyperparameters)'}",
        f"measures: {', '.join(table.measures)}",
        *(f"not used: {', '.join(names)} ({why})" for why, names in unused.items()),
    ]


def remarks(found: Mapping[str, Evaluation], table: RunTable) -> list[str]:
    """Return the worst environment of each measure and what the columns mean, a line each."""
    lines = []
    for name in ordered(found):
        each = found[name]
        if each.worst_environment is not None:
            lines.append(
                f"worst of {name.replace('_', ' ')}: {in_words(each.worst_environment, table)}; sign error "
                f"{_number(each.worst)}, reached in {each.at_worst} of {each.environments} environments"
            )
    if table.settings:
        lines.append(
            "sign error: mean over pairs of configurations that differ in one hyper-parameter; 90 %: its 90th "
            "percentile"
        )
        configurations = table.codes[[rows[0] for rows in groups(table.codes)]]
        left = freedom(configurations)
        chance = f"; by chance it is within {2 / left**0.5:.2f} 19 times of 20" if left > 4 else ""
        lines.append(f"{HOW}: {left} degrees of freedom are left{chance}")
    if table.n_test is not None:
        lines.append(
            f"sign errors are weighted by how far two gaps differ beyond the noise of {table.n_test:,} images; with "
            f"{LEAST_SIZE} pairs of repeats or more, environments of an effective number below that are omitted"
        )
    return lines


def in_words(pair: Environment, table: RunTable) -> str:
    """Return an environment as "lr 0.01 and 0.04, with width 128, n 500"."""
    values = environment_as_dict(pair, table)
    others = ", ".join(f"{name} {value}" for name, value in values["with"].items())
    words = f"{values['hyperparameter']} {values['values'][0]} and {values['values'][1]}"
    return (f"{words}, with {others}" if others else words).replace("_", " ")


def environment_as_dict(pair: Environment, table: RunTable) -> dict[str, Any]:
    """Return an environment as plain values."""
    configurations = table.codes[[rows[0] for rows in groups(table.codes)]]
    named = [
        {name: values[row[column]] for column, (name, values) in enumerate(table.settings.items())}
        for row in (configurations[pair.one], configurations[pair.other])
    ]
    axis = list(table.settings)[pair.axis]
    return {
        "hyperparameter": axis,
        "values": [each[axis] for each in named],
        "with": {name: value for name, value in named[0].items() if name != axis},
    }


def as_dict(found: Mapping[str, Evaluation], table: RunTable) -> dict[str, Any]:
    """Return plain values, for --json."""
    measures = {}
    for name in ordered(found):
        each = found[name]
        values = asdict(each)
        values["psi"] = dict(zip(table.settings, each.psi, strict=True))
        pair = each.worst_environment
        values["worst_environment"] = None if pair is None else environment_as_dict(pair, table)
        measures[name] = values
    return {
        "schema": SCHEMA,
        "runs": len(table.gap),
        "configurations": len(groups(table.codes)),
        "gap": table.gap_name,
        "hyperparameters": table.settings,
        "n_test": table.n_test,
        "not_used": table.unused,
        "beyond": HOW,
        "measures": measures,
    }
