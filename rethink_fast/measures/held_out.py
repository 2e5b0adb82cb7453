"""The held-out bound: the largest error p with Pr[Binomial(n, p) <= errors] >= delta.

Source: Langford, "Tutorial on practical prediction theory for classification", JMLR 6 (2005), the test set bound.
It needs labels that training did not see and nothing else: every other bound is to be read beside it.
"""

from __future__ import annotations

import math

from .measurement import DELTA, Measurement, binomial_bound, judged, timed


@timed
def held_out(train_accuracy: float, test_accuracy: float, n_test: int, classes: int) -> Measurement:
    """Return the measured gap, train less test accuracy, with the held-out bound on the test error.

    train_accuracy, test_accuracy: fractions.
    n_test: test images.
    classes: of the task.
    """
    errors = round((1 - test_accuracy) * n_test)
    bound = binomial_bound(errors, n_test)
    return Measurement(
        name="gap",
        value=train_accuracy - test_accuracy,
        meaning="train accuracy less test accuracy; the bound is that of the test set",
        bounds="test error",
        reference="Langford 2005",
        bound=bound,
        verdict=judged(bound, classes),
        error=math.sqrt(test_accuracy * (1 - test_accuracy) / n_test),
        confidence=1 - DELTA,
        details={"train_accuracy": train_accuracy, "test_accuracy": test_accuracy, "n_test": n_test},
    )
