"""From declarations and results to plain values: rows with verdicts, curves, findings. What a report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ..defaults import DEFAULTS
from .spec import (
    Experiment,
    Failed,
    Finding,
    NotRun,
    Plot,
    Result,
    Results,
    Row,
    Series,
    Spread,
    Summary,
    Table,
    Task,
    Value,
    with_seed,
)

VERDICTS = {
    "agrees": "ours is within the tolerance of the paper's",
    "differs": "ours is outside it",
    "not comparable": "ours is of fewer images, and the paper's number is not expected of it",
    "no reference": "the paper has none",
    "failed": "the run has ended without a usable number",
    "not run": "no run so far",
}


def judge(experiment: Experiment, results: Results, keys: Mapping[Task, str], seeds: int) -> dict[str, Any]:
    """Return an experiment as plain values: its tables with verdicts, its curves and its findings.

    results: what has run so far.
    keys: the name of each task's folder, of every seed.
    seeds: runs of each task.
    """
    findings = [_finding(finding, results) for finding in experiment.findings]
    done = [_has_run(results, task) for task in experiment.tasks]
    return {
        "title": experiment.title,
        "status": "not run" if not any(done) else "complete" if all(done) else "partly run",
        "skipped_because": experiment.skipped_because,
        "tables": [_table(table, results, keys, seeds) for table in experiment.tables],
        "plots": [_plot(plot, results) for plot in experiment.plots],
        "summaries": [_summary(summary, results) for summary in experiment.summaries],
        "findings": findings,
        "deviations": list(experiment.deviations),
    }


def _has_run(results: Results, task: Task) -> bool:
    try:
        results.all(task)
    except NotRun:
        return False
    except Failed:
        pass
    return True


def _table(table: Table, results: Results, keys: Mapping[Task, str], seeds: int) -> dict[str, Any]:
    return {
        "title": table.title,
        "labels": list(table.labels),
        "unit": table.unit,
        "rows": [_row(row, results, keys, seeds) for row in table.rows],
    }


def _row(row: Row, results: Results, keys: Mapping[Task, str], seeds: int) -> dict[str, Any]:
    tasks = [with_seed(row.task, number) for number in range(seeds)] if row.task is not None else []
    return {
        "labels": list(row.labels),
        "note": row.note,
        "runs": [keys[task] for task in tasks if task in keys],
        "values": [_value(value, row.task, results) for value in row.values],
    }


def _value(value: Value, task: Task | None, results: Results) -> dict[str, Any]:
    spread: Spread | None = None
    tolerance, why = value.tolerance, ""
    try:
        if task is None:
            raise NotRun
        spread = results.spread(task, value.measure, value.baseline)
        first = results.first(task)
        if value.extra_tolerance is not None and not _is_full(first):
            tolerance += value.extra_tolerance(first) or 0.0
        verdict = _verdict(value, spread, tolerance, first)
    except NotRun:
        verdict = "not run"
    except Failed as failure:
        verdict, why = "failed", str(failure)
        if isinstance(value.paper, str):
            verdict = "agrees"
    numeric = isinstance(value.paper, int | float)
    return {
        "column": value.column,
        "paper": value.paper,
        "ours": asdict(spread) if spread else None,
        "difference": spread.mean - float(value.paper or 0.0) if spread and numeric else None,
        "tolerance": tolerance if numeric else None,
        "reason": value.reason if value.paper is not None else "",
        "verdict": verdict,
        "why": why,
    }


def _verdict(value: Value, spread: Spread, tolerance: float, result: Result) -> str:
    if value.paper is None:
        return "no reference"
    if not value.comparable_at_any_scale and not _is_full(result):
        return "not comparable"
    if isinstance(value.paper, str):
        # "failed to converge": a run that has come to the end counts as that where it has not learnt half.
        return "agrees" if spread.mean < 50 else "differs"
    # a float's own rounding is no difference
    return "agrees" if abs(spread.mean - value.paper) <= tolerance + 1e-9 else "differs"


def _is_full(result: Result) -> bool:
    """Whether the whole training set took part."""
    record = result.record
    images = record.get("n_train", record.get("n"))
    return images is not None and images >= DEFAULTS[record["dataset"]].full_size


def _plot(plot: Plot, results: Results) -> dict[str, Any]:
    return {
        "name": plot.name,
        "title": plot.title,
        "x_label": plot.x_label,
        "y_label": plot.y_label,
        "x_limit": plot.x_limit,
        "y_limits": plot.y_limits,
        "note": plot.note,
        "paper": _series(plot.paper),
        "ours": _series(plot.ours(results)),
    }


def _series(series: Iterable[Series]) -> list[dict[str, Any]]:
    return [asdict(one) for one in series]


def _summary(summary: Summary, results: Results) -> dict[str, Any]:
    try:
        header, rows = summary.cells(results)
    except (NotRun, Failed):
        header, rows = [], []
    return {"title": summary.title, "header": header, "rows": rows, "notes": list(summary.notes)}


def _finding(finding: Finding, results: Results) -> dict[str, Any]:
    try:
        check = finding.check(results)
    except NotRun:
        verdict, value = "not run", ""
    except Failed as failure:
        verdict, value = "fail", f"a run has no usable number: {failure}"
    else:
        verdict, value = "pass" if check.passed else "fail", check.value
    return {"statement": finding.statement, "margin": finding.margin, "verdict": verdict, "value": value}
