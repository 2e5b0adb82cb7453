"""Time-to-memorize: the first epoch's end at which each level of train accuracy stands, and the paper's own rule.

The paper does not state when a network has fitted; its Figures 1a and 1b agree with "mean train loss at most 0.05".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..schema import check
from .restore import build

ACCURACIES = (0.5, 0.9, 0.99, 0.999, 1.0)
PAPER_LOSS = 0.05


@dataclass(frozen=True)
class TimePoint:
    """A time in seconds of training alone (without evaluation and compilation), in epochs and in steps."""

    seconds: float
    epochs: int
    steps: int


class TimeToMemorize:
    """Keeps the first moment each milestone was passed; None while it was not."""

    def __init__(self) -> None:
        self.moments: dict[str, TimePoint | None] = {f"accuracy>={level}": None for level in ACCURACIES}
        self.moments[f"loss<={PAPER_LOSS}"] = None

    def pass_epoch(self, accuracy: float, loss: float, moment: TimePoint) -> None:
        """Note the milestones that an epoch passed. accuracy, loss: of a full pass over the training set at its end."""
        passed = {f"accuracy>={level}": accuracy >= level for level in ACCURACIES}
        passed[f"loss<={PAPER_LOSS}"] = loss <= PAPER_LOSS
        for name, reached in passed.items():
            if reached and self.moments[name] is None:
                self.moments[name] = moment

    @property
    def all_passed(self) -> bool:
        """Whether no milestone is left."""
        return all(moment is not None for moment in self.moments.values())

    def as_dict(self) -> dict[str, dict[str, Any] | None]:
        """Return the milestones as plain values."""
        return {name: asdict(moment) if moment else None for name, moment in self.moments.items()}

    @classmethod
    def from_dict(cls, values: Any) -> TimeToMemorize:
        """Return the milestones that `as_dict` described. Raises ValueError for anything that it cannot have given."""
        milestones = cls()
        check(values, dict.fromkeys(milestones.moments), "milestones")
        for name in milestones.moments:
            milestones.moments[name] = build(TimePoint, values[name], f"milestones.{name}") if values[name] else None
        return milestones
