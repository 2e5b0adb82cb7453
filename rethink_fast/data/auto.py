"""Where a data set is looked for when the user names no path."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError

PACKAGE = "rethink_fast"


def cache_dir() -> Path:
    """The user's cache folder of this package: $XDG_CACHE_HOME/rethink_fast, or ~/.cache/rethink_fast."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PACKAGE


def places(dataset: str) -> list[Path]:
    """The folders that --data auto looks in, first one first: $RETHINK_FAST_DATA, ./data, the cache."""
    roots = [Path("data"), cache_dir()]
    named = os.environ.get("RETHINK_FAST_DATA")
    return [root / dataset for root in ([Path(named)] if named else []) + roots]


def find(dataset: str) -> Path | None:
    """Return the first of `places` that exists and is not empty, or None. Raises UserError if it cannot be read."""
    for place in places(dataset):
        try:
            if os.listdir(place):
                return place
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"{place} cannot be read: {error.strerror}: name the data by --data") from None
    return None
