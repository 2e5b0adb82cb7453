"""Evaluation: a full pass in eval mode over un-augmented images, the meaning of every accuracy in a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..data.loader import Loader
from .step import Step


@dataclass(frozen=True)
class Scores:
    """The mean cross entropy and the accuracies, which are fractions, of one pass over a loader.

    clean_accuracy, corrupted_accuracy: of the samples with their true label and of the others; None where there are
        none.
    top5_accuracy: the label is among the five most likely classes; None where the step does not count it.
    """

    loss: float
    accuracy: float
    clean_accuracy: float | None
    corrupted_accuracy: float | None
    top5_accuracy: float | None


def estimate_statistics(step: Step, loader: Loader, check: Callable[[], None]) -> None:
    """Set the batch norm statistics to those of the training set, with the weights as they are now.

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
    """Return the scores of the network on every sample of a loader, each rank on its share.

    check: called before each batch, and may raise to stop.
    """
    step.begin_scores()
    for batch in loader.eval_batches():
        check()
        step.score(loader, batch)
    step.ranks.all_reduce_sum_(step.score_loss, step.score_counts)
    right_all, right_corrupted, corrupted, total, *top5 = step.score_counts.tolist()
    clean = total - corrupted
    return Scores(
        loss=step.score_loss.item() / total,
        accuracy=right_all / total,
        clean_accuracy=(right_all - right_corrupted) / clean if clean else None,
        corrupted_accuracy=right_corrupted / corrupted if corrupted else None,
        top5_accuracy=top5[0] / total if top5 else None,
    )
