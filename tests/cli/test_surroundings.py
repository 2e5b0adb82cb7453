"""Environments and streams that are missing, odd or forbidden: one line and a code, never a traceback."""

from __future__ import annotations

import ast
import os
from itertools import filterfalse
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from rethink_fast import crash
from rethink_fast.terminal import Terminal
from tests.cli.helpers import SMALL, is_one_line, rethink_fast

NOTHING = {"HOME": None, "XDG_CACHE_HOME": None, "TERM": None, "PATH": "/nowhere", "PYTHONIOENCODING": "ascii"}

WRONG = {"HOME": "/proc/none", "LC_ALL": "POSIX", "TERM": "dumb", "COLUMNS": "0", "MPLBACKEND": "none-such"}

ODD = {"HOME": "", "PYTHONIOENCODING": "latin-1", "COLUMNS": "\N{SUPERSCRIPT TWO}", "FORCE_COLOR": "1"}

BROKEN = "import sys\nfor name in ('matplotlib', 'pynvml', 'triton', 'PIL'): sys.modules[name] = None"


@pytest.mark.slow
@pytest.mark.parametrize("environment", [NOTHING, WRONG, ODD], ids=["nothing", "wrong", "odd"])
def test_a_run_ends_well_in_any_environment(environment: dict[str, str | None], tmp_path: Path) -> None:
    done = rethink_fast(*SMALL, "--out", "run", "--profile", cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {"result.json", "profile.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.slow
def test_a_run_ends_well_without_optional_packages(tmp_path: Path) -> None:
    done = rethink_fast(*SMALL, "--out", "run", "--profile", cwd=tmp_path, code=BROKEN)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "matplotlib cannot be imported" in done.stdout
    assert "matplotlib" in is_one_line(rethink_fast("show", "mnist", "--data", "synthetic", cwd=tmp_path, code=BROKEN))


@pytest.mark.slow
def test_tools_that_are_missing(tmp_path: Path) -> None:
    compiled = rethink_fast(
        *SMALL, "--out", "run", "--compile", "on", cwd=tmp_path, environment={"PATH": "/nowhere", "CXX": "/nowhere"}
    )
    assert compiled.returncode == 2
    assert compiled.stderr.splitlines()[-1].startswith("rethink-fast: --compile on needs a C++ compiler")
    assert "git" in is_one_line(
        rethink_fast("compare", "HEAD", "HEAD~1", cwd=tmp_path, environment={"PATH": "/nowhere"})
    )


def test_an_empty_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    assert crash.guarded(lambda: "HOME" in os.environ) == 0


@pytest.mark.parametrize("columns", ["", "0", "1", "40", "-5", "9" * 30, "\N{SUPERSCRIPT TWO}", "x"])
def test_any_width_is_a_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("a", "b")
    table.add_row("[red]x", Text("\x1b]8;;http://a\x07y\r\udc80", style="bold"))
    console = Terminal()
    console.print(table)
    shown = capsys.readouterr().out
    assert "[red]x" in shown
    assert shown.isprintable() or set(filterfalse(str.isprintable, shown)) == {"\n"}
    assert 20 <= console.width <= 1000


def test_all_text_goes_to_the_terminal_by_one_way() -> None:
    """Only terminal.py makes a console, output.py prints JSON, and crash.py errors."""
    found = set()
    for path in Path(crash.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "Console", "sys.stdout.write"):
                found.add((path.name, ast.unparse(node.func)))
    # run.py has one that prints nothing, for the ranks after the first; process_group.py's ends a process.
    assert found == {
        ("crash.py", "print"),
        ("output.py", "print"),
        ("run.py", "Console"),
        ("process_group.py", "print"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_stream(closed: str, tmp_path: Path) -> None:
    done = rethink_fast(*SMALL, "--out", "run", cwd=tmp_path, shell=f'exec "$@" {closed}')
    assert done.returncode == 0
    assert "Traceback" not in done.stderr + done.stdout
    assert (tmp_path / "run/result.json").read_text().startswith("{\n")


@pytest.mark.slow
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    code = """import os, rethink_fast.cli.app as c
def run(*_):
    with open("file", "w"):
        os.write(1, b"what a library prints")
    return 0
c.run = run"""
    assert rethink_fast("env", cwd=tmp_path, code=code, shell='exec "$@" >&-').returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.slow
def test_stdout_that_is_full_or_gone() -> None:
    full = rethink_fast("env", shell='exec "$@" >/dev/full')
    assert "No space left on device" in is_one_line(full)
    gone = rethink_fast("env", shell='{ "$@"; echo $? >&2; } | true')
    assert gone.stderr in ("141\n", "0\n")  # 0 where it was all written before the reader left


@pytest.mark.slow
def test_a_current_folder_that_is_gone_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f'cd {gone}; rmdir {gone}; exec "$@"'
    assert "the current folder is gone" in is_one_line(rethink_fast(*SMALL, shell=shell))
    assert "runs/" in is_one_line(rethink_fast(*SMALL, cwd=Path("/proc/1")))
    assert "--out /proc/1/x cannot be written" in is_one_line(rethink_fast(*SMALL, "--out", "/proc/1/x"))


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["ulimit -n 40", "umask 777"])
def test_limits_of_the_shell(limit: str, tmp_path: Path) -> None:
    done = rethink_fast(*SMALL, "--out", "run", cwd=tmp_path, shell=f'{limit}; exec "$@"')
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_name_is_printed_as_it_is(tmp_path: Path) -> None:
    name = os.fsdecode(b"[red]x[-] \x1b]8;;a\x07\r\xe2\x80\xae\xff 'q\" \n")
    done = rethink_fast(*SMALL, "--out", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = r"""record: [red]x[-] \x1b]8;;a\x07\r\u202e\xff 'q" \n"""
    assert shown in done.stdout
    assert "\x1b" not in done.stdout
    again = is_one_line(rethink_fast(*SMALL, "--out", name, cwd=tmp_path))
    assert shown.removeprefix("record: ") in again
