"""The report as Markdown."""

from __future__ import annotations

from typing import Any

from . import words


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    return [_line(header), _line(["---"] * len(header)), *(_line(row) for row in rows), ""]


def text(values: dict[str, Any]) -> str:
    """The whole report. values: as in reproduction.json."""
    counts = words.count(values)
    lines = [
        "# Understanding deep learning requires rethinking generalization, reproduced",
        "",
        f"Scale: **{values['scale']['name']}** ({values['scale']['words']}). Seeds: {values['seeds']}. Findings: "
        f"{counts['pass']} hold, {counts['fail']} do not, {counts['not run']} were not run. Time of all runs: "
        f"{words.duration(words.total_seconds(values))}.",
        "",
        "## Findings",
        "",
        *table(
            ["finding", "asserted", "found", "verdict"],
            [
                [finding["statement"], finding["margin"], finding["value"] or "-", finding["verdict"]]
                for experiment in values["experiments"].values()
                for finding in experiment["findings"]
            ],
        ),
    ]
    for experiment in values["experiments"].values():
        lines += _experiment(experiment, values)
    lines += ["## What differs from the paper in the runs", ""]
    lines += [f"- {line}" for line in words.departures(values)] or ["- nothing"]
    lines += ["", "## Runs", "", *_runs(values), "## Machines and versions", ""]
    for machine in words.machines(values):
        lines += table(["", ""], [[name, value] for name, value in machine.items()])
    return "\n".join(lines).rstrip() + "\n"


def _experiment(experiment: dict[str, Any], values: dict[str, Any]) -> list[str]:
    lines = [f"## {experiment['title']}", "", f"{experiment['status'].capitalize()}.", ""]
    if experiment["stopped"]:
        lines += [f"**Not run:** {experiment['stopped']}.", ""]
    for each in experiment["tables"]:
        letters = words.reasons(each)
        unit = f" ({each['unit']})" if each["unit"] else ""
        header = [*each["labels"], "number", "paper", "ours", "difference", "tolerance", "verdict", "scale"]
        rows = []
        for row in each["rows"]:
            scale = words.scale_of(row, values)
            for value in row["values"]:
                mark = f" ({letters[value['reason']]})" if value["reason"] else ""
                numbers = [words.paper(value), words.ours(value), words.difference(value)]
                tolerance = words.tolerance(value) + mark
                rows.append([*row["labels"], value["column"], *numbers, tolerance, value["verdict"], scale])
        lines += [f"### {each['title']}{unit}", "", *table(header, rows)]
        lines += [f"- ({letter}) tolerance: {reason}" for reason, letter in letters.items()]
        notes = dict.fromkeys(row["note"] for row in each["rows"] if row["note"])
        lines += [*(f"- {note}" for note in notes), ""]
    for plot in experiment["plots"]:
        lines += [f"### {plot['title']}", "", f"![{plot['title']}]({plot['name']}.svg)", ""]
        caption = words.caption(plot)
        lines += [caption, ""] if caption else []
    lines += ["What differs from the paper, or is left unsaid by it:", ""]
    return [*lines, *(f"- {line}" for line in experiment["departures"]), ""]


def _runs(values: dict[str, Any]) -> list[str]:
    rows = []
    for key, run in values["runs"].items():
        record = run["record"]
        took = words.duration(words.runs_seconds(record)) if record else "-"
        epochs = str(record["epochs"]) if record and "epochs" in record else "-"
        device = record["device"] if record else "-"
        rows.append([run["what"], words.size_of(record) if record else "-", epochs, took, device, run["status"], key])
    return table(["run", "scale", "epochs", "time", "device", "status", "folder"], rows)
