"""Training speed: epochs until the mean loss of an epoch is at most 0.05, and the sum of the losses until then.

Source: Lyle, Schut, Ru, Gal and van der Wilk, "A Bayesian perspective on training speed and model selection", NeurIPS
2020, and Ru, Lyle, Schut, Fil, van der Wilk and Gal, NeurIPS 2021, for the sum; Zhang et al. 2017, Figure 1b, for the
epochs. They compare runs with one learning rate and batch size.
"""

from __future__ import annotations

from collections.abc import Sequence

from .measurement import Measurement, Unreadable, timed

LEVEL = 0.05


@timed
def speed(losses: Sequence[float], *, level: float = LEVEL) -> Measurement:
    """Return the sum of the losses up to the epoch that fits.

    losses: mean train loss of each epoch, in order.
    level: the mean loss at which a network counts as fitted.
    Raises Unreadable without an epoch.
    """
    if not losses:
        raise Unreadable("it needs the loss of an epoch, and none was trained")
    fitted = next((epoch for epoch, loss in enumerate(losses, 1) if loss <= level), None)
    return Measurement(
        name="speed",
        value=float(sum(losses[:fitted])),
        meaning="sum of the mean losses of the epochs until the loss is small",
        bounds="correlate",
        reference="Lyle et al. 2020",
        note="" if fitted else f"the mean loss never came down to {level:g}: the sum is over all {len(losses)} epochs",
        details={"epochs_to_fit": fitted, "level": level},
    )
