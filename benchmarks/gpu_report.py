"""The table and the record of a GPU check: plain values in, text and JSON out."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rethink_fast.files import write_json

SLOW_CLOCK = 0.75
"""A sample taken at less than this share of the median clock is omitted, whatever the reason (as NVBench does)."""


@dataclass(frozen=True)
class Sample:
    """One timing. sm_mhz: the clock right after it; throttled: NVML's bits of what held it back, without idling and the
    clocks that were asked for. Both None where NVML cannot tell."""

    microseconds: float
    sm_mhz: int | None = None
    throttled: int | None = None


def kept(samples: list[Sample]) -> list[Sample]:
    """The samples that nothing slowed down; all of them where that would leave fewer than half."""
    clocks = [sample.sm_mhz for sample in samples if sample.sm_mhz is not None]
    least = SLOW_CLOCK * statistics.median(clocks) if clocks else 0.0
    good = [s for s in samples if not s.throttled and (s.sm_mhz is None or s.sm_mhz >= least)]
    return good if 2 * len(good) >= len(samples) else samples


@dataclass(frozen=True)
class Row:
    """One case. microseconds: median, 20th and 80th percentile with a cold cache. wrong: what was, by way it ran.

    samples: microseconds of each that was kept; sm_mhz: its clock; dropped: how many were throttled.
    """

    case: str
    bytes: int
    target: float | None
    wrong: dict[str, str]
    microseconds: tuple[float, float, float] | None = None
    samples: tuple[float, ...] = ()
    sm_mhz: tuple[int | None, ...] = ()
    dropped: int = 0

    def gigabytes_per_second(self) -> float | None:
        return self.bytes / self.microseconds[0] / 1e3 if self.microseconds else None


def quantiles(samples: list[float]) -> tuple[float, float, float]:
    """Median, 20th and 80th percentile."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return ordered[round(0.5 * last)], ordered[round(0.2 * last)], ordered[round(0.8 * last)]


def timed_row(case: str, size: int, target: float | None, samples: list[Sample]) -> Row:
    """The row of a case that was right."""
    good = kept(samples)
    times = [sample.microseconds for sample in good]
    clocks = tuple(sample.sm_mhz for sample in good)
    return Row(case, size, target, {}, quantiles(times), tuple(times), clocks, len(samples) - len(good))


def table(rows: list[Row], copy_gb_per_s: float) -> str:
    """One line a case: microseconds, GB/s, share of the copy bandwidth, and how that stands to the target."""
    width = max(len("case"), *(len(row.case) for row in rows))
    lines = [f"{'case':{width}}  {'us':>8}  {'p20':>8}  {'p80':>8}  {'GB/s':>6}  {'of copy':>7}  target  values"]
    for row in rows:
        values = "right" if not row.wrong else "; ".join(f"{way}: {what}" for way, what in row.wrong.items())
        rate = row.gigabytes_per_second()
        if row.microseconds is None or rate is None:
            lines.append(f"{row.case:{width}}  {'-':>8}  {'-':>8}  {'-':>8}  {'-':>6}  {'-':>7}  {'':6}  {values}")
            continue
        share = rate / copy_gb_per_s
        target = "" if row.target is None else f"{row.target:.0%} {'met' if share >= row.target else 'no'}"
        times = "  ".join(f"{value:8.1f}" for value in row.microseconds)
        lines.append(f"{row.case:{width}}  {times}  {rate:6.0f}  {share:7.1%}  {target:6}  {values}")
    return "\n".join(lines)


def fault(line: dict[str, Any]) -> str:
    """What is wrong with a task, from its line; empty where nothing is. Without nvcc an absent op is none."""
    if line["status"] != "done":
        return f"{line['status']}: {line['why']}"
    wrong = line["found"].get("wrong")
    rows = {row["case"]: row["wrong"] for row in line["found"].get("rows", ()) if row["wrong"]}
    found = wrong or rows
    if isinstance(found, dict):
        found = {case: ways for case, ways in found.items() if "build" not in ways or shutil.which("nvcc")}
    return json.dumps(found) if found else ""


def said(line: dict[str, Any]) -> str:
    """A task's outcome in a line, and what it printed if it failed."""
    if line["status"] != "done":
        return "\n".join((f"  {fault(line)}", *(f"    {text}" for text in line["output"])))
    if "skipped" in line["found"]:
        return f"  skipped: {line['found']['skipped']}"
    return f"  {fault(line) or 'done'} ({line['seconds']:.0f} s)"


def assemble(lines: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """The record, from the lines of all tasks; None for a rate that no task measured."""
    found = [line["found"] for line in lines if line["status"] == "done"]
    rows = [Row(**row) for one in found for row in one.get("rows", ())]
    copies = [one["copy_gb_per_s"] for one in found if "copy_gb_per_s" in one]
    matrices = [one["matrix_rate"] / 1e12 for one in found if "matrix_rate" in one]
    runs = [one for one in found if "run" in one]
    made = record(
        rows,
        statistics.median(copies) if copies else None,
        statistics.median(matrices) if matrices else None,
        {**facts, "tasks": lines},
    )
    if runs:
        made["engine"] = {"data_source": runs[0]["data_source"], "runs": [one["run"] for one in runs]}
    sources = [source for one in found for source in one.get("sources", ())]
    return made | {"imagenet": {"sources": sources}} if sources else made


def tables(record: dict[str, Any]) -> str:
    """All tables that the record has something for."""
    from . import gpu_engine, gpu_imagenet

    shown = []
    if record["rows"]:
        fields = Row.__dataclass_fields__
        rows = [Row(**{name: row[name] for name in fields}) for row in record["rows"]]
        shown.append(table(rows, record["copy_gb_per_s"]))
    if "engine" in record:
        shown.append(gpu_engine.table([gpu_engine.Result(**run) for run in record["engine"]["runs"]]))
    if "imagenet" in record:
        shown.append(gpu_imagenet.table([gpu_imagenet.Result(**one) for one in record["imagenet"]["sources"]]))
    return "\n\n".join(shown)


def record(
    rows: list[Row], copy_gb_per_s: float | None, matrix_tflop_per_s: float | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    return {
        "kind": "gpu-check",
        **facts,
        "copy_gb_per_s": copy_gb_per_s,
        "bf16_matrix_tflop_per_s": matrix_tflop_per_s,
        "rows": [
            {
                **asdict(row),
                "gb_per_s": (rate := row.gigabytes_per_second()),
                "share_of_copy": rate / copy_gb_per_s if rate is not None and copy_gb_per_s else None,
            }
            for row in rows
        ],
    }


def write(record: dict[str, Any], folder: Path) -> Path:
    """Write <gpu>-<date>.json whole, over an earlier state of it, and return its path."""
    gpu = re.sub(r"[^a-z0-9]+", "-", record["gpu"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{gpu}-{record['date']}.json"
    write_json(path, record)
    return path
