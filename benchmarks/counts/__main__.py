"""`python -m benchmarks.counts [PART...] [--update]`: exit status 0 where every count is as committed, else 1."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import CountOutcome, check
from .instructions import PART as INSTRUCTIONS
from .kernels import PART as KERNELS
from .step import PART as STEP

PARTS = {part.name: part for part in (STEP, INSTRUCTIONS, KERNELS)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Count what needs no clock, and compare it with what is committed.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--update", action="store_true", help="write the counts in place of those committed")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"part {unknown[0]!r} is unknown: choose of {', '.join(PARTS)}")
    console = Console(highlight=False)
    table = Table("part", "what is counted", "", "seconds", header_style="bold")
    outcomes: list[CountOutcome] = []
    for name in given.parts or PARTS:
        start = time.perf_counter()
        outcomes.append(check(PARTS[name], update=given.update))
        table.add_row(name, PARTS[name].what, outcomes[-1].said, f"{time.perf_counter() - start:.0f}")
    console.print(table)
    for outcome in outcomes:
        for line in outcome.lines:
            console.print(Text(f"{outcome.part.name}: {outcome.said}: {line}"), soft_wrap=True)
    differ = any(outcome.said == "differs" for outcome in outcomes)
    if differ:
        console.print("where this is meant: python -m benchmarks.counts --update, and commit the lines that change")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
