"""Numbers and verdicts as people write them; the same in the page and in the text."""

from __future__ import annotations

import string
from typing import Any

from ..data.registry import SMALL_SETS
from ..text import number


def paper(value: dict[str, Any]) -> str:
    """Return the paper's number or words."""
    reference = value["paper"]
    return "-" if reference is None else reference if isinstance(reference, str) else number(reference)


def ours(value: dict[str, Any]) -> str:
    """Return our mean and standard deviation, with the number of seeds; or why there is none."""
    spread = value["ours"]
    if spread is None:
        return value["why"] or value["verdict"]
    if spread["of"] == 1:
        return number(spread["mean"])
    few = f" of {spread['of']}" if spread["n"] < spread["of"] else ""
    return f"{number(spread['mean'])} ± {number(spread['std'])} (n = {spread['n']}{few})"


def difference(value: dict[str, Any]) -> str:
    """Return ours less the paper's."""
    gap = value["difference"]
    if gap is None:
        return "-"
    return f"{'+' if gap >= 0 else '-'}{number(abs(gap))}"


def tolerance(value: dict[str, Any]) -> str:
    """Return how far ours may be from the paper's."""
    return "-" if value["tolerance"] is None else f"± {number(value['tolerance'])}"


def caption(plot: dict[str, Any]) -> str:
    """Return the note of a plot, and which of the paper's curves ours has none for, or not all of."""
    labels = [series["label"] for series in plot["paper"]]
    ours = {series["label"] for series in plot["ours"]}
    absent = [label for label in labels if label not in ours] if ours else ["all of ours"]
    absent += [f"{series['label']} in part" for series in plot["ours"] if None in series["y"]]
    lacking = [f"not run, or failed: {', '.join(absent)}"] if absent else []
    return "; ".join([*([plot["note"]] if plot["note"] else []), *lacking])


def reasons(table: dict[str, Any]) -> dict[str, str]:
    """Return a letter for each reason of a tolerance in a table, in their order in the table."""
    order = dict.fromkeys(value["reason"] for row in table["rows"] for value in row["values"] if value["reason"])
    return {reason: string.ascii_lowercase[k] if k < 26 else str(k) for k, reason in enumerate(order)}


def busy(environment: dict[str, Any]) -> bool:
    """Return whether the machine was busy with other work during a run, so that its times are too long."""
    contention = environment.get("contention")
    return isinstance(contention, dict) and contention.get("busy") is True


def runs_seconds(record: dict[str, Any]) -> float:
    """Return the wall time of a task in seconds: of a run with evaluation, compilation and checkpoints."""
    parts = ("train_seconds", "eval_seconds", "compile_seconds", "checkpoint_seconds")
    whole = record.get("seconds")
    return whole if whole is not None else sum(record.get(name) or 0.0 for name in parts)


def size_of(record: dict[str, Any]) -> str:
    """Return the scale of a run in words."""
    if record.get("n") is not None:
        return f"{record['n']:,} training images"
    images = f"{record.get('n_train') or 0:,} training and {record.get('n_test') or 0:,} test images"
    if record.get("batch_size") is None:
        return images
    return f"{images}, batch {record['batch_size']}, {record.get('precision')}"


def scale_of(row: dict[str, Any], values: dict[str, Any]) -> str:
    """Return the scale of a row's runs; "" where none has run."""
    for key in row["runs"]:
        record = values["runs"][key]["record"]
        if record is not None:
            return size_of(record)
    return ""


def count(values: dict[str, Any]) -> dict[str, int]:
    """Return how many findings have which verdict."""
    counts = {"pass": 0, "fail": 0, "not run": 0}
    for experiment in values["experiments"].values():
        for finding in experiment["findings"]:
            counts[finding["verdict"]] += 1
    return counts


def total_seconds(values: dict[str, Any]) -> float:
    """Return the wall time of all tasks together."""
    return sum(runs_seconds(run["record"]) for run in values["runs"].values() if run["record"] is not None)


def machines(values: dict[str, Any]) -> list[dict[str, str]]:
    """Return each machine and set of versions that the runs were made with, once."""
    tables: dict[str, dict[str, str]] = {}
    for run in values["runs"].values():
        if run["record"] is None:
            continue
        facts = run["record"]["environment"]
        gpu, git = facts["gpu"], facts["git"]
        lines = {
            "processor": f"{facts['processor']}, {facts['cores']} cores",
            "GPU": f"{gpu['name']}, driver {gpu['driver']}" if gpu else "none",
            "system": facts["system"],
            "python": facts["python"],
            **{name: version for name, version in facts["packages"].items() if version},
            "rethink_fast": facts["rethink_fast"],
            "corruption contract": f"version {facts['contract_version']}",
            "git": f"{(git['revision'] or '-')[:12]}{' with local changes' if git['dirty'] else ''}",
        }
        tables["|".join(lines.values())] = lines
    return list(tables.values())


def deviations(values: dict[str, Any]) -> list[str]:
    """Return how the runs differ from the paper's, each once: by their scale, in the pixels, and in the recipe."""
    sentences = dict.fromkeys(values["scale"]["deviations"])
    records = [run["record"] for run in values["runs"].values() if run["record"] is not None]
    for record in records:
        row = SMALL_SETS.get(record.get("dataset") or "")
        if row is not None and (record.get("data_source") or "").startswith("jpeg "):
            official = "its pixels are not those of the official, uncompressed files"
            sentences[f"{row.title} was read from JPEG files, so {official}."] = None
    for record in records:
        changes = (record.get("recipe") or {}).get("overrides")
        if changes:
            sentences[f"{record['model']}: {', '.join(changes)}."] = None
    return list(sentences)
