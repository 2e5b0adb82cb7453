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

    These are None after an epoch that was not evaluated, and the top-5 accuracies also with 10 classes or fewer.
    train_seconds, images_per_second: by the training clock.
    learning_rate: of the epoch's first step.
    online_loss, online_accuracy: means over the epoch's batches.
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

    epoch, batch: where training stands: the epochs that are finished and evaluated, and the batches of the next one
        that are trained.
    sessions: the processes that worked on it.
    started_at: when the first began.
    busy: whether other work disturbed an earlier one.
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
        """Return the first row with the highest value, the best of early stopping; None if it was not measured."""
        seen = [row for row in self.rows if getattr(row, column) is not None]
        return max(seen, key=lambda row: getattr(row, column), default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rows", "milestones")}
        return {**values, "rows": [asdict(row) for row in self.rows], "milestones": self.milestones.as_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> TrainState:
        """Return the state that `as_dict` described. Raises ValueError for anything that it cannot have returned."""
        state = build(cls, values)
        state.rows = [build(EpochMetrics, row, f"rows[{position}]") for position, row in enumerate(values["rows"])]
        state.milestones = TimeToMemorize.from_dict(values["milestones"])
        return state
