"""The records over time as a section of the report: what it is told, and how it says it in the page and in the text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from html import escape

from . import parts
from .plots import inline
from .text import table

TITLE = "Measured over time"
STEPS = "Steps over time"
LEAD = "Every figure of the records in a folder: its last value, its last step, and a chart."
HOW = (
    "A step is a lasting change of level beyond the figure's own noise. Times and rates are joined within one machine "
    "and its versions alone; ratios measured within one process are taken to mean the same everywhere, and go over all "
    "machines."
)
COLUMNS = ("figure", "measure", "machine", "records", "last value", "day", "last step")
SOURCES = ("file", "kind", "day", "machine", "figures")


@dataclass(frozen=True)
class Change:
    """The last step of a figure, in words. since: the day of the first record of the new level."""

    words: str
    better: bool
    since: str

    @property
    def verdict(self) -> str:
        """Its direction and size."""
        return f"{'better' if self.better else 'worse'} {self.words}"


@dataclass(frozen=True)
class Line:
    """One figure over time. name: of its picture, the SVG svg; measure: what of the thing was measured, in short.

    unit: of the picture, may be empty; better: the direction that is.
    """

    name: str
    what: str
    measure: str
    unit: str
    better: str
    last: str
    day: str
    records: int
    machine: str
    change: Change | None
    svg: str

    @property
    def caption(self) -> str:
        """What the picture shows, beside what it is of."""
        return f"{f'{self.unit} ({self.better})' if self.unit else self.better}, machine {self.machine}"


@dataclass(frozen=True)
class Group:
    """The figures of records of one kind and scale. note: the scale in words."""

    title: str
    note: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Source:
    """A record: its file, what kind it is, and how many figures it has."""

    file: str
    kind: str
    day: str
    machine: str
    figures: int


@dataclass(frozen=True)
class History:
    """What the records say. machines: by their names on the page; passed_over: a line for each other JSON file."""

    groups: tuple[Group, ...]
    sources: tuple[Source, ...]
    machines: dict[str, dict[str, str]]
    passed_over: tuple[str, ...]


def pictures(past: History) -> dict[str, str]:
    """The SVG of each figure by its name."""
    return {line.name: line.svg for group in past.groups for line in group.lines}


def links(past: History) -> dict[str, str]:
    """The parts of the section and their titles, for the page's navigation."""
    groups = {f"history-group-{place}": group.title for place, group in enumerate(past.groups, 1)}
    return {"history": STEPS, **groups, "history-records": "Records", "history-machines": "Their machines"}


def _stepped(past: History) -> list[tuple[Line, Change]]:
    """Every line with a step, the newest first."""
    found = [(line, line.change) for group in past.groups for line in group.lines if line.change is not None]
    return sorted(found, key=lambda each: each[1].since, reverse=True)


def _counts(past: History) -> dict[str, str]:
    changes = [change for _, change in _stepped(past)]
    return {
        "records": str(len(past.sources)),
        "figures over time": str(len(pictures(past))),
        "whose last step was for the better": str(sum(change.better for change in changes)),
        "whose last step was for the worse": str(sum(not change.better for change in changes)),
        "machines and versions": str(len(past.machines)),
        "JSON files passed over": str(len(past.passed_over)),
    }


def tiles(past: History) -> str:
    """The counts, for the top of the page."""
    return parts.tiles(_counts(past))


def sections(past: History) -> str:
    """The steps, a section for each kind and scale, the records and their machines, as HTML."""
    groups = "".join(_group(f"history-group-{place}", group) for place, group in enumerate(past.groups, 1))
    return f"{_steps(past)}\n{groups}\n{_records(past)}\n{_machines(past)}"


def _verdict(change: Change | None) -> str:
    if change is None:
        return "-"
    return f'{parts.verdict(change.verdict)} <span class="scale since">since {escape(change.since)}</span>'


def _steps(past: History) -> str:
    rows = "".join(
        f"<tbody><tr>{parts.cell(escape(line.what), 'figure', 'row')}{parts.cell(_measure(line), 'measure')}"
        f"{parts.cell(escape(line.machine), 'machine')}{parts.cell(_verdict(change), 'last step')}</tr></tbody>"
        for line, change in _stepped(past)
    )
    head = parts.head(("figure", "measure", "machine", "last step"))
    found = f"<table>{head}{rows}</table>" if rows else f"<p>{_no_step(past)}</p>"
    return f'<section id="history"><h2>{STEPS}</h2><p>{HOW}</p>{found}</section>'


