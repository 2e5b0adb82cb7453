"""The report as Markdown. Every word of it comes from a record, escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..markdown import bullets, escape, heading, paragraph, table
from ..text import duration
from . import terms, wording

TITLE = "Understanding deep learning requires rethinking generalization, reproduced"
LEAD = "Every table and figure of Zhang, Bengio, Hardt, Recht and Vinyals (ICLR 2017), beside what rethink_fast finds."


def text(values: dict[str, Any], pictures: Sequence[Sequence[str]]) -> str:
    """Return the report.

    values: as in reproduction.json.
    pictures: for each experiment the name of the file of each plot.
    """
    counts = wording.count(values)
    experiments = values["experiments"].values()
    lines = heading(1, TITLE) + paragraph(LEAD)
    lines += paragraph(
        f"Scale {values['scale']['name']}: {values['scale']['words']}. Seeds: {values['seeds']}. Findings: "
        f"{counts['pass']} hold, {counts['fail']} do not, {counts['not run']} were not run. "
        f"Time of all runs: {duration(wording.total_seconds(values))}{_too_long(values)}."
    )
    partly = [experiment["title"] for experiment in experiments if experiment["status"] == "partly run"]
    if partly:
        lines += paragraph(f"Only a part has been run of: {'; '.join(partly)}. The rest reads 'not run'.")
    lines += _pictures(values, pictures)
    lines += heading(2, "Findings") + paragraph("What the paper says in words, as assertions, each with its margin.")
    lines += table(
        ["finding", "asserted", "found", "verdict"],
        [
            [finding["statement"], finding["margin"], finding["value"] or "-", finding["verdict"]]
            for experiment in experiments
            for finding in experiment["findings"]
        ],
    )
    lines += terms.section(values)
    for experiment in experiments:
        lines += _experiment(experiment, values)
    lines += heading(2, "What differs from the paper in the runs")
    lines += bullets(wording.deviations(values)) or paragraph("Nothing: every run is the paper's recipe.")
    lines += paragraph("What the verdicts mean:")
    lines += bullets(f"{name}: {meaning}" for name, meaning in values["verdicts"].items())
    lines += heading(2, "Runs") + _runs(values)
    lines += heading(2, "Machines and versions")
    for machine in wording.machines(values):
        lines += table(["what", "version"], [[name, value] for name, value in machine.items()])
    lines += paragraph("The paper's numbers and curves are those of arXiv:1611.03530v2. Made by rethink-fast report.")
    return "\n".join(lines).rstrip() + "\n"


def _pictures(values: dict[str, Any], pictures: Sequence[Sequence[str]]) -> list[str]:
    """The pictures of all experiments, each with its sentence."""
    lines: list[str] = []
    for experiment, names in zip(values["experiments"].values(), pictures, strict=True):
        for plot, name in zip(experiment["plots"], names, strict=True):
            lines += [*heading(3, plot["title"]), f"![{escape(plot['title'])}]({name})", ""]
            lines += paragraph(wording.caption(plot))
    return heading(2, "Figures") + lines if lines else []


def _experiment(experiment: dict[str, Any], values: dict[str, Any]) -> list[str]:
    lines = heading(2, experiment["title"]) + paragraph(f"{experiment['status'].capitalize()}.")
    lines += paragraph(f"Not run: {experiment['skipped_because']}." if experiment["skipped_because"] else "")
    for each in experiment["tables"]:
        lines += _table(each, values)
    for summary in experiment.get("summaries") or ():
        lines += heading(3, summary["title"])
        rows = summary["rows"]
        lines += table(summary["header"], rows) if rows else paragraph("Not run: it needs every result.")
        lines += bullets(summary["notes"])
    return (
        lines + paragraph("What differs from the paper, or is left unsaid by it:") + bullets(experiment["deviations"])
    )


def _table(each: dict[str, Any], values: dict[str, Any]) -> list[str]:
    letters = wording.reasons(each)
    header = [*each["labels"], "number", "paper", "ours", "difference", "tolerance", "verdict", "scale"]
    rows = []
    for row in each["rows"]:
        scale = wording.scale_of(row, values)
        for value in row["values"]:
            mark = f" ({letters[value['reason']]})" if value["reason"] else ""
            numbers = [wording.paper(value), wording.ours(value), wording.difference(value)]
            tolerance = wording.tolerance(value) + mark
            rows.append([*row["labels"], value["column"], *numbers, tolerance, value["verdict"], scale])
    lines = heading(3, each["title"] + (f" ({each['unit']})" if each["unit"] else "")) + table(header, rows)
    notes = dict.fromkeys(row["note"] for row in each["rows"] if row["note"])
    return lines + bullets([*(f"({letter}) tolerance: {reason}" for reason, letter in letters.items()), *notes])


def _too_long(values: dict[str, Any]) -> str:
    """For how many of the runs the machine was busy; nothing where it never was."""
    records = [run["record"] for run in values["runs"].values() if run["record"]]
    many = sum(wording.busy(record["environment"]) for record in records)
    return f", which is too long: in {many} of {len(records)} the machine was busy with other work" if many else ""


def _runs(values: dict[str, Any]) -> list[str]:
    rows = []
    for key, run in values["runs"].items():
        record = run["record"]
        took = duration(wording.runs_seconds(record)) if record else "-"
        if record and wording.busy(record["environment"]):
            took += ", busy"
        epochs = str(record["epochs"]) if record and record.get("epochs") is not None else "-"
        device = (record.get("device") if record else None) or "-"
        rows.append([run["what"], wording.size_of(record) if record else "-", epochs, took, device, run["status"], key])
    return table(["run", "scale", "epochs", "time", "device", "status", "folder"], rows)
