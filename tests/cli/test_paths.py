"""Paths on the command line: expanded alike, refused alike."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from cyclopts import Parameter

from rethink_fast.cli import app
from rethink_fast.config import DATA, PATH
from rethink_fast.data import search_path
from rethink_fast.errors import UserError
from rethink_fast.files import user_path


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
    assert {("bench", "data"), ("bench", "resume"), ("pack", "dest"), ("compare", "out")} <= seen


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
        (["report", "~/no"], "{home}/no is not a folder"),
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
    assert search_path.folders("mnist") == [tmp_path / "d/mnist", Path("data/mnist"), cache]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert search_path.folders("mnist")[-1] == cache
    monkeypatch.setenv("XDG_CACHE_HOME", "~/c")
    assert search_path.folders("mnist")[-1] == tmp_path / "c/rethink_fast/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user/c")
    with pytest.raises(UserError, match=r"\$XDG_CACHE_HOME: ~no-such-user/c has no home folder"):
        search_path.folders("mnist")
