"""The numbers that are read from the result of a training run; each in the unit of the paper."""

from __future__ import annotations

from .spec import Result

FITTED = "loss<=0.05"
"""The milestone that Figures 1a and 1b agree with: mean train loss of at most 0.05 at the end of an epoch."""


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def train_accuracy(result: Result) -> float | None:
    """Return the accuracy on the training set in %, of a full pass at the end, un-augmented."""
    return _percent(result.record["train_accuracy"])


def train_top5(result: Result) -> float | None:
    """Return the top-5 accuracy on the training set in %; None with 10 classes or fewer."""
    return _percent(result.record["train_top5_accuracy"])


def test_accuracy(result: Result) -> float | None:
    """Return the accuracy on the test set in %, at the end."""
    return _percent(result.record["test_accuracy"])


def test_top5(result: Result) -> float | None:
    """Return the top-5 accuracy on the test set in %, at the end; None with 10 classes or fewer."""
    return _percent(result.record["test_top5_accuracy"])


def best_test_accuracy(result: Result) -> float | None:
    """Return the accuracy on the test set in %, at its best epoch: the most that early stopping could give."""
    return _percent(result.record["best_test_accuracy"])


def best_test_top5(result: Result) -> float | None:
    """Return the top-5 accuracy on the test set in %, at its best epoch."""
    return _percent(result.record["best_test_top5_accuracy"])


def online_accuracy(result: Result) -> float | None:
    """Return the accuracy in % on the augmented batches of the last epoch: Table 4's for crops and flips."""
    return _percent(result.curve[-1]["online_accuracy"]) if result.curve else None


def test_error(result: Result) -> float | None:
    """Return the fraction of the test set that is wrong, at the end."""
    accuracy = result.record["test_accuracy"]
    return None if accuracy is None else 1 - accuracy


def epochs_to_fit(result: Result) -> float | None:
    """Return the epochs until the mean train loss was at most 0.05; None where it never was."""
    moment = result.record["time_to_memorize"][FITTED]
    return None if moment is None else float(moment["epochs"])


def chance(result: Result) -> float:
    """Return the accuracy of guessing in %."""
    return 100 / result.record["num_classes"]


def sampling_error(result: Result) -> float:
    """Return the standard error of an accuracy at chance on this test set, in points."""
    p = 1 / result.record["num_classes"]
    return 100 * (p * (1 - p) / max(1, result.record["n_test"])) ** 0.5
