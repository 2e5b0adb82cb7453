"""Whether values that were read from a file are built as expected, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Maybe:
    """A value of this shape, or None; in a dict also no such key."""

    shape: Any


@dataclass(frozen=True)
class Either:
    """A number, or text."""


@dataclass(frozen=True)
class Each:
    """A dict with any keys, and values of this shape. keys: what the keys may be, if not anything."""

    shape: Any
    keys: frozenset[str] | None = None


def check(value: Any, shape: Any, where: str = "it") -> None:
    """Raise ValueError, with the place, where a value is not of a shape.

    shape: str; int; float (a finite number); a frozenset of the strings allowed; [shape], a list; a tuple of shapes, a
    list of that length; {key: shape}, a dict with at least those keys; Each, Either or Maybe.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.shape, where)
    elif isinstance(shape, Either):
        check(value, str if isinstance(value, str) else float, where)
    elif isinstance(shape, frozenset):
        _expect(isinstance(value, str) and value in shape, where, f"one of {', '.join(sorted(shape))}")
    elif isinstance(shape, list):
        _expect(isinstance(value, list), where, "a list")
        for place, item in enumerate(value):
            check(item, shape[0], f"{where}[{place}]")
    elif isinstance(shape, tuple):
        _expect(isinstance(value, list) and len(value) == len(shape), where, f"a list of {len(shape)}")
        for place, (item, inner) in enumerate(zip(value, shape, strict=True)):
            check(item, inner, f"{where}[{place}]")
    elif isinstance(shape, Mapping | Each):
        _expect(isinstance(value, dict), where, "an object")
        inside = dict.fromkeys(value, shape.shape) if isinstance(shape, Each) else shape
        if isinstance(shape, Each) and shape.keys is not None:
            _expect(set(value) <= shape.keys, where, f"an object with the keys {', '.join(sorted(shape.keys))}")
        for key, inner in inside.items():
            _expect(key in value or isinstance(inner, Maybe), where, f"an object with {key}")
            check(value.get(key), inner, f"{where}.{key}")
    elif shape is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _expect(number and abs(value) < math.inf and abs(value) <= 1e300, where, "a number")
    elif shape is int:
        _expect(isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63, where, "a whole number")
    else:
        _expect(isinstance(value, shape), where, {str: "text", bool: "true or false"}[shape])


def _expect(held: bool, where: str, what: str) -> None:
    if not held:
        raise ValueError(f"{where} is not {what}")
