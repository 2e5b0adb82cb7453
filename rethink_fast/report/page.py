"""The report as one page: no script, nothing from elsewhere, for a desk, a phone or paper, light and dark."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from . import history, parts, words
from .history import History
from .plots import inline

TITLE = "Understanding deep learning requires rethinking generalization, reproduced"
LEAD = "Every table and figure of Zhang, Bengio, Hardt, Recht and Vinyals (ICLR 2017), beside what rethink_fast finds."
FOOTER = "The paper's numbers and curves are those of arXiv:1611.03530v2. "
ICON = "data:,"
"""An empty one, so that a browser asks for none."""


def page(values: dict[str, Any] | None, past: History | None, pictures: dict[str, str]) -> str:
    """The whole page. values: as in reproduction.json; past: the records over time; either may be missing.

    pictures: the SVG of each plot by its name.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    links: dict[str, str] = {}
    tiles = sections = ""
    if values is not None:
        experiments = values["experiments"]
        links |= {"findings": "Findings"} | {name: each["title"].split(":")[0] for name, each in experiments.items()}
        links |= {"differences": "Differences", "runs": "Runs", "machines": "Machines"}
        tiles += _figures(values)
        sections += _findings(values)
        sections += "".join(_experiment(name, each, values, pictures) for name, each in experiments.items())
        sections += _differences(values) + _runs(values) + _machines(values)
    if past is not None:
        links |= history.links(past)
        tiles += history.tiles(past)
        sections += history.sections(past)
    title, lead, footer = (TITLE, LEAD, FOOTER) if values is not None else (history.TITLE, history.LEAD, "")
    nav = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in links.items())
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="{ICON}">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>\n{tiles}\n<nav>{nav}</nav>\n</header>\n<main>\n{sections}\n</main>\n'
        f"<footer>{footer}Made by rethink-fast report.</footer>\n</body>\n</html>\n"
    )


def _figures(values: dict[str, Any]) -> str:
    counts = words.count(values)
    scale = values["scale"]
    of = sum(counts.values())
    done = sum(run["record"] is not None for run in values["runs"].values())
    return parts.tiles(
        {
            f"scale: {scale['words']}": scale["name"],
            "findings that hold": f"{counts['pass']} of {of}",
            "findings that do not": str(counts["fail"]),
            "findings not run": str(counts["not run"]),
            f"of {len(values['runs'])} tasks done, with {values['seeds']} seed(s)": str(done),
            "time of all tasks": words.duration(words.total_seconds(values)),
        }
    )


def _findings(values: dict[str, Any]) -> str:
    rows = ""
    for name, experiment in values["experiments"].items():
        for finding in experiment["findings"]:
            where = f'<a href="#{name}">{escape(experiment["title"].split(":")[0])}</a>'
            rows += (
                f"<tbody><tr>{parts.cell(escape(finding['statement']), 'finding', 'row')}{parts.cell(where, 'in')}"
                f"{parts.cell(escape(finding['margin']), 'asserted')}"
                f"{parts.cell(escape(finding['value'] or '-'), 'found')}"
                f"{parts.cell(parts.verdict(finding['verdict']), 'verdict')}</tr></tbody>"
            )
    head = parts.head(("finding of the paper", "in", "asserted", "found", "verdict"))
    return (
        '<section id="findings"><h2>Findings</h2><p>What the paper says in words, as assertions, each with its '
        f'margin.</p><table class="words">{head}{rows}</table></section>'
    )


def _experiment(name: str, experiment: dict[str, Any], values: dict[str, Any], pictures: dict[str, str]) -> str:
    stopped = f'<p class="stopped">Not run: {escape(experiment["stopped"])}.</p>' if experiment["stopped"] else ""
    plots = "".join(
        f"<figure><figcaption>{escape(plot['title'])}<span>{escape(words.caption(plot))}</span></figcaption>"
        f"{inline(pictures[plot['name']], plot['name'])}</figure>"
        for plot in experiment["plots"]
    )
    plots = f'<div class="plots">{plots}</div>' if plots else ""
    tables = "".join(_table(table, values) for table in experiment["tables"])
    return (
        f'<section id="{name}"><h2>{escape(experiment["title"])}</h2>'
        f'<p class="lead">{escape(experiment["status"].capitalize())}.</p>{stopped}{plots}{tables}'
        "<h3>What differs from the paper, or is left unsaid by it</h3>"
        f"{parts.bullets(experiment['departures'])}</section>"
    )


