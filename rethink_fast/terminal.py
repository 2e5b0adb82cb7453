"""The one way to the terminal: text from anywhere is shown as it is, and never acts on the terminal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .text import printable

LEAST_COLUMNS, MOST_COLUMNS = 20, 1000


class Terminal(Console):
    """A rich console without markup, on which text is escaped, in tables and live lines as well.

    stderr: print there, and leave stdout to JSON.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = None
        if columns.isascii() and columns.isdecimal():
            width = min(max(int(columns[:6]), LEAST_COLUMNS), MOST_COLUMNS)
        others = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, _environ=others)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a string as rich's text, escaped. How: as in rich; markup is never read."""
        return super().render_str(printable(text), **{**how, "markup": False, "emoji": False, "highlight": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with rich's own text escaped too."""
        if isinstance(renderable, Text) and not renderable.plain.isprintable():
            renderable = Text(printable(renderable.plain), style=renderable.style, end=renderable.end)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Let the caller know, where rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
