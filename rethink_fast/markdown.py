"""Text as Markdown that shows exactly this text: headings, paragraphs, lists and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .text import printable

NUMBERS = ("epochs", "time", "paper", "ours", "difference", "tolerance")
"""Columns that are aligned to the right."""

_ACTIVE = re.compile(r"[\\`*\[\]<&|~$#]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown acts upon within a line. An underscore inside a word is only itself."""
_STARTS_A_BLOCK = re.compile(r"(\d*)([-+=>.)])")


def escape(text: str) -> str:
    """Return text as Markdown that shows exactly this text, on one line."""
    return _ACTIVE.sub(lambda match: "\\" + match[0], printable(text).strip())


def _line(text: str) -> str:
    """Escape a text at the start of a line, where it could begin a list or a quotation."""
    escaped = escape(text)
    starts = _STARTS_A_BLOCK.match(escaped)
    return f"{starts[1]}\\{escaped[starts.end(1) :]}" if starts else escaped


def heading(level: int, text: str) -> list[str]:
    """Return the lines of a heading."""
    return ["#" * level + " " + escape(text), ""]


def paragraph(text: str) -> list[str]:
    """Return the lines of a paragraph; none for an empty one."""
    return [_line(text), ""] if text else []


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the lines of a list; none for an empty one."""
    items = [f"- {_line(line)}" for line in lines]
    return [*items, ""] if items else []


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    first, *others = ([escape(cell) for cell in row] for row in (header, *rows))
    rule = ["---:" if name in NUMBERS else "---" for name in header]
    return [*("| " + " | ".join(row) + " |" for row in (first, rule, *others)), ""]
