"""From the outputs of a population to per-example memorization (Feldman 2020; Feldman and Zhang 2020).

    mem(i)  = Pr[h(x_i) = y_i : h trained with i] - Pr[h(x_i) = y_i : h trained without i]
    C(i)    = the second term (the C-score of Jiang et al. 2021, at this ratio alone)

each probability the mean over the models of the population that have, or do not have, the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..train.setup import RunContext
from .auroc import auroc
from .presentations import FALLS, SCORES
from .training import Trained

SIGMAS = 4
"""Standard deviations of a tolerance: chance alone leaves it once in 16,000 runs."""


@dataclass(frozen=True)
class Scores:
    """Scores of n training samples, in the order of `index`: arrays of length n, float64 unless said.

    index, label, clean_label: int64; label is what the models were trained on. corrupted: bool, whether it was drawn.
    memorization: by 0-1 correctness. memorization_probability: by the probability of the label. c_score: correctness
    of the models without the sample. standard_error: of memorization. in_count, out_count: int64, models with and
    without the sample. single: by name of presentations.SCORES, mean over the models with the sample.
    pred_probs: float32 [n, classes], mean class probabilities of the models without the sample.
    right_in: correctness of the models with the sample.
    """

    index: np.ndarray
    label: np.ndarray
    clean_label: np.ndarray
    corrupted: np.ndarray
    memorization: np.ndarray
    memorization_probability: np.ndarray
    c_score: np.ndarray
    standard_error: np.ndarray
    in_count: np.ndarray
    out_count: np.ndarray
    single: dict[str, np.ndarray]
    pred_probs: np.ndarray
    right_in: np.ndarray

    @property
    def changed(self) -> np.ndarray:
        """Whether the label is not the clean one: bool [n]."""
        return self.label != self.clean_label


def score(setup: RunContext, parts: Sequence[Trained]) -> Scores:
    """Return the scores by a population, each sample of which is in some training sets and not in others."""
    included = np.concatenate([part.included for part in parts])
    right = np.concatenate([part.right for part in parts])
    with_it, without = included.sum(0), (~included).sum(0)
    hits_in, hits_out = (right & included).sum(0), (right & ~included).sum(0)
    index = setup.dataset.train.index
    held_out = _sum([part.held_out for part in parts])
    in_probability, out_probability = _sum([part.label_in for part in parts]), _sum([part.label_out for part in parts])
    return Scores(
        index=index.numpy(),
        label=setup.labels[index].numpy(),
        clean_label=setup.original[index].numpy(),
        corrupted=setup.corrupted[index].numpy(),
        memorization=hits_in / with_it - hits_out / without,
        memorization_probability=in_probability / with_it - out_probability / without,
        c_score=hits_out / without,
        standard_error=np.sqrt(_variance(hits_in, with_it) + _variance(hits_out, without)),
        in_count=with_it,
        out_count=without,
        single={name: _sum([part.scores[name] for part in parts]) / with_it for name in SCORES},
        pred_probs=(held_out / held_out.sum(1, keepdims=True)).astype(np.float32),
        right_in=hits_in / with_it,
    )


def _sum(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.sum(np.stack(values), axis=0)


def _variance(hits: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return that of a share. One more hit and miss are counted, else 3 hits of 3 would have no error."""
    q = (hits + 1) / (count + 2)
    return q * (1 - q) / count


def gap_identity(scores: Scores, parts: Sequence[Trained], ratio: float) -> dict[str, Any]:
    """Return the gap identity: mean memorization is the train less the held-out accuracy, up to the weighting.

    The mean takes each sample once, the accuracies each (model, sample) once. With c of K models at ratio r holding a
    sample, c has a relative variance of (1 - r) / (r K); so the difference of the two means over n samples has the
    variance (1 - r) / r var(q) / (n K), q being the samples' shares, and r / (1 - r) var(q) / (n K) for those held out.

    With true labels held-out images are like test images, and the test accuracy is beside it: its difference from the
    held-out accuracy has the variance e (1 - e) (1 / n + 1 / n_test), e being the test error.
    """
    n, models = len(scores.index), sum(len(part.included) for part in parts)
    with_it, without = scores.in_count.sum(), scores.out_count.sum()
    train = float((scores.right_in * scores.in_count).sum() / with_it)
    held_out = float((scores.c_score * scores.out_count).sum() / without)
    odds = (1 - ratio) / ratio
    variance = (odds * scores.right_in.var() + scores.c_score.var() / odds) / (n * models)
    mean, tolerance = float(scores.memorization.mean()), SIGMAS * math.sqrt(variance)
    found: dict[str, Any] = {
        "mean_memorization": mean,
        "train_accuracy": train,
        "held_out_accuracy": held_out,
        "difference": mean - (train - held_out),
        "tolerance": tolerance,
        "holds": bool(abs(mean - (train - held_out)) <= tolerance),
        "test_accuracy": None,
        "test_difference": None,
        "test_tolerance": None,
        "test_holds": None,
    }
    t = parts[0].test_right.shape[1]
    if t:
        test = float(np.concatenate([part.test_right for part in parts]).mean())
        found["test_accuracy"] = test
        if not scores.changed.any():
            apart = mean - (train - test)
            allowed = tolerance + SIGMAS * math.sqrt(test * (1 - test) * (1 / n + 1 / t))
            found |= {"test_difference": apart, "test_tolerance": allowed, "test_holds": bool(abs(apart) <= allowed)}
    return found


def find_changed(scores: Scores, parts: Sequence[Trained]) -> dict[str, dict[str, float | None]] | None:
    """Return how well each score finds changed labels, by AUROC; None where no label, or every one, was changed.

    population: of the mean over all models. one_model: mean over the models of each one's own score on its own
    samples; None for what takes a population.
    """
    changed = torch.from_numpy(scores.changed)
    if not changed.any() or changed.all():
        return None
    rows: dict[str, tuple[np.ndarray, bool]] = {
        "memorization": (scores.memorization, False),
        "memorization_probability": (scores.memorization_probability, False),
        "c_score": (scores.c_score, True),
    } | {name: (values, name in FALLS) for name, values in scores.single.items()}
    one = {name: float(np.nanmean(np.concatenate([part.auroc[name] for part in parts]))) for name in SCORES}
    return {
        name: {"population": auroc(torch.from_numpy(values), changed, falls=falls), "one_model": one.get(name)}
        for name, (values, falls) in rows.items()
    }
