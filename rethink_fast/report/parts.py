"""The parts that every section of the page is made of, as HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def verdict(word: str) -> str:
    """A verdict, coloured by its first word."""
    return f'<span class="verdict {word.split()[0]}">{escape(word)}</span>'


def cell(content: str, label: str, kind: str = "", span: int = 1) -> str:
    """A cell, with its column's name for narrow screens. content: HTML; span: rows that it covers."""
    classes = f' class="{kind}"' if kind else ""
    rows = f' rowspan="{span}"' if span > 1 else ""
    return f'<td data-label="{escape(label)}"{classes}{rows}>{content}</td>'


def head(columns: Iterable[str], numeric: Iterable[str] = ()) -> str:
    """The head of a table. numeric: the columns that stand to the right."""
    right = set(numeric)
    cells = "".join(f"<th{' class=n' if name in right else ''}>{escape(name)}</th>" for name in columns)
    return f"<thead><tr>{cells}</tr></thead>"


def bullets(lines: Iterable[str]) -> str:
    """A list of notes; nothing where there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def tiles(values: dict[str, str]) -> str:
    """A few figures at the top of the page, each with what it is of."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="figures">{cells}</dl>'


def facts(values: dict[str, str]) -> str:
    """A table of a machine and its versions."""
    rows = "".join(
        f"<tbody><tr>{cell(escape(name), 'what')}{cell(escape(value), name)}</tr></tbody>"
        for name, value in values.items()
    )
    return f"<table>{head(('what', 'version'))}{rows}</table>"
