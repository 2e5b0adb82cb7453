"""The example configurations cannot rot: what they run is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rethink_fast.bench.cli import app

TOP = Path(__file__).parents[1]
EXAMPLES = sorted((TOP / "benchmarks" / "ci").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_its_commands_are_there(path: Path) -> None:
    text = path.read_text()
    makes = re.findall(r"make ([a-z-]+)", text)
    assert {"perf", "gpu-check"} <= set(makes) <= TARGETS
    commands = re.findall(r"\.venv/bin/rethink-fast (.*)", text)
    assert {command.split()[0] for command in commands} == {"compare", "bench"}
    for command in commands:
        _, bound, _ = app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)
        assert bound.arguments


def test_our_own_runs_the_counts_and_the_ratios() -> None:
    assert "make perf" in (TOP / ".ci" / "run").read_text().splitlines()
