"""The README cannot rot: its tables are the program's, and its commands parse."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from rethink_fast import config
from rethink_fast.bench.record import SCHEMA
from rethink_fast.cli.app import app
from rethink_fast.corruptions import KINDS
from rethink_fast.defaults import DEFAULTS
from rethink_fast.models import MODELS

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
DOCS = [
    TOP / "README.md",
    TOP / "CONTRIBUTING.md",
    *sorted(TOP.glob("*/README.md")),
    *sorted(TOP.glob("*/*/README.md")),
]
TEXTS = {str(path.relative_to(TOP)): path.read_text() for path in DOCS}


def schema_table() -> str:
    rows = [f"| `{key}` | {kind.replace('?', ' or null')} | {meaning} |\n" for key, (kind, meaning) in SCHEMA.items()]
    return "| key | type | meaning |\n| --- | --- | --- |\n" + "".join(rows)


def test_the_schema_in_the_docs_is_the_records() -> None:
    found = re.search(r"<!-- schema -->\n(.*?)<!-- /schema -->", TEXTS["rethink_fast/bench/README.md"], re.DOTALL)
    assert found
    assert found.group(1) == schema_table()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 1500


def test_every_corruption_and_model_is_in_the_readme() -> None:
    for word, kind in KINDS.items():
        assert f"| `{word}` | `{kind}` |" in README
    for name in MODELS:
        assert f"`{name}`" in README


def test_the_names_on_the_command_line_are_those_of_the_registries() -> None:
    assert set(get_args(config.ModelName)) == set(MODELS)
    assert set(get_args(config.CorruptionName)) == set(KINDS)
    assert set(get_args(config.DatasetName)) == set(DEFAULTS)


COMMANDS = sorted(
    {
        command
        for text in TEXTS.values()
        for command in re.findall(r"^(?:rethink-fast|python -m rethink_fast\.bench) .*$", text, re.MULTILINE)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    words = shlex.split(command.replace("python -m rethink_fast.bench", "rethink-fast bench"))[1:]
    function, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert callable(function)
    assert bound.arguments


def test_the_python_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    wrapped, trained = (
        subprocess.check_output([sys.executable, "-c", block], cwd=tmp_path, env=environment, text=True)
        for block in blocks
    )
    assert re.fullmatch(r"100 samples, and sample 7 is always a \d\n", wrapped)
    assert re.fullmatch(r"1\.0 \{'seconds': .*\}\n", trained)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 3


def test_every_make_target_named_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for name, text in TEXTS.items():
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, (name, target)


@pytest.mark.parametrize("name", TEXTS)
def test_every_relative_link_leads_to_a_file(name: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXTS[name]):
        assert "://" in link or (TOP / name).parent.joinpath(link).exists(), link
