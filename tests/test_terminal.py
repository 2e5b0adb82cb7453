"""Progress on the console: in place in a terminal, else a line now and then, with the time left."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rethink_fast import terminal
from rethink_fast.terminal import PROGRESS_SECONDS, LiveLine


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rethink_fast.terminal.time.perf_counter", clock)
    return clock


def test_without_a_terminal_a_line_is_printed_now_and_then(clock: Clock) -> None:
    file = io.StringIO()
    with LiveLine(Console(file=file, width=200)) as live:
        for second in range(25):
            clock.now = 100 + second
            live.show(f"at {second}")
    assert file.getvalue().split("\n") == [f"at {PROGRESS_SECONDS:.0f}", f"at {2 * PROGRESS_SECONDS:.0f}", ""]


def test_the_time_left_is_at_the_pace_of_this_process(clock: Clock) -> None:
    """A resumed pack starts at 1,000 of 2,000: the first 1,000 say nothing about the pace."""
    file = io.StringIO()
    live = LiveLine(Console(file=file, width=200))
    for now, done in ((100.0, 1000), (120.0, 1200), (200.0, 2000)):
        clock.now = now
        live.count("packing", done, 2000)
    live.count("checking", 0, 10)
    clock.now = 300.0
    live.count("checking", 5, 10)
    assert file.getvalue().splitlines() == [
        "packing: 1,200 of 2,000, 1 min 20 s left",
        "packing: 2,000 of 2,000, 0.0 s left",
        "checking: 5 of 10, 1 min 40 s left",
    ]


def test_in_a_terminal_the_line_is_replaced_and_goes() -> None:
    file = io.StringIO()
    with LiveLine(Console(file=file, width=80, force_terminal=True)) as live:
        live.show("first")
        live.show("second")
        live.print("stays")
    text = file.getvalue()
    assert "stays\n" in text.replace("\r", "")
    assert text.endswith("\x1b[2K"), text[-40:]


def test_there_is_one_mechanism() -> None:
    """rich's live displays are made in terminal.py alone."""
    package = Path(terminal.__file__).parent
    names = ("rich.live", "rich.progress")
    using = {path.name for path in package.rglob("*.py") if any(name in path.read_text() for name in names)}
    assert using == {"terminal.py"}