NUMBERS = ("paper", "ours", "difference", "tolerance")


def _table(table: dict[str, Any], values: dict[str, Any]) -> str:
    letters = words.reasons(table)
    unit = f", {table['unit']}" if table["unit"] else ""
    bodies = ""
    for row in table["rows"]:
        count = len(row["values"])
        scale = words.scale_of(row, values)
        first_word, *others = map(_label, table["labels"], row["labels"])
        label = escape(first_word)
        label += f'<br><span class="more">{escape(", ".join(others))}</span>' if others else ""
        label += f'<br><span class="scale">{escape(scale)}</span>' if scale else ""
        label += f'<br><span class="scale">{escape(row["note"])}</span>' if row["note"] else ""
        lines = ""
        for place, value in enumerate(row["values"]):
            first = parts.cell(label, "row", "row", count) if place == 0 else ""
            mark = f" <sup>{letters[value['reason']]}</sup>" if value["reason"] else ""
            cells = (words.paper(value), words.ours(value), words.difference(value), words.tolerance(value))
            numbers = "".join(
                parts.cell(escape(text) + (mark if name == "tolerance" else ""), name, "n")
                for name, text in zip(NUMBERS, cells, strict=True)
            )
            verdict = parts.cell(parts.verdict(value["verdict"]), "verdict")
            lines += f"<tr>{first}{parts.cell(escape(value['column']), 'number')}{numbers}{verdict}</tr>"
        bodies += f"<tbody>{lines}</tbody>"
    head = parts.head(("what", "number", *NUMBERS, "verdict"), NUMBERS)
    notes = parts.bullets(f"{letter}: {reason}" for reason, letter in letters.items())
    return f"<h3>{escape(table['title'])}{escape(unit)}</h3><table>{head}{bodies}</table>{notes}"


def _label(name: str, word: str) -> str:
    """A label in words: those that say yes or no are named."""
    return f"{name}: {word}" if word in ("yes", "no", "-") or name in ("labels", "corruption") else word


def _differences(values: dict[str, Any]) -> str:
    changes = parts.bullets(words.departures(values)) or "<p>Nothing: every run is the paper's recipe.</p>"
    verdicts = parts.bullets(f"{name}: {meaning}" for name, meaning in values["verdicts"].items())
    return (
        '<section id="differences"><h2>What differs from the paper in the runs</h2>'
        f"<p>The scale, and where a run is not the paper's recipe to the letter:</p>{changes}"
        f"<p>What the verdicts mean:</p>{verdicts}</section>"
    )


def _runs(values: dict[str, Any]) -> str:
    rows = ""
    for key, run in values["runs"].items():
        record = run["record"]
        took = words.duration(words.runs_seconds(record)) if record else "-"
        epochs = f"{record['epochs']}" if record and "epochs" in record else "-"
        cells = (
            parts.cell(escape(run["what"]), "run", "row"),
            parts.cell(escape(words.size_of(record) if record else "-"), "scale"),
            parts.cell(epochs, "epochs", "n"),
            parts.cell(escape(took), "time", "n"),
            parts.cell(escape(record["device"] if record else "-"), "device"),
            parts.cell(escape(run["status"]), "status"),
            parts.cell(f"<code>{escape(key[:8])}</code>", "folder"),
        )
        rows += f"<tbody><tr>{''.join(cells)}</tr></tbody>"
    head = parts.head(("run", "scale", "epochs", "time", "device", "status", "folder"), ("epochs", "time"))
    return f'<section id="runs"><h2>Runs</h2><table>{head}{rows}</table></section>'


def _machines(values: dict[str, Any]) -> str:
    tables = "".join(parts.facts(machine) for machine in words.machines(values))
    return f'<section id="machines"><h2>Machines and versions</h2>{tables or "<p>Nothing was run.</p>"}</section>'
