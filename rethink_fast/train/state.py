"""What a run has found so far, as plain values: rows of the curve, milestones, clocks, and where it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Literal

from .milestones import TimeToMemorize
from .restore import build

StopReason = Literal["target_reached", "max_epochs", "interrupted", "non_finite_loss"]


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.csv. Accuracies are fractions; train and test figures come from the evaluation pass.

    They are None after an epoch that was not evaluated. train_seconds and images_per_second are of the training
    clock; learning_rate is that of the epoch's first step; online figures are means over the epoch's batches. The top-5
    accuracies are None too with 10 classes or fewer.
    """

    epoch: int
    step: int
    train_seconds: float
    learning_rate: float
    train_loss: float | None
    train_accuracy: float | None
    clean_accuracy: float | None
    corrupted_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    online_loss: float
    online_accuracy: float
    images_per_second: float
    train_top5_accuracy: float | None = None
    test_top5_accuracy: float | None = None


def utc_now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass
class TrainState:
    """All that a run has found so far; complete in itself at the end of every epoch.

    epoch, batch: where training stands: so many epochs are finished and evaluated, and so many batches of the next one
    trained. sessions: processes that worked on it. started_at: when the
    first began. busy: whether other work disturbed an earlier one.
    compile: whether the step is compiled, and the reason.
    """

    rows: list[EpochMetrics] = field(default_factory=list)
    milestones: TimeToMemorize = field(default_factory=TimeToMemorize)
    epoch: int = 0
    batch: int = 0
    steps: int = 0
    images: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    compile_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    wait_seconds: float = 0.0
    sessions: int = 1
    stop_reason: StopReason = "interrupted"
    first_non_finite_step: int | None = None
    started_at: str = field(default_factory=utc_now)
    busy: bool = False
    compile: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluated(self) -> EpochMetrics | None:
        """The last row that was evaluated."""
        return next((row for row in reversed(self.rows) if row.train_accuracy is not None), None)

    def best(self, column: Literal["test_accuracy", "test_top5_accuracy"]) -> EpochMetrics | None:
        """The first row where this was highest: what early stopping could have at most. None if it was not measured."""
        seen = [row for row in self.rows if getattr(row, column) is not None]
        return max(seen, key=lambda row: getattr(row, column), default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rows", "milestones")}
        return {**values, "rows": [asdict(row) for row in self.rows], "milestones": self.milestones.as_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> TrainState:
        """Return the outcome that `as_dict` described. Raises ValueError for anything that it cannot have given."""
        made = build(cls, values)
        made.rows = [build(EpochMetrics, row, f"rows[{place}]") for place, row in enumerate(values["rows"])]
        made.milestones = TimeToMemorize.from_dict(values["milestones"])
        return made
