"""Where a data set is looked for when the user names no path."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, user_path, write_json
from .registry import SMALL_SETS

PACKAGE = "rethink_fast"


def cache_dir() -> Path | None:
    """Return the user's cache folder of this package: $XDG_CACHE_HOME/rethink_fast, or ~/.cache/rethink_fast.

    None for a user without a home, such as a container's that has no name. Raises UserError for a value that is no
    path. A relative $XDG_CACHE_HOME is ignored, as its specification has it.
    """
    named = _from_environment("XDG_CACHE_HOME")
    if named is not None and named.is_absolute():
        return named / PACKAGE
    home = Path(os.path.expanduser("~"))
    return home / ".cache" / PACKAGE if home.is_absolute() else None


def recall(name: str) -> Any:
    """Return what an earlier check left in the cache under a name; None where there is nothing, or no cache."""
    cache = cache_dir()
    with suppress(OSError, ValueError):
        return read_json(cache / "checked" / name) if cache is not None else None
    return None


def remember(name: str, values: dict[str, Any]) -> None:
    """Keep the outcome of a check in the cache under a name. A cache that cannot be written costs only time."""
    cache = cache_dir()
    if cache is not None:
        with suppress(OSError):
            (cache / "checked").mkdir(parents=True, exist_ok=True)
            write_json(cache / "checked" / name, values)


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name)
    try:
        return user_path(value) if value else None
    except UserError as error:
        raise UserError(f"${name}: {error.problem}", error.fix, option=f"${name}", value=error.value) from None


def folders(dataset: str) -> list[Path]:
    """Return the folders that --data auto looks in, first one first: $RETHINK_FAST_DATA, ./data, the cache."""
    roots = [_from_environment("RETHINK_FAST_DATA"), Path("data"), cache_dir()]
    folder = SMALL_SETS[dataset].folder if dataset in SMALL_SETS else dataset
    return [root / folder for root in roots if root is not None]


def find(dataset: str) -> Path | None:
    """Return the first of `folders` that exists and is not empty, or None. Raises UserError if it cannot be read."""
    for folder in folders(dataset):
        try:
            if os.listdir(folder):
                return folder
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(
                f"{folder} cannot be read ({error.strerror})", "name the data by --data", option="--data", value=folder
            ) from None
    return None
