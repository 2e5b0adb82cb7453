"""How pictures are drawn: colours, and text that is shown as it is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .text import printable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7a7a7a")
"""Distinct to most eyes, and against white as well as black."""
MOST_CHARACTERS = 80


def shown(text: str) -> str:
    """Return text for a picture: on one line, of characters that can be drawn, and no longer than fits."""
    text = printable(text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."


@contextmanager
def drawing(**settings: Any) -> Iterator[None]:
    """Draw and save figures in this block: text is shown as it is, and a character without a glyph is no warning.

    settings: of matplotlib, with _ instead of the first dot.
    """
    from matplotlib import rc_context

    text = {"text.parse_math": False, "text.usetex": False, "axes.formatter.use_mathtext": False}
    options: Any = {**text, **{name.replace("_", ".", 1): value for name, value in settings.items()}}
    with rc_context(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
