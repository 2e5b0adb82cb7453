"""The record of a run for programs: its figures, its curve and its network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError
from ..files import user_path
from ..schema import BadFile, Each, check, read
from ..train.weights import load_model
from .record import RUN_SHAPE
from .record_folder import read_curve

ADVICE = "name the folder of a run, such as runs/DATE-TIME-..."


class Record(Mapping[str, Any]):
    """The record of a run, a mapping with the keys of bench/README.md, or one over several seeds.

    The main figures are attributes too. Over several seeds they are those of `runs`, and record["summary"] has their
    mean and spread.

    values: as in result.json.
    folder: where the run is.
    """

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        self._values, self.folder = values, folder

    @classmethod
    def load(cls, folder: str | Path) -> Record:
        """Return the record in a run's folder. Raises UserError where there is none, or it is not one."""
        path = user_path(str(folder))
        file = path / "result.json"
        values = read(file, Each(), ADVICE)
        try:
            check(values, {"runs": [RUN_SHAPE], "seeds": [int], "summary": Each()} if "runs" in values else RUN_SHAPE)
        except ValueError as error:
            raise BadFile(file, str(error), ADVICE) from None
        return cls(values, path)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Record({str(self.folder)!r})"

    @property
    def runs(self) -> tuple[Record, ...]:
        """The record of each seed; of a run with one seed, itself."""
        if "runs" not in self._values:
            return (self,)
        return tuple(
            Record(values, self.folder / f"seed-{values['corruption']['seed']}") for values in self._values["runs"]
        )

    def _of_one_run(self, key: str) -> Any:
        if "runs" in self._values:
            raise UserError(
                f"{self.folder} holds {len(self._values['runs'])} seeds",
                f"take {key} of one of record.runs",
                option=key,
                value=self.folder,
            )
        return self._values.get(key)

    @property
    def train_accuracy(self) -> float | None:
        """Fraction right of the training set in its last full pass, in eval mode; None if there was none."""
        return self._of_one_run("train_accuracy")

    @property
    def test_accuracy(self) -> float | None:
        """Fraction right of the test set in the last pass; None if there was none."""
        return self._of_one_run("test_accuracy")

    @property
    def train_loss(self) -> float | None:
        """Mean cross entropy of the training set in its last full pass; None if there was none."""
        return self._of_one_run("train_loss")

    @property
    def memorized(self) -> bool:
        """Whether every training label was reproduced."""
        return self._of_one_run("memorized")

    @property
    def seconds_to_memorize(self) -> float | None:
        """Seconds of training until every training label was reproduced; None if that was not reached."""
        moment = self._of_one_run("time_to_memorize").get("accuracy>=1.0")
        return None if moment is None else moment["seconds"]

    @property
    def images_per_second(self) -> float | None:
        """Training images a second; None if no step was made."""
        return self._of_one_run("images_per_second")

    @property
    def stop_reason(self) -> str:
        """target_reached, max_epochs, interrupted or non_finite_loss."""
        return self._of_one_run("stop_reason")

    @property
    def epochs(self) -> int:
        """Epochs completed."""
        return self._of_one_run("epochs")

    def metrics(self) -> tuple[dict[str, float | None], ...]:
        """Return the rows of metrics.csv, one for each epoch. Raises UserError where it cannot be read."""
        self._of_one_run("metrics")
        path = self.folder / "metrics.csv"
        try:
            return read_curve(path)
        except OSError as error:
            raise BadFile(path, f"cannot be read ({error.strerror})", ADVICE) from None
        except ValueError as error:
            raise BadFile(path, f"is not a table of numbers ({error})", ADVICE) from None

    def load_model(self) -> nn.Module:
        """Return the trained network, on the CPU, in eval mode, with its `preprocess`: see `load_model`."""
        self._of_one_run("the network")
        return load_model(self.folder)
