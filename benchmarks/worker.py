"""One side of a comparison of two revisions: a process that times the cases it is asked for, one line at a time.

Started by rethink_fast/compare/revisions.py as `python worker.py TREE`, with TREE's package on PYTHONPATH: the
package is the revision's, the cases are those beside this file. Reads a JSON list a line, answers a JSON object a line:

    ["make", NAME, CHECK]     make and warm up a case     {"times": calls in a sample} or {"absent" or "wrong": why}
    ["sample", NAME, TIMES]   time it                     {"seconds": of the processor, for one call}

Processor time of one thread, because on a shared machine wall time is also what others were given meanwhile. CHECK says
whether its result is compared with the reference first, as it is in the first round.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load_cases(tree: Path) -> dict[str, Any]:
    """The compared cases by name, on the package of `tree`."""
    import rethink_fast

    if Path(rethink_fast.__file__).resolve().parents[1] != tree:
        raise ImportError(f"rethink_fast is {rethink_fast.__file__}, not that of {tree}")
    package = types.ModuleType("benchmarks")
    package.__path__ = [str(HERE)]
    sys.modules["benchmarks"] = package
    from benchmarks.suite import compared_cases

    return {case.name: case for case in compared_cases()}


def serve(cases: dict[str, Any], answers: Any) -> None:
    """Answer until the input ends."""
    from benchmarks.timing import IncorrectResult, PreparedCase, calls_per_sample, checked, quiet, sample

    made: dict[str, PreparedCase] = {}
    with quiet():
        for line in sys.stdin:
            verb, name, *rest = json.loads(line)
            if verb == "sample":
                answer: dict[str, Any] = {"seconds": sample(made[name].call, rest[0], time.process_time)}
            else:
                made.clear()
                try:
                    if name not in cases:
                        raise ImportError("what its module imports is not there")
                    made[name] = cases[name].make()
                    if rest[0]:
                        checked(name, made[name])
                    answer = {"times": calls_per_sample(made[name].call)}
                except IncorrectResult as error:
                    answer = {"wrong": str(error)}
                except Exception as error:  # whatever an older revision lacks
                    answer = {"absent": f"{type(error).__name__}: {error}".splitlines()[0]}
            print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    # What a case prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.ones(1 << 28, dtype=torch.uint8)  # memory that is then reused, mapped once
    cases = load_cases(Path(sys.argv[1]).resolve())
    print(json.dumps({"cases": list(cases)}), file=answers, flush=True)
    serve(cases, answers)


if __name__ == "__main__":
    main()
