"""The one way to the terminal: text from anywhere is shown as it is, and never acts on the terminal."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from .text import duration, printable

LEAST_COLUMNS, MOST_COLUMNS = 20, 1000
PROGRESS_SECONDS = 10.0
"""Between two lines of progress where the output is not a terminal."""

AnyLiveLine = TypeVar("AnyLiveLine", bound="LiveLine")


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
        """Return a string as rich's text, escaped.

        how: rich's options; markup is never read.
        """
        return super().render_str(printable(text), **{**how, "markup": False, "emoji": False, "highlight": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with rich's own text escaped too."""
        if isinstance(renderable, Text) and not renderable.plain.isprintable():
            renderable = Text(printable(renderable.plain), style=renderable.style, end=renderable.end)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, where rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def number_table(first: str, *others: str) -> Table:
    """Return a table whose first column is text, and whose other columns are numbers, aligned to the right."""
    table = Table(first, header_style="bold")
    for column in others:
        table.add_column(column, justify="right")
    return table


def spare_width(header: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, padding: int = 1) -> int:
    """Return how many columns a table as narrow as its longest words leaves of `width`; negative if it is wider.

    padding: columns on either side of a cell.
    """
    return width - sum(map(_longest_word, zip(header, *rows, strict=True))) - (2 * padding + 1) * len(header) - 1


def _longest_word(cells: Sequence[str]) -> int:
    return max(len(word) for cell in cells for word in cell.split())


def fitted_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, padding: int = 1, numbers: bool = False
) -> Table:
    """Return a table no wider than `width`, if its longest words fit. Its cells wrap between words.

    Where there is room to spare, the first columns have it.

    padding: columns on either side of a cell. numbers: align all columns but the first to the right.
    """
    spare = spare_width(header, rows, width, padding=padding)
    table = Table(header_style="bold", padding=(0, padding))
    for place, column in enumerate(zip(header, *rows, strict=True)):
        least = _longest_word(column)
        more = max(0, min(spare, max(map(len, column)) - least))
        spare -= more
        table.add_column(column[0], justify="right" if numbers and place else "left", width=least + more)
    for row in rows:
        table.add_row(*row)
    return table


class LiveLine:
    """One line of progress on a console. Use as a context manager.

    In a terminal each line replaces the last; elsewhere a line is printed at most every PROGRESS_SECONDS.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._printed = time.perf_counter()
        self._counted: tuple[str, int, float] | None = None

    def __enter__(self: AnyLiveLine) -> AnyLiveLine:
        if self.console.is_terminal:
            self._live = Live(console=self.console, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def print(self, line: str) -> None:
        """Print a line that stays."""
        self.console.print(line, soft_wrap=True)

    def show(self, line: str) -> None:
        """Replace the line of progress."""
        if self._live is not None:
            self._live.update(line)
        elif time.perf_counter() - self._printed >= PROGRESS_SECONDS:
            self._printed = time.perf_counter()
            self.print(line)

    def count(self, what: str, done: int, total: int) -> None:
        """Show how many of `total` are done, and the time left at the pace of this process."""
        now = time.perf_counter()
        if self._counted is None or self._counted[0] != what:
            self._counted = what, done, now
        _, first, start = self._counted
        left = (now - start) / (done - first) * (total - done) if done > first else None
        self.show(f"{what}: {done:,} of {total:,}{f', {duration(left)} left' if left is not None else ''}")
