"""The numbers that are read from the result of a training run; each in the unit of the paper."""

from __future__ import annotations

from .spec import Measure, Result

FITTED = "loss<=0.05"
"""The milestone that Figures 1a and 1b agree with: mean train loss of at most 0.05 at the end of an epoch."""


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def in_percent(measure: Measure) -> Measure:
    """Return the measure times 100."""
    return lambda result: _percent(measure(result))


def _percentage(key: str) -> Measure:
    """Return the measure that is this key of the record, in %."""
    return in_percent(lambda result: result.record[key])


train_accuracy = _percentage("train_accuracy")
"""Accuracy on the training set, of a full pass at the end, un-augmented."""
train_top5 = _percentage("train_top5_accuracy")
"""Top-5 accuracy on the training set; None with 10 classes or fewer."""
test_accuracy = _percentage("test_accuracy")
"""Accuracy on the test set at the end."""
test_top5 = _percentage("test_top5_accuracy")
"""Top-5 accuracy on the test set at the end; None with 10 classes or fewer."""
best_test_accuracy = _percentage("best_test_accuracy")
"""Accuracy on the test set at its best epoch: the most that early stopping could give."""
best_test_top5 = _percentage("best_test_top5_accuracy")
"""Top-5 accuracy on the test set at its best epoch."""


def online_accuracy(result: Result) -> float | None:
    """Return the accuracy in % on the augmented batches of the last epoch: Table 4's for crops and flips."""
    return _percent(result.curve[-1]["online_accuracy"]) if result.curve else None


def test_error(result: Result) -> float | None:
    """Return the fraction of the test set that is wrong, at the end."""
    accuracy = result.record["test_accuracy"]
    return None if accuracy is None else 1 - accuracy


def test_error_if_corrupted(probability: float) -> Measure:
    """Return the measure that is expected of `test_error` where each test label too is replaced by a uniform class.

    Those draws know nothing of the network, so it is right on a replaced label with the probability of guessing.

    probability: that a test label is replaced.
    """

    def expected(result: Result) -> float | None:
        error = test_error(result)
        if error is None:
            return None
        return 1 - ((1 - probability) * (1 - error) + probability / result.record["num_classes"])

    return expected


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
