"""Files are written whole or not at all, read only if they are regular, and JSON is JSON."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rethink_fast import files
from rethink_fast.text import printable, utf8


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_atomic(path, b"old")

    def fails(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, fails)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_write_replaces_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for content in (b"one", "two", lambda file: file.write(b"three")):
        files.write_atomic(path, content)
    assert path.read_bytes() == b"three"
    assert os.listdir(tmp_path) == ["record.json"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.json.123.partial").touch()
    (tmp_path / "a.json").touch()
    files.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match="regular"):
        files.read_bytes(path)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "x", limit=5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, where at most 4 are expected"):
        files.read_bytes(tmp_path / "x", limit=4)


def test_json_has_null_for_what_json_cannot_say(tmp_path: Path) -> None:
    values = {"loss": math.nan, "list": (math.inf, 1.5, {"x": -math.inf}), "name": "a\udc80b", "\udcff": 1}
    files.write_json(tmp_path / "x.json", values)
    text = (tmp_path / "x.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"loss": None, "list": [None, 1.5, {"x": None}], "name": "a\\x80b", "\\xff": 1}
    assert files.read_json(tmp_path / "x.json") == found


def test_json_nested_too_deeply_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested"):
        files.read_json(tmp_path / "x.json")


def test_a_lock_is_exclusive_and_goes_with_its_process(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from rethink_fast import files; held = files.lock(Path(sys.argv[1]));"
    code += "print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            files.lock(tmp_path / "lock")
        other.kill()
        other.wait()
    held = files.lock(tmp_path / "lock")
    assert held is not None
    held.close()


@pytest.mark.parametrize("number", [38, 37, 95])
def test_without_locks_in_the_file_system_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr("fcntl.flock", flock)
    assert files.lock(tmp_path / "lock") is None


def test_printable_text_keeps_what_a_terminal_shows_and_nothing_it_acts_upon() -> None:
    assert printable("Grün, 猫, a b") == "Grün, 猫, a b"
    assert printable("a\x1b[31mb\nc\udc80\u202e\x9b") == "a\\x1b[31mb\\nc\\x80\\u202e\\x9b"
    assert utf8("猫\n\udc80") == "猫\n\\x80"