def _no_step(past: History) -> str:
    longest = max((line.records for group in past.groups for line in group.lines), default=0)
    return f"No figure has a step. The longest series has {longest} record{'s' if longest != 1 else ''}."


def _measure(line: Line) -> str:
    return f'<a class="measure" href="#{line.name}">{escape(line.measure)}</a>'


def _group(name: str, group: Group) -> str:
    bodies = ""
    for what, alike in itertools.groupby(group.lines, lambda line: line.what):
        lines = list(alike)
        first = parts.cell(escape(what), "figure", "row", len(lines))
        rows = ""
        for line in lines:
            cells = (
                parts.cell(_measure(line), "measure"),
                parts.cell(escape(line.machine), "machine", "machine"),
                parts.cell(str(line.records), "records", "n"),
                parts.cell(escape(line.last), "last value", "n"),
                parts.cell(escape(line.day), "day", "day"),
                parts.cell(_verdict(line.change), "last step"),
            )
            rows += f"<tr>{first}{''.join(cells)}</tr>"
            first = ""
        bodies += f"<tbody>{rows}</tbody>"
    plots = "".join(
        f'<figure id="{line.name}"><figcaption>{escape(line.what)}<span>{escape(line.caption)}</span></figcaption>'
        f"{inline(line.svg, line.name)}</figure>"
        for line in group.lines
    )
    note = f'<p class="scale">{escape(group.note)}</p>' if group.note else ""
    head = parts.head(COLUMNS, ("records", "last value"))
    return (
        f'<section id="{name}"><h2>{escape(group.title)}</h2>{note}<table>{head}{bodies}</table>'
        f'<div class="plots small">{plots}</div></section>'
    )


def _records(past: History) -> str:
    rows = ""
    for source in past.sources:
        cells = (
            parts.cell(escape(source.file), "file", "row"),
            parts.cell(escape(source.kind), "kind"),
            parts.cell(escape(source.day), "day"),
            parts.cell(escape(source.machine), "machine"),
            parts.cell(str(source.figures), "figures", "n"),
        )
        rows += f"<tbody><tr>{''.join(cells)}</tr></tbody>"
    head = parts.head(SOURCES, ("figures",))
    others = f"<p>Passed over:</p>{parts.bullets(past.passed_over)}" if past.passed_over else ""
    return f'<section id="history-records"><h2>Records</h2><table>{head}{rows}</table>{others}</section>'


def _machines(past: History) -> str:
    tables = "".join(f"<h3>Machine {escape(name)}</h3>{parts.facts(facts)}" for name, facts in past.machines.items())
    return f'<section id="history-machines"><h2>Machines of the records</h2>{tables}</section>'


def text(past: History) -> str:
    """The same as Markdown."""
    lines = [f"# {TITLE}", "", HOW, ""]
    lines += [f"- {name}: {count}" for name, count in _counts(past).items()] + [""]
    if not _stepped(past):
        lines += [_no_step(past), ""]
    for group in past.groups:
        rows = []
        for line in group.lines:
            step = f"{line.change.verdict} since {line.change.since}" if line.change else "-"
            rows.append([line.what, line.measure, line.machine, str(line.records), line.last, line.day, step])
        lines += [f"## {group.title}", "", *([group.note, ""] if group.note else []), *table([*COLUMNS], rows)]
        for line in group.lines:
            lines += [f"{line.what}, {line.caption}:", "", f"![{line.what}, {line.measure}]({line.name}.svg)", ""]
    lines += ["## Records", ""]
    rows = [[each.file, each.kind, each.day, each.machine, str(each.figures)] for each in past.sources]
    lines += table([*SOURCES], rows)
    if past.passed_over:
        lines += ["Passed over:", "", *(f"- {line}" for line in past.passed_over), ""]
    lines += ["## Machines of the records", ""]
    for name, facts in past.machines.items():
        lines += [f"### Machine {name}", "", *table(["", ""], [[key, value] for key, value in facts.items()])]
    return "\n".join(lines).rstrip() + "\n"
