"""What was measured, as a table on the screen and as a section of a report."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from .. import markdown
from .against import ReportPair
from .measurement import Measurement
from .suite import Report

WORDS = {
    "vacuous": "a bound on the error that is no better than guessing",
    "says something": "a bound on the error below that of guessing",
    "tracks": "an estimate or correlate that went with what was measured; it explains nothing",
    "-": "no bound, and one run alone cannot tell: set another beside it with --against",
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


def named(name: str) -> str:
    """Return the name of a measure for people."""
    return NAMES.get(name, name.replace("_", " "))


def show(found: Report | ReportPair, console: Console) -> None:
    """Print the table, and what was omitted, assumed or subsampled."""
    header, rows = cells(found)
    shown = [place for place, name in enumerate(header) if console.width >= WIDE or name not in DROPPED]
    table = Table(header_style="bold", padding=0 if len(shown) < len(header) else (0, 1))
    for place in shown:
        longest = max(len(word) for row in (header, *rows) for word in row[place].split())
        table.add_column(header[place], min_width=longest)
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    console.print(table)
    if len(shown) < len(header):
        console.print(f"{console.width} columns are too few for {', '.join(DROPPED)}: they are in measures.json")
    for line in remarks(found):
        console.print(line)


def section(found: Report | ReportPair, level: int = 2) -> list[str]:
    """Return the lines of the section as Markdown."""
    header, rows = cells(found)
    verdicts = [f"{name}: {meaning}" for name, meaning in WORDS.items()]
    lines = markdown.heading(level, TITLE) + markdown.paragraph(_run(found)) + markdown.table(header, rows)
    return lines + markdown.bullets(remarks(found)) + markdown.paragraph("Verdicts:") + markdown.bullets(verdicts)


def _run(found: Report | ReportPair) -> str:
    record = _report(found).run.record
    return (
        f"{record['model']} on {record['n_train']:,} images of {record['dataset']}, {record['corruption']['kind']}, "
        f"{record['n_test']:,} test images."
    )


def _report(found: Report | ReportPair) -> Report:
    return found.ours if isinstance(found, ReportPair) else found


def cells(found: Report | ReportPair) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table."""
    report = _report(found)
    beside = isinstance(found, ReportPair)
    header = ["measure", "value", *(["other run", "ratio", "moves"] if beside else []), "bound on the error", "verdict"]
    header += ["bounds", "seconds", "reference"]
    rows = []
    for name, each in report.measures.items():
        row = [named(name), _value(each)]
        if isinstance(found, ReportPair):
            pair = found.rows.get(name)
            ratio = "-" if pair is None or pair.ratio is None else _number(pair.ratio)
            row += [_value(pair.other) if pair else "-", ratio, (pair.moves if pair else None) or "-"]
        bound = "-" if each.bound is None else _number(each.bound)
        rows.append([*row, bound, each.verdict or "-", each.bounds, f"{each.seconds:.1f}", each.reference])
    return header, rows


def _value(each: Measurement) -> str:
    return _number(each.value) + (f" ± {each.error:.1g}" if each.error is not None else "")


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e7 else f"{value:,.0f}"


def remarks(found: Report | ReportPair) -> list[str]:
    """Return what was omitted, assumed, subsampled and not measured, a line each."""
    lines = list(_remarks(_report(found)))
    if isinstance(found, ReportPair):
        other = found.other
        lines.append(f"other run: {other.run.folder}, {other.run.record['corruption']['kind']}")
        lines += [f"the runs differ in more than their labels: {line}" for line in found.other_differences]
        if not found.gaps_differ:
            lines.append("the gaps of the two runs are alike within their errors: no measure can be judged by them")
    return lines


def _remarks(report: Report) -> Iterator[str]:
    for name, each in report.measures.items():
        if each.note:
            yield f"{named(name)}: {each.note}"
    for name, (taken, of) in report.subsampled.items():
        yield f"{named(name)}: on {taken:,} of {of:,} training images"
    for name, why in report.not_measured.items():
        yield f"{named(name)}: not measured; {why}"
