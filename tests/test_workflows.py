"""The workflows and hooks run what is there, in the versions that are pinned."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rethink_fast.cli.app import app

TOP = Path(__file__).parents[1]
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_its_commands_exist(path: Path) -> None:
    text = path.read_text()
    makes = re.findall(r"make ([a-z-]+)", text)
    assert makes
    assert set(makes) <= TARGETS
    for command in re.findall(r"\.venv/bin/rethink-fast (.*)", text):
        _, bound, _ = app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)
        assert bound.arguments


def test_ci_runs_style_all_tests_and_the_counts() -> None:
    lines = (TOP / ".ci" / "run").read_text().splitlines()
    assert lines[-3:] == ["make check", "make test-all", "make perf"]


def test_the_hooks_have_the_pinned_version_of_ruff() -> None:
    pinned = re.search(r"^ruff==(.*)$", (TOP / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    hooks = re.findall(r"\[ruff==(.*)\]", (TOP / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == {pinned.group(1)}
