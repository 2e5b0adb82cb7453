"""Check that a JSON file is built as its reader expects: the keys, their types and their ranges.

SHAPE = {"epochs": Number(0, whole=True), "loss": Maybe(float), "gpu": Maybe({"name": str})}
record = read(path, SHAPE, "give a run's result.json")
"""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import read_json
from .text import printable

DEPTH = 32
"""No file of ours nests deeper, and what walks its values by recursion is safe up to there."""

TEXT = 4_000
"""Characters in one value; a screen and a page have a place for it."""


class BadFile(UserError):
    """A file that cannot be used.

    why: in words, without the file's name.
    torn: whether it is absent, or is not JSON.
    """

    def __init__(self, path: Path, why: str, advice: str, *, torn: bool = False) -> None:
        super().__init__(f"{path} {why}", advice, value=path)
        self.path, self.why, self.torn = path, why, torn


@dataclass(frozen=True)
class Number:
    """A number.

    low, high: its range, both included.
    whole: whether it is an integer.
    """

    low: float = -1e300
    high: float = 1e300
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.high < 1e18:
            return f"{kind} in [{self.low:g}, {self.high:g}]"
        return f"{kind} of at least {self.low:g}" if self.low > -1e18 else kind


@dataclass(frozen=True)
class Maybe:
    """A value of this shape, or null; in an object also no such key, which `read` makes null."""

    shape: Any


@dataclass(frozen=True)
class Either:
    """A number, or text."""


@dataclass(frozen=True)
class Each:
    """An object with any keys.

    shape: of every value; None for any value.
    keys: what the keys may be; None for any.
    """

    shape: Any = None
    keys: frozenset[str] | None = None


def read(
    path: Path, shape: Any, advice: str, *, also: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Read a JSON file that holds an object, check it, and return it, with every optional key.

    shape: as in `check`.
    advice: what to do if it does not fit, to end the line.
    also: a further check, which raises ValueError with words such as "has ...".
    Raises BadFile, which names the file and the key.
    """
    try:
        values = read_json(path)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        raise BadFile(path, f"cannot be read ({error.strerror})", advice, torn=absent) from None
    except ValueError as error:
        raise BadFile(path, f"is not whole JSON ({printable(str(error))})", advice, torn=True) from None
    try:
        _check_depth(values)
        check(values, Each())
        check(values, shape)
        _complete(values, shape)
        if also is not None:
            also(values)
    except ValueError as error:
        raise BadFile(path, str(error), advice) from None
    checked: dict[str, Any] = values
    return checked


def check(value: Any, shape: Any, key: str = "") -> None:
    """Raise ValueError, with the key and the value in words, where a value is not of a shape.

    shape: str, bool, float (a finite number), int or Number; a frozenset of the strings allowed; [shape], a list;
    a tuple of shapes, a list of that length; {key: shape}, an object with these keys and others; Each, Either or Maybe;
    None, anything.
    """
    if shape is None or (isinstance(shape, Maybe) and value is None):
        return
    if isinstance(shape, Maybe):
        check(value, shape.shape, key)
    elif isinstance(shape, Either):
        check(value, str if isinstance(value, str) else float, key)
    elif isinstance(shape, list):
        _expect(isinstance(value, list), value, key, "a list")
        for place, item in enumerate(value):
            check(item, shape[0], f"{key}[{place}]")
    elif isinstance(shape, tuple):
        _expect(isinstance(value, list) and len(value) == len(shape), value, key, f"a list of {len(shape)}")
        for place, (item, inner) in enumerate(zip(value, shape, strict=True)):
            check(item, inner, f"{key}[{place}]")
    elif isinstance(shape, Mapping | Each):
        _check_object(value, shape, key)
    else:
        _check_scalar(value, shape, key)


def _check_object(value: Any, shape: Mapping[str, Any] | Each, key: str) -> None:
    _expect(isinstance(value, dict), value, key, "an object")
    inside = dict.fromkeys(value, shape.shape) if isinstance(shape, Each) else shape
    if isinstance(shape, Each) and shape.keys is not None:
        for name in value:
            _expect(name in shape.keys, name, f"{key}, the key", f"one of {', '.join(sorted(shape.keys))}")
    for name, inner in inside.items():
        below = f"{key}.{name}" if key else name
        if name in value:
            check(value[name], inner, below)
        elif not isinstance(inner, Maybe):
            raise ValueError(f"lacks {printable(below)}")


def _complete(value: Any, shape: Any) -> None:
    """Give each object of a value that is of this shape the optional keys that it lacks, as None."""
    if isinstance(shape, Maybe):
        shape = shape.shape
    if isinstance(value, list) and isinstance(shape, list | tuple):
        for item, inner in zip(value, shape if isinstance(shape, tuple) else itertools.repeat(shape[0]), strict=False):
            _complete(item, inner)
    elif isinstance(value, dict) and isinstance(shape, Each):
        for item in value.values():
            _complete(item, shape.shape)
    elif isinstance(value, dict) and isinstance(shape, Mapping):
        for name, inner in shape.items():
            if isinstance(inner, Maybe):
                value.setdefault(name, None)
            _complete(value[name], inner)


def _check_scalar(value: Any, shape: Any, key: str) -> None:
    if isinstance(shape, frozenset):
        _expect(isinstance(value, str) and value in shape, value, key, f"one of {', '.join(sorted(shape))}")
    elif shape is str:
        _expect(isinstance(value, str) and len(value) <= TEXT, value, key, f"text of at most {TEXT:,} characters")
    elif shape is bool:
        _expect(isinstance(value, bool), value, key, "true or false")
    else:
        limits = shape if isinstance(shape, Number) else Number(-(2.0**63), 2.0**63, True) if shape is int else Number()
        fits = isinstance(value, int if limits.whole else int | float) and not isinstance(value, bool)
        _expect(fits and limits.low <= value <= limits.high, value, key, str(limits))


def _expect(fits: bool, value: Any, key: str, words: str) -> None:
    if not fits:
        raise ValueError(f"has {printable(key[-200:]) or 'the value'} {shown(value)}, where {words} is expected")


def shown(value: Any) -> str:
    """Return a value from a file as text on one short line."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"an integer of {value.bit_length():,} bits"
    return printable(value if isinstance(value, str) and re.fullmatch(r"\S{1,60}", value) else reprlib.repr(value))


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(DEPTH):
        parts = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for part in parts for item in part]
        if not level:
            return
    raise ValueError(f"is nested deeper than {DEPTH} levels")
