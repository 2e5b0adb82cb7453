"""One row for each of the paper's randomizations, from which every list of them is derived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import one_of
from ..rng import Stream


@dataclass(frozen=True)
class CorruptionKind:
    """A randomization of section 2.1.

    name: the paper's, written in records and used in Python.
    alias: the command line's.
    changes: what it acts on.
    stream: of the generator, for its draws; None where it draws nothing.
    meaning: for people; may use {probability}.
    """

    name: str
    alias: str
    changes: Literal["nothing", "labels", "pixels"]
    stream: Stream | None
    meaning: str


REGISTRY = (
    CorruptionKind("true_labels", "true", "nothing", None, "nothing is changed"),
    CorruptionKind(
        "partially_corrupted_labels",
        "partial",
        "labels",
        Stream.LABELS,
        "a label is replaced with probability {probability:g}",
    ),
    CorruptionKind("random_labels", "random", "labels", Stream.LABELS, "every label is replaced by a random class"),
    CorruptionKind(
        "shuffled_pixels",
        "shuffled-pixels",
        "pixels",
        Stream.SHUFFLED_PIXELS,
        "one permutation, the same for all images",
    ),
    CorruptionKind(
        "random_pixels", "random-pixels", "pixels", Stream.RANDOM_PIXELS, "another permutation for each image"
    ),
    CorruptionKind("gaussian", "gaussian", "pixels", Stream.GAUSSIAN, "noise of the same mean and deviation"),
)

KINDS = {row.alias: row.name for row in REGISTRY}
"""The command line's word for each randomization, and the paper's."""

NAMES = tuple(KINDS.values())
LABEL_KINDS = tuple(row.name for row in REGISTRY if row.changes == "labels")
PIXEL_KINDS = tuple(row.name for row in REGISTRY if row.changes == "pixels")
MEANING = {row.name: row.meaning for row in REGISTRY}
_ALIASES = {word: row.alias for row in REGISTRY for word in (row.name, row.name.replace("_", "-"), row.alias)}


def alias_of(word: str, *others: str) -> str:
    """Return the command line's word for a corruption.

    word: its alias, or the paper's name with - or _.
    others: words that are allowed as well, and returned unchanged.
    Raises UserError.
    """
    if word in others:
        return word
    if word in _ALIASES:
        return _ALIASES[word]
    return one_of("corruption", word, (*others, *KINDS, *(name for name in NAMES if name not in KINDS)))
