"""What `rethink-fast compare` does: compare records or revisions, print, write, and return the exit code."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from ..bench.record_folder import RecordFolder
from ..env import processor
from ..errors import UserError
from ..files import write_atomic, write_json, writing
from ..terminal import LiveLine
from ..text import duration
from . import history, metrics, records, revisions, view, worktrees
from .records import ComparisonRow, RecordComparison
from .statistics import ROUNDS_SCHEDULE, THRESHOLD, min_of_each, verdict

EXIT_SLOWER, EXIT_AMBIGUOUS, EXIT_INTERRUPTED = 1, 3, 130
INTERRUPTED = "interrupted: the overall rest on fewer rounds than they should"


def run_compare(
    old: str,
    new: str,
    *,
    threshold: float = THRESHOLD,
    strict: bool = False,
    cases: str = "",
    out: Path | None = None,
    console: Console,
) -> tuple[dict[str, Any], int]:
    """Compare two records, a record with a folder of them, or two revisions. Return plain values and the exit code.

    The code is 0; 1 where something is slower; 3 where something is ambiguous and `strict`; 130 after an interruption,
    with what was measured until then.

    old, new: paths or git revisions.
    threshold: the least change that counts, as a fraction.
    strict: whether an ambiguous figure has an exit code.
    cases: of revisions, time only the cases whose name contains this.
    out: folder for comparison.json and comparison.md; by default a new one under runs/.
    Raises UserError for bad input.
    """
    if not 0.0 < threshold < 1.0:
        raise UserError(
            f"--threshold {threshold} is out of range",
            "choose one in (0, 1), such as 0.025 for 2.5 %",
            option="--threshold",
            value=threshold,
            allowed="(0, 1)",
        )
    are_revisions = not Path(old).exists() and not Path(new).exists()
    folder = out or _default_folder()
    with RecordFolder(folder):
        if are_revisions:
            comparison = compare_revisions(old, new, threshold, cases, console)
        else:
            comparison = _compare_records(Path(old), Path(new), threshold, cases)
        values = view.as_dict(comparison)
        with writing(folder, "choose another folder", option="--out"):
            write_json(folder / "comparison.json", values)
            write_atomic(folder / "comparison.md", view.markdown(comparison))
    view.show(comparison, console)
    console.print(f"written: {folder}/comparison.json and comparison.md", soft_wrap=True)
    overall = view.overall(comparison)
    if INTERRUPTED in comparison.notes:
        return values, EXIT_INTERRUPTED
    return values, EXIT_SLOWER if overall == "slower" else EXIT_AMBIGUOUS if overall == "ambiguous" and strict else 0


def _compare_records(old: Path, new: Path, threshold: float, cases: str) -> RecordComparison:
    for path in (old, new):
        if not path.exists():
            raise UserError(f"{path} does not exist", "give two records, or two git revisions", value=path)
    if cases:
        raise UserError(
            f"--cases {cases!r} has no effect on records",
            "omit it: it chooses the cases that revisions are timed by",
            option="--cases",
            value=cases,
        )
    if old.is_dir() and not (old / "result.json").exists():
        return history.compare(history.load(old), metrics.read(new), threshold)
    return records.compare(metrics.read(old), metrics.read(new), threshold)


def _default_folder() -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-compare"


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does in a block, so that worktrees and workers are removed in any case."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def compare_revisions(old: str, new: str, threshold: float, cases: str, console: Console) -> RecordComparison:
    """Build two revisions, time them interleaved, and return how they compare."""
    start = time.perf_counter()
    top = worktrees.repository(Path.cwd())
    commits = [worktrees.commit_of(top, revision) for revision in (old, new)]
    with ExitStack() as stack:
        stack.enter_context(sigterm_interrupts())
        progress = stack.enter_context(LiveLine(console)).show
        trees: list[Path] = []
        for revision, commit in zip((old, new), commits, strict=True):
            progress(f"checking out {revision} and compiling its C++")
            tree = stack.enter_context(worktrees.worktree(top, commit))
            if trees and worktrees.same_sources(top, *commits):
                for library in (trees[0] / "rethink_fast").glob("*.so"):
                    shutil.copy(library, tree / "rethink_fast" / library.name)
            else:
                worktrees.build(tree)
            trees.append(tree)
        timed: list[revisions.Timed] = []
        interrupted = False
        try:
            revisions.compare((trees[0], trees[1]), threshold, progress, cases, into=timed)
        except KeyboardInterrupt:
            interrupted = True
            if not any(case.rounds for case in timed):
                raise
    names = [f"{revision} ({commit[:10]})" for revision, commit in zip((old, new), commits, strict=True)]
    comparison = _comparison(timed, names, threshold, time.perf_counter() - start, cases)
    return replace(comparison, notes=(*comparison.notes, INTERRUPTED)) if interrupted else comparison


def _comparison(
    timed: list[revisions.Timed], names: list[str], threshold: float, seconds: float, cases: str
) -> RecordComparison:
    lines, skipped = [], []
    for case in timed:
        if not case.rounds:
            skipped.append((case.name, case.absent or f"wrong result, so not timed, {case.wrong}"))
            continue
        name, estimate = f"{case.name.partition(' / ')[0]}, s", case.estimate()
        sides = [median(side) for side in zip(*map(min_of_each, case.rounds), strict=True)]
        lines.append(ComparisonRow(name, sides[0], sides[1], estimate, verdict(estimate, threshold)))
    if not lines:
        why = f": the first {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        what = f"no case has {cases!r} in its name" if not timed else "no case runs in both revisions"
        raise UserError(f"{what}{why}.")
    rounds = max(row.estimate.values for row in lines)
    note = (
        f"processor time of one thread on {processor()}; both revisions interleaved, in {rounds} rounds of fresh "
        f"processes (at least {ROUNDS_SCHEDULE[0]}, more while ambiguous), {duration(seconds)}"
    )
    return RecordComparison(names[0], names[1], threshold, tuple(lines), (note,), tuple(skipped))
