"""The paper's terms in one table: what each says of these networks, what was measured of it, and what tracks the gap.

Everything measured is read from the record of a reproduction; a term whose experiment has not run says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..markdown import heading, paragraph, table
from . import wording

TITLE = "The paper's terms, and what was measured of them"
SHOWN_WITH = ("measures", "stability", "memorization")
"""Experiments that bring the table into a report."""
HEADER = ["term", "kind", "what it says of these networks", "measured", "what says more"]
Evidence = Callable[[dict[str, Any]], str | None]
"""A number of a reproduction in words; None where it was not measured."""


@dataclass(frozen=True)
class Term:
    """A row of the table. measured, more: what is found of it, and of what says more, each joined by semicolons."""

    name: str
    kind: str
    says: str
    measured: tuple[Evidence, ...]
    more: tuple[Evidence, ...]


def _finding(experiment: str, statement: str) -> Evidence:
    """Return what was found for the finding that begins with this."""

    def said(values: dict[str, Any]) -> str | None:
        for row in values["experiments"].get(experiment, {}).get("findings", ()):
            if row["statement"].startswith(statement) and row["verdict"] != "not run":
                return f"{row['statement']}: {'' if row['verdict'] == 'pass' else 'not so, '}{row['value']}"
        return None

    return said


def _effect(regulariser: str) -> Evidence:
    """Return what a regulariser changes on the test set, of the table of regularisers."""

    def said(values: dict[str, Any]) -> str | None:
        for each in values["experiments"].get("regularisers", {}).get("tables", ()):
            for row in each["rows"]:
                value = next((value for value in row["values"] if value["column"] == "effect on test"), None)
                if regulariser in row["labels"] and value is not None and value["ours"] is not None:
                    sign = "+" if value["ours"]["mean"] >= 0 else ""
                    return f"{regulariser}: {sign}{wording.ours(value)} points of test accuracy ({row['labels'][0]})"
        return None

    return said


def _measure(name: str) -> Evidence:
    """Return tau and Psi of a measure over the grid."""

    def said(values: dict[str, Any]) -> str | None:
        for summary in values["experiments"].get("measures", {}).get("summaries") or ():
            for row in summary["rows"]:
                if row[0] == name:
                    return f"{name} against the gap over the grid: tau {row[1]}, Psi {row[2]}"
        return None

    return said


NEEDS_NONE = _finding("table1", "with true labels the same networks, with no regulariser at all, generalise")
STILL_FITS = _finding("table4", "explicit regularisers do not prevent")
TERMS = (
    Term(
        "VC dimension",
        "complexity",
        "It counts weights and layers and does not see labels; its bound is vacuous.",
        (_finding("measures", "VC dimension and norm-based bounds"), _measure("parameters")),
        (_measure("distance from start"), _measure("path norm")),
    ),
    Term(
        "Rademacher complexity",
        "complexity",
        "It is near 1 where networks fit random labels, and bounds nothing then.",
        (
            _finding("table1", "every network fits random labels"),
            _finding("measures", "every network of the grid fits"),
        ),
        (
            _measure("ntk complexity"),
            _measure("pac bayes"),
            _finding("memorization", "on MNIST changed labels are memorised"),
        ),
    ),
    Term(
        "uniform stability",
        "complexity",
        "It is a worst case over labels; one label that is learnt makes its bound vacuous.",
        (_finding("stability", "uniform stability is refuted"),),
        (
            _finding("stability", "the average, which the bound does not see"),
            _finding("stability", "on MNIST the average tells"),
            _finding("memorization", "with true labels mean memorization is the generalization gap"),
        ),
    ),
    Term(
        "weight decay",
        "explicit regulariser",
        "It may help, is not needed, and does not prevent fitting random labels.",
        (_effect("weight decay"), STILL_FITS, _measure("weight norm")),
        (NEEDS_NONE, _measure("distance from start")),
    ),
    Term(
        "dropout",
        "explicit regulariser",
        "It may help, and is not needed.",
        (_effect("dropout"), _finding("table2", "without any explicit regulariser")),
        (NEEDS_NONE,),
    ),
    Term(
        "augmentation",
        "explicit regulariser",
        "It helps more than the others, by what is known of images; random labels are fitted all the same.",
        (_effect("random crops"), _effect("flips"), _effect("rotation"), STILL_FITS),
        (NEEDS_NONE,),
    ),
    Term(
        "early stopping",
        "implicit regulariser",
        "It gains on ImageNet, and little on CIFAR-10.",
        (
            _effect("early stopping, the best epoch"),
            _finding("figure2", "on ImageNet"),
            _finding("figure2", "on CIFAR-10"),
        ),
        (_measure("speed"),),
    ),
    Term(
        "batch norm",
        "implicit regulariser",
        "It helps training; the test accuracy changes by a few points.",
        (_effect("batch norm"), _finding("figure2", "batch norm")),
        (NEEDS_NONE,),
    ),
    Term(
        "SGD",
        "implicit regulariser",
        "On linear models it finds the solution of least norm, which generalises; its norm does not predict how well.",
        (
            _effect("SGD, against Adam"),
            _finding("table3", "exact interpolation generalises"),
            _finding("table3", "Gabor filters improve"),
            _measure("weight norm"),
        ),
        (_measure("distance from start"), _measure("path norm")),
    ),
)


def section(values: dict[str, Any]) -> list[str]:
    """Return the lines of the section as Markdown; none where no experiment on measures is in the reproduction."""
    if not any(name in values["experiments"] for name in SHOWN_WITH):
        return []

    def joined(evidence: tuple[Evidence, ...]) -> str:
        return "; ".join(said for each in evidence if (said := each(values)) is not None) or "not run"

    rows = [[term.name, term.kind, term.says, joined(term.measured), joined(term.more)] for term in TERMS]
    lines = heading(2, TITLE) + table(HEADER, rows)
    return lines + paragraph("tau and Psi are explained with the grid; a measure that tracks the gap explains nothing.")
