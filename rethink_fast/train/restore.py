"""Dataclasses from the plain values in a file, which are checked by the annotations of the fields."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..schema import Each, Maybe, Number, check, shown

T = TypeVar("T")


def build(cls: type[T], values: Any, key: str = "") -> T:
    """Return a dataclass of the values that `asdict` returned for it.

    Whole numbers and amounts are 0 or more; what is named accuracy is a fraction; a loss is any float. What is nested
    deeper than a list or a dict is not checked.
    key: where the values are, for messages.
    Raises ValueError for anything else.
    """
    hints = get_type_hints(cls)
    check(values, {name: _shape(name, hint) for name, hint in hints.items()}, key)
    prefix = f"{key}." if key else ""
    for name in hints.keys() ^ values.keys():
        raise ValueError(f"has or lacks {prefix}{shown(name)}")
    for name, value in values.items():
        if name.endswith("loss") and not isinstance(value, float | None):
            raise ValueError(f"has {prefix}{name} {shown(value)}, where a float is expected")
    return cls(**values)


def _shape(name: str, hint: Any) -> Any:
    inner = [each for each in get_args(hint) if each is not type(None)]
    if len(inner) == 1 and len(get_args(hint)) == 2:
        return Maybe(_shape(name, inner[0]))
    if get_origin(hint) is Literal:
        return frozenset(inner)
    if hint is float:
        return None if name.endswith("loss") else Number(0, 1 if name.endswith("accuracy") else 1e300)
    simple = {int: Number(0, 2**63 - 1, whole=True), bool: bool, str: str, list: [None], dict: Each()}
    return simple.get(get_origin(hint) or hint)
