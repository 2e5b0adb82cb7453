"""The measures of a finished run that train networks of their kind, on few images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..data.source import Progress, subset
from .disagreement import disagreement
from .measurement import Measurement, Unreadable
from .rademacher import rademacher
from .ratt import ratt
from .rrm import rrm
from .stability import stability
from .suite import LEAST, Report, share_of
from .training import engine

TRAINED, HALVES, RATT, TEST = 1000, 2000, 4500, 2000
"""Images that a measure trains on at most, the two halves together; and test images."""


def measure_by_training(report: Report, progress: Progress) -> Report:
    """Return the report with the measures that train. Networks are trained as the run was, on the CPU in float32."""
    run = report.run
    trainer, k, share = engine(run), run.classes, share_of(run)
    test = run.test_sample(TEST)
    taken: dict[str, int] = {}

    def samples(name: str, most: int) -> tuple[Tensor, Tensor, Tensor]:
        taken[name] = min(run.n, max(LEAST, round(most * share)))
        positions = subset(run.n, taken[name])
        index = run.setup.dataset.train.index[positions]
        return positions, run.setup.labels[index], run.inputs(run.setup.dataset.train, index)

    def by_rademacher() -> Measurement:
        positions, _, inputs = samples("rademacher", TRAINED)
        return rademacher(trainer, positions, inputs)

    def by_halves() -> Measurement:
        positions, labels, _ = samples("disagreement", HALVES)
        return disagreement(trainer, positions, labels, test, classes=k)

    def by_ratt() -> Measurement:
        positions, labels, inputs = samples("ratt", RATT)
        upper = (k + 1) // 2
        halves = [(each >= upper).long() for each in (labels, test[1])]
        return ratt(trainer, positions, halves[0], inputs, (test[0], halves[1]))

    planned: dict[str, Callable[[], Measurement]] = {
        "rademacher": by_rademacher,
        "stability": lambda: stability(trainer, *samples("stability", TRAINED), test, classes=k),
        "disagreement": by_halves,
        "rrm": lambda: rrm(trainer, *samples("rrm", TRAINED), test, classes=k),
        "ratt": by_ratt,
    }
    measures, skipped = dict(report.measures), dict(report.not_measured)
    for done, (name, measure) in enumerate(planned.items()):
        progress(f"training for {name}", done, len(planned))
        try:
            measures[name] = measure()
        except (Unreadable, ArithmeticError) as error:
            skipped[name] = str(error)
            taken.pop(name, None)
    subsampled = {name: (count, run.n) for name, count in taken.items() if count < run.n}
    return replace(report, measures=measures, not_measured=skipped, subsampled={**report.subsampled, **subsampled})
