"""What a plan takes from a record: the rates of a profiled run, or the matrix rate of a GPU check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

MEASURED, GIVEN, COUNTED, ASSUMED = "measured", "given", "counted", "assumed"
"""Where a figure of a plan may come from."""


@dataclass(frozen=True)
class Figure:
    """A number and where it came from: one of the four words above, and the option or file."""

    value: float
    source: str
    whence: str

    def __str__(self) -> str:
        return f"{self.source}, {self.whence}"


@dataclass(frozen=True)
class Record:
    """A record as it was read."""

    path: Path
    values: dict[str, Any]

    @staticmethod
    def read(path: Path) -> Record:
        try:
            values = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"--record {path} cannot be read ({error.strerror}): name a run's result.json.") from None
        except ValueError:
            raise UserError(f"--record {path} is not whole JSON: name a run's result.json that is.") from None
        if not isinstance(values, dict) or not (values.get("kind") == "gpu-check" or "profile" in values):
            raise UserError(
                f"--record {path} is no record: name the result.json of a run with --profile, or a record of make "
                f"gpu-check."
            )
        return Record(path, values)

    @property
    def batch_size(self) -> int | None:
        return self.values.get("batch_size")

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who reads the plan must know of the record."""
        if self.values.get("kind") == "gpu-check":
            return (f"{self.path} holds the matrix rate of a {self.values.get('gpu', 'GPU')} and no rate of images",)
        said = []
        if self.values.get("device") == "cpu":
            said.append(f"{self.path} was measured on a CPU: a GPU of this plan stands for such a machine")
        if self.values.get("data_source") == "synthetic":
            said.append(f"{self.path} was measured on synthetic images: its loader decoded nothing")
        return tuple(said)

    def figures(self, dataset: str, model: str, size: int, precision: str) -> dict[str, Figure]:
        """What was measured, by name. Raises UserError for a record of another run than this, or without rates."""
        try:
            return self._figures(dataset, model, size, precision)
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"--record {self.path} lacks what a record has: measure again with --profile.") from None

    def _figures(self, dataset: str, model: str, size: int, precision: str) -> dict[str, Figure]:
        values, whence = self.values, str(self.path)
        if values.get("kind") == "gpu-check":
            if precision != "bf16":
                raise UserError(
                    f"--record {self.path} holds the rate of bf16 alone: leave out --precision {precision}."
                )
            return {
                "peak": Figure(self._rate("matrix rate", values["bf16_matrix_tflop_per_s"]) * 1e12, MEASURED, whence)
            }
        if values["profile"] is None:
            raise UserError(f"--record {self.path} holds no rates: measure them by a run with --profile.")
        for what, key, wanted in (
            ("data set", "dataset", dataset),
            ("model", "model", model),
            ("size", "image_size", size),
            ("precision", "precision", precision),
        ):
            if values[key] != wanted:
                raise UserError(
                    f"--record {self.path} has the {what} {values[key]}, the plan {wanted}: name another record, or "
                    f"plan for that one."
                )
        profile = values["profile"]
        found = {
            "model_rate": profile["rates"]["model"],
            "loader_rate": profile["rates"]["loader"],
            "combined": profile["rates"]["combined"],
            "peak": profile["arithmetic"]["matrix_flops_per_second"],
            "watts": (profile["gpu"] or {}).get("mean_watts"),
            "device_bytes": values["peak_memory_bytes"] if values["device"] != "cpu" else None,
        }
        return {
            name: Figure(self._rate(name.replace("_", " "), value), MEASURED, whence)
            for name, value in found.items()
            if value is not None
        }

    def _rate(self, what: str, value: Any) -> float:
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise UserError(f"--record {self.path} has the {what} {value}: measure again with --profile.")
        return float(value)
