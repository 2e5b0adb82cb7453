"""An exception that nobody expected is one line, and its traceback is in a file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from rethink_fast import crash
from rethink_fast.cli import app
from tests.cli.helpers import SMALL, is_one_line, rethink_fast
from tests.train.test_distributed import launch


@pytest.mark.parametrize("command", ["bench", "pack", "show", "plan", "env", "reproduce", "report", "compare"])
def test_an_unexpected_exception_is_one_line_and_a_file(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "bench": ["mnist"], "pack": ["a", "b"], "show": ["mnist"], "plan": ["mnist"], "env": [],
        "reproduce": ["table1"], "report": ["a"], "compare": ["a", "b"],
    }  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(crash, "_folder", None)

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a\x1b[31m\nb" + "c" * 5000)

    for name in ("bench.run_bench", "show.make_sheet", "env.environment", "plan.estimate", "pack.make"):
        monkeypatch.setattr(f"rethink_fast.cli.{name}", fail)
    monkeypatch.setattr("rethink_fast.cli.reproduce.run_reproduction", fail)
    monkeypatch.setattr("rethink_fast.cli.report.write_report", fail)
    monkeypatch.setattr("rethink_fast.compare.run.run_compare", fail)
    with pytest.raises(SystemExit) as stopped:
        app.main([command, *words[command]])
    assert stopped.value.code == 1
    (saved,) = tmp_path.iterdir()
    line = capsys.readouterr().err
    assert line.startswith(r"rethink-fast: unexpected ZeroDivisionError: a\x1b[31m bccc")
    assert line.count("\n") == 1
    assert len(line) < 700
    assert f"its traceback is in {saved}. Please report it" in line
    assert "in fail\n    raise ZeroDivisionError" in saved.read_text()


CRASH = "import rethink_fast.train.loop as e, rethink_fast.bench.seeds as r\ndef f(*a, **k): 1 / 0\nr.fit = f"


def test_the_traceback_of_a_run_is_saved_in_its_folder(tmp_path: Path) -> None:
    line = is_one_line_at_last(rethink_fast(*SMALL, "--out", "run", cwd=tmp_path, code=CRASH))
    assert "its traceback is in run/traceback.txt." in line
    assert "ZeroDivisionError: division by zero" in (tmp_path / "run/traceback.txt").read_text()


@pytest.mark.slow
def test_each_rank_has_one_line_and_a_file(tmp_path: Path) -> None:
    main = "from rethink_fast.__main__ import main"
    (tmp_path / "crash.py").write_text(f"{CRASH}\n{main}\nmain({[*SMALL, '--out', str(tmp_path / 'run')]!r})\n")
    done = launch(2, str(tmp_path / "crash.py"))
    lines = [line for line in done.stderr.splitlines() if "ZeroDivisionError" in line]
    assert len(lines) == 2, done.stderr
    for rank in (0, 1):
        saved = tmp_path / f"run/traceback-rank-{rank}.txt"
        assert sum(str(saved) in line for line in lines) == 1
        assert "division by zero" in saved.read_text()


def is_one_line_at_last(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_where_nothing_can_be_saved_the_traceback_is_printed(tmp_path: Path) -> None:
    code = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'missing')!r}\n{CRASH}"
    code += "\nimport rethink_fast.bench.run\nrethink_fast.bench.run.save_in = lambda folder: None"
    done = rethink_fast(*SMALL, "--out", "run", cwd=tmp_path, code=code)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "its traceback could not be saved" in done.stderr.splitlines()[-1]


def test_a_package_that_is_missing_or_broken_is_one_line() -> None:
    for name in ("torch", "cyclopts"):
        line = is_one_line(rethink_fast("env", code=f"import sys; sys.modules[{name!r}] = None"))
        assert name in line


def test_a_thread_that_fails_is_one_line(tmp_path: Path) -> None:
    code = """import threading, rethink_fast.cli.app as c
def run(*_):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return 0
c.run = run"""
    line = is_one_line(rethink_fast("env", code=code, environment={"TMPDIR": str(tmp_path)}), code=0)
    assert "unexpected ZeroDivisionError" in line


def test_a_warning_is_one_line() -> None:
    code = """import warnings, rethink_fast.cli.app as c
def run(*_):
    warnings.warn("a\\nb\\x1b")
    return 0
c.run = run"""
    assert is_one_line(rethink_fast("env", code=code), code=0) == "rethink-fast: UserWarning: a b\\x1b\n"
