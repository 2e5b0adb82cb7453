"""The curves of a run for TensorBoard: an event file beside metrics.csv, with its columns as scalars over epochs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from ..errors import UserError
from ..train.state import EpochMetrics, TrainState

EVENTS = "events.out.tfevents.rethink-fast"
"""TensorBoard reads files with tfevents in their names."""


def require_tensorboard() -> None:
    """Raise UserError where tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard needs tensorboard, which is not installed",
            "pip install tensorboard, or omit it",
            option="--tensorboard",
            value=True,
        )


class EventFile:
    """The event file of a run. It is appended to, because TensorBoard follows an open file and not its replacement.

    torch's SummaryWriter is not used: it writes in a thread, where a full disk is a traceback on the screen and the
    epochs since are lost. Here the next `write` makes up for one that failed, and the first one of a session for what
    a killed session left.

    folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS
        self._rows, self._size = 0, 0

    def write(self, outcome: TrainState) -> None:
        """Append the epochs that are not in the file yet. Raises OSError."""
        if not self.path.exists():
            self._rows, self._size = 0, 0
        started = datetime.fromisoformat(outcome.started_at).timestamp()
        content = _records(outcome.rows[self._rows :], started, first=not self._size)
        with self.path.open("r+b" if self._size else "wb") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(content)
        self._rows, self._size = len(outcome.rows), self._size + len(content)


def _records(rows: list[EpochMetrics], started: float, *, first: bool) -> bytes:
    """Return the events of epochs. Their time is that of training alone, from the start of the run on."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = [Event(wall_time=started, file_version="brain.Event:2")] if first else []
    for row in rows:
        columns = {name: value for name, value in asdict(row).items() if name not in ("epoch", "step")}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in columns.items() if value is not None]
        time = started + row.train_seconds
        events.append(Event(wall_time=time, step=row.epoch, summary=Summary(value=values)))
    file = BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()
