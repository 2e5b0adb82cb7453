"""What surrounds a command, missing, odd or forbidden: one line and a code, never a traceback."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import filterfalse
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from rethink_fast import crash
from rethink_fast.cli import app
from rethink_fast.config import DATA, PATH
from rethink_fast.data import search_path
from rethink_fast.errors import UserError
from rethink_fast.files import user_path
from rethink_fast.terminal import Terminal
from tests.train.test_distributed import launch

SMALL = ("bench", "mnist", "--data", "synthetic", "--max-samples", "20", "--epochs", "1", "--workers", "1")


def rethink_fast(
    *arguments: str | bytes,
    cwd: Path | None = None,
    code: str | None = None,
    shell: str = "",
    environment: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process. code: Python before it; shell: what starts it; None removes a variable."""
    known = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), **(environment or {})}
    start = [sys.executable, "-m", "rethink_fast"]
    if code is not None:
        start = [sys.executable, "-c", f"{code}\nfrom rethink_fast.__main__ import main; main()"]
    if shell:
        start = ["sh", "-c", shell, "sh", *start]
    return subprocess.run(
        [*start, *arguments],
        cwd=cwd,
        env={name: value for name, value in known.items() if value is not None},
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=120,
        check=False,
    )


def is_one_line(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Assert that a command ended with one line on stderr, and return that line."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rethink-fast: ")
    return done.stderr


# Paths


def parameters(function: Any) -> dict[str, Any]:
    """The annotations of a command's parameters, those of its dataclasses among them."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if inspect.isclass(inner) and hasattr(inner, "__dataclass_fields__"):
            found |= parameters(inner)
        elif name != "return":
            found[name] = hint
    return found


def is_path(hint: Any) -> bool:
    if get_origin(hint) in (Annotated, Union, UnionType):
        return any(map(is_path, get_args(hint)))
    return inspect.isclass(hint) and issubclass(hint, Path)


def test_every_path_of_every_command_is_expanded_by_the_same_function() -> None:
    seen = set()
    for name in app.app:
        if name.startswith("-"):
            continue
        for option, hint in parameters(app.app[name].default_command).items():
            converters = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Parameter)]
            if is_path(hint):
                assert PATH in converters, f"{name} --{option}: annotate it with config.PATH"
                seen.add((name, option))
            elif option == "data" and name != "reproduce":
                assert DATA in converters, f"{name} --{option}"
                seen.add((name, option))
    assert len(seen) == 14, seen


@pytest.mark.parametrize(
    ("command", "made"),
    [
        (["bench", "mnist", "--resume", "~/no"], "--resume {home}/no"),
        (["bench", "mnist", "--data", "~/no"], "{home}/no does not exist"),
        (["pack", "~/no", "~/dest"], "{home}/no"),
        (["pack", "--verify", "~/no"], "{home}/no"),
        (["show", "mnist", "--out", "~/no.txt"], "--out {home}/no.txt is not a PNG"),
        (["show", "mnist", "--data", "~/no"], "{home}/no does not exist"),
        (["compare", "~/no", "."], "{home}/no does not exist"),
        (["plan", "mnist", "--record", "~/no"], "{home}/no cannot be read"),
        (["report", "~/no"], "{home}/no/reproduction.json"),
        (["reproduce", "table1", "--data", "cifar10=~no-such-user/x"], "~no-such-user/x has no home folder"),
    ],
)
def test_a_tilde_is_the_home_folder(
    command: list[str], made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        app.main(command)
    assert stopped.value.code == 2
    assert made.format(home=tmp_path / "home") in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a path"),
        ("-", "is not a path"),
        ("a\0b", "NUL byte"),
        ("~no-such-user/x", "no home folder"),
        ("a" * 300, "File name too long"),
        ("a/" * 3000, "File name too long"),
    ],
)
def test_what_is_no_path_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        user_path(text)
    assert len(str(raised.value)) < 250


def test_paths_are_taken_as_they_are_but_for_the_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~") == tmp_path
    assert user_path("~/a") == tmp_path / "a"
    for same in ("$HOME/a", "a b", "[red]a", "a~", "./~", "./-", "a\n", "\udc80", "%41", "a/"):
        assert user_path(same) == Path(same)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="symbolic links"):
        user_path(str(tmp_path / "loop"))


def test_the_places_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RETHINK_FAST_DATA", "~/d")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache = tmp_path / ".cache/rethink_fast/mnist"
    assert search_path.places("mnist") == [tmp_path / "d/mnist", Path("data/mnist"), cache]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert search_path.places("mnist")[-1] == cache
    monkeypatch.setenv("XDG_CACHE_HOME", "~/c")
    assert search_path.places("mnist")[-1] == tmp_path / "c/rethink_fast/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user/c")
    with pytest.raises(UserError, match=r"\$XDG_CACHE_HOME: ~no-such-user/c has no home folder"):
        search_path.places("mnist")


# An exception that nobody expected


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


# Streams and environments


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
    # run.py has one that prints nothing, for the ranks after the first; distributed.py ends a process by a fixed line.
    assert found == {
        ("crash.py", "print"),
        ("output.py", "print"),
        ("run.py", "Console"),
        ("distributed.py", "print"),
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
