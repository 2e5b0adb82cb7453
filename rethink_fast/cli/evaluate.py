"""`rethink-fast evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..config import PATH
from ..output import print_json
from ..terminal import Terminal
from ..text import split_names


def evaluate(
    table: Annotated[Path, PATH],
    /,
    *,
    hyperparameters: str = "",
    measures: str = "",
    gap: str = "",
    json: bool = False,
) -> int:
    """Report which measure predicts the generalization gap over a table of runs.

    For each measure: Kendall's tau, granulated tau (Psi) with psi of each hyper-parameter, the sign error over pairs of
    configurations that differ in one hyper-parameter (mean, 90th percentile, and the worst pair), and the rank
    correlation beyond the hyper-parameters.

    Parameters
    ----------
    table:
        A CSV file with a header line and a run in each line. Runs of one configuration are repeats.
    hyperparameters:
        Columns, separated by commas. Default: those with a few values, each of several runs.
    measures:
        Columns, separated by commas; larger is expected to go with a larger gap. Default: the other numbers.
    gap:
        Column of the gap. Default: the one called gap.
    json:
        Print the result as JSON on stdout, and everything else on stderr.
    """
    from ..measures.evaluate import evaluate as evaluated
    from ..measures.evaluate_view import as_dict, show
    from ..measures.run_table import read_run_table

    runs = read_run_table(
        table, hyperparameters=split_names(hyperparameters), measures=split_names(measures), gap=gap.strip()
    )
    found = evaluated(runs.measures, runs.gap, runs.codes, n_test=runs.n_test)
    show(found, runs, Terminal(stderr=json))
    return print_json(as_dict(found, runs)) if json else 0
