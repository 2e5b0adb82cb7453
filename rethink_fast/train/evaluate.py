"""Evaluation: a full pass in eval mode over un-augmented images, the meaning of every accuracy in a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..data.loader import Loader
from .step import Step


@dataclass(frozen=True)
class Scores:
    """Mean cross entropy, and accuracy (fractions): of all, of the samples with their own label, of those corrupted.

    A subset with no samples has None. top5_accuracy: of all, the label among the five most likely classes; None where
    the step does not count it.
    """

    loss: float
    accuracy: float
    clean_accuracy: float | None
    corrupted_accuracy: float | None
    top5_accuracy: float | None


def estimate_statistics(step: Step, loader: Loader, check: Callable[[], None]) -> None:
    """Make the batch norm statistics those of the training set, with the weights as they are now.

    check: called before each batch, and may raise to stop; the next call starts over.
    """
    if not step.statistics:
        return
    step.statistics.begin()
    for batch in loader.eval_batches():
        check()
        step.observe(loader, batch)
    step.statistics.finish()


def evaluate(step: Step, loader: Loader, check: Callable[[], None]) -> Scores:
    """Score the network on every sample of a loader, each rank on its share; counters stay on the device until the end.

    check: called before each batch, and may raise to stop.
    """
    step.begin_scores()
    for batch in loader.eval_batches():
        check()
        step.score(loader, batch)
    step.ranks.all_reduce_sum_(step.score_loss, step.score_counts)
    right_all, right_corrupted, corrupted, total, *near = step.score_counts.tolist()
    clean = total - corrupted
    return Scores(
        loss=step.score_loss.item() / total,
        accuracy=right_all / total,
        clean_accuracy=(right_all - right_corrupted) / clean if clean else None,
        corrupted_accuracy=right_corrupted / corrupted if corrupted else None,
        top5_accuracy=near[0] / total if near else None,
    )
