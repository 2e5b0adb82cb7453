"""Two git revisions timed on this machine, each by its own worktree, in a separate process.

The two processes wait for each other: one sample of one, then one of the other, and the next pair the other way round.
An ambiguous case goes on with more pairs in fresh processes, so that neither a burst of other work nor the addresses
that one process happened to get decide.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from ..errors import UserError
from .statistics import ROUNDS_SCHEDULE, Estimate, Pair, estimate, log_ratios, min_of_each, verdict
from .worktrees import CASES

ROUND_PAIRS = 8
"""Pairs of samples of a case in one round: enough that one on each side is not disturbed."""
ROUND_SECONDS = 0.6
"""The most that one case may take of a round: slow cases get fewer pairs."""
MOST_SECONDS = 240.0
"""Once the least rounds are there, none is begun after this."""
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "400000000",
}
"""So that glibc keeps the memory of outputs: mapping it again each time costs more than what is compared."""

Progress = Callable[[str], None]


@dataclass
class Timed:
    """A case in both revisions.

    rounds: the pairs of each round.
    absent: why it could not be timed; else "".
    wrong: how its result was wrong; else "".
    """

    name: str
    rounds: list[list[Pair]] = field(default_factory=list)
    absent: str = ""
    wrong: str = ""

    def estimate(self) -> Estimate:
        """Return the ratio, with each round as a pair: the best of either side."""
        return estimate(log_ratios([min_of_each(pairs) for pairs in self.rounds]))

    def undecided(self, threshold: float) -> bool:
        """Return whether it needs another round."""
        if self.absent or self.wrong or len(self.rounds) >= ROUNDS_SCHEDULE[-1]:
            return False
        return len(self.rounds) not in ROUNDS_SCHEDULE or verdict(self.estimate(), threshold) == "ambiguous"


class Worker:
    """A process that times the cases on one tree's package: benchmarks/worker.py."""

    def __init__(self, tree: Path) -> None:
        environment = {**os.environ, **KEEP_MEMORY, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        self._name = tree.name
        self._process = subprocess.Popen(
            [sys.executable, str(CASES / "worker.py"), str(tree)],
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stdin, self._stdout = cast("tuple[IO[str], IO[str]]", (self._process.stdin, self._process.stdout))

    def hello(self) -> list[str]:
        """Wait for the process, and return the names of its cases."""
        names: list[str] = self._answer()["cases"]
        return names

    def ask(self, *question: Any) -> dict[str, Any]:
        """Send one question, and return the answer. Raises UserError where the process has ended."""
        try:
            self._stdin.write(json.dumps(question) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            _, error = self._process.communicate()
            last = error.strip().splitlines()[-1:] or [f"exit code {self._process.returncode}"]
            raise UserError(f"{self._name} cannot be timed: {last[0]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def time_case(timed: Timed, old: Worker, new: Worker) -> None:
    """Add a round to a case, or the reason why it cannot be timed. The first round checks its result."""
    times = []
    for side, worker in (("the old", old), ("the new", new)):
        answer = worker.ask("make", timed.name, not timed.rounds)
        timed.wrong = timed.wrong or (f"in {side}: {answer['wrong']}" if "wrong" in answer else "")
        timed.absent = timed.absent or (f"in {side}: {answer['absent']}" if "absent" in answer else "")
        times.append(answer.get("times", 1))
    if timed.wrong or timed.absent:
        return
    pairs: list[Pair] = []
    spent = 0.0
    while len(pairs) < ROUND_PAIRS and spent < ROUND_SECONDS:
        turn: dict[str, float] = {}
        sides = [("old", old, times[0]), ("new", new, times[1])]
        for side, worker, calls in sides if (len(pairs) + len(timed.rounds)) % 2 else reversed(sides):
            turn[side] = worker.ask("sample", timed.name, calls)["seconds"]
            spent += turn[side] * calls
        pairs.append((turn["old"], turn["new"]))
    timed.rounds.append(pairs)


def compare(
    trees: tuple[Path, Path], threshold: float, progress: Progress, wanted: str = "", into: list[Timed] | None = None
) -> list[Timed]:
    """Time every case in both trees until each has a verdict, or rounds or time are used up.

    trees: checkouts of the old and the new revision, compiled.
    threshold: the least change that counts.
    progress: called with a line for the screen.
    wanted: time only cases whose name contains this.
    into: the list to fill, so that an interruption loses nothing.
    """
    cases = into if into is not None else []
    start = time.perf_counter()
    for number in range(ROUNDS_SCHEDULE[-1]):
        with ExitStack() as stack:
            workers = [Worker(tree) for tree in trees]
            for worker in workers:
                stack.callback(worker.close)
            names = dict.fromkeys(name for worker in workers for name in worker.hello())
            if not number:
                cases += [Timed(name) for name in names if wanted in name]
            todo = [case for case in cases if case.undecided(threshold)]
            for position, case in enumerate(todo, 1):
                progress(f"round {number + 1}, {position} of {len(todo)}: {case.name}")
                time_case(case, *workers)
        late = number + 1 >= ROUNDS_SCHEDULE[0] and time.perf_counter() - start > MOST_SECONDS
        if late or not any(case.undecided(threshold) for case in cases):
            break
    return cases
