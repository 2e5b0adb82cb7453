"""Per-example memorization and influence, by many models that each train on a random part of the data set.

found = memorize(Run("mnist", Data(max_samples=2000)), models=40)
found.scores.memorization          # by sample, in the order of found.scores.index
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bench.run import own_data
from ..config import Run
from ..terminal import Terminal
from .result import InfluenceName, Memorization
from .run import Options, run_memorize
from .scores import Scores


def memorize(
    run: Run,
    *,
    data: Any = None,
    test: Any = None,
    models: int = 40,
    ratio: float = 0.7,
    influence: InfluenceName = "top",
    out: str | Path | None = None,
    progress: bool = False,
) -> Memorization:
    """Train a population and return its scores, which are written as `rethink-fast memorize` does.

    run: the data, the corruption, the network and how each model is trained.
    data, test: data sets of your own, for Run("own"), as `rethink_fast.run` takes them.
    models: how many; more than are in the folder adds to them.
    ratio: of the samples in each model's training set, in (0, 1).
    influence: "top", the 100 samples of largest influence on each test image; "all", the whole matrix.
    out: the folder; None for memorized/DATASET-MODEL-KEY in the current one, the key by all other settings.
    progress: print what the command prints, on stdout.
    Raises UserError for bad input. After SIGINT it raises KeyboardInterrupt, after another signal SystemExit; the same
    call then goes on from the models that are done. Call it in one process, not under torchrun.
    """
    options = Options(models, ratio, influence, Path(out) if out is not None else None)
    found, code = run_memorize(run, options, Terminal() if progress else None, own_data(run, data, test))
    if found is None:
        if code == 130:
            raise KeyboardInterrupt
        raise SystemExit(code)
    return found


__all__ = ["Memorization", "Scores", "memorize"]
