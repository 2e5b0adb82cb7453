"""`rethink-fast measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..bench.console import ConsoleProgress
from ..config import PATH
from ..errors import UserError
from ..files import check_writable, write_json, writing
from ..output import print_json
from ..terminal import Terminal

NAME, FIX = "measures.json", "make room, or copy the run"


def measure(
    run: Annotated[Path, PATH],
    /,
    *,
    against: Annotated[Path | None, PATH] = None,
    train: bool = False,
    json: bool = False,
) -> int:
    """Measure what bounds or follows the generalization of a finished run, next to its gap and its held-out bound.

    Writes measures.json into the folder of the run. A bound says something, or is vacuous; a correlate tracks the gap
    between two runs, or does not.

    Parameters
    ----------
    run:
        The folder of a finished run, or of one of its seeds.
    against:
        A second run to compare it with: the same with random labels, or with true ones.
    train:
        Also measure what needs more networks of the kind to be trained, on few images: takes minutes.
    json:
        Print measures.json on stdout, and everything else on stderr.
    """
    from ..measures.against import compare_reports
    from ..measures.finished import FinishedRun, open_run
    from ..measures.suite import Report, measure_run
    from ..measures.trained_suite import measure_by_training
    from ..measures.view import show

    console = Terminal(stderr=json)

    def opened(folder: Path) -> FinishedRun:
        with ConsoleProgress(console) as screen:
            found = open_run(folder, screen.on_load)
            for note in found.setup.dataset.notes:
                screen.warn(note)
        return found

    def measured(found: FinishedRun) -> Report:
        with ConsoleProgress(console) as screen:
            measures = measure_run(found, screen.on_load)
            return measure_by_training(measures, screen.on_load) if train else measures

    if against is not None and against.resolve() == run.resolve():
        raise UserError(f"--against {against} is the run itself", "name another one", option="--against", value=against)
    if run.is_dir():
        check_writable(run / NAME, FIX)
    runs = [opened(folder) for folder in (run, against) if folder is not None]
    ours, *other = map(measured, runs)
    report = compare_reports(ours, *other) if other else ours
    values = report.as_dict()
    show(values, console)
    with writing(run / NAME, FIX):
        write_json(run / NAME, values)
    console.print(f"record: {run / NAME}", soft_wrap=True)
    return print_json(values) if json else 0
