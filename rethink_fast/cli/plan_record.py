"""What a plan takes from a record: the rates of a profiled run, or the matrix rate of a GPU check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import schema
from ..bench.record import AMOUNT, RUN_SHAPE
from ..errors import UserError
from ..schema import BadFile, Each, Maybe

ADVICE = "name by --record the result.json of a run with --profile, or a record of make gpu-check"
GPU_CHECK_SHAPE = {"bf16_matrix_tflop_per_s": AMOUNT, "gpu": Maybe(str)}

LEAST = 1e-9
"""Of a rate: less would make times that are no numbers."""

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
        values = schema.read(path, Each(), ADVICE)
        kind = "gpu-check" if values.get("kind") == "gpu-check" else "run"
        if kind == "run" and "profile" not in values:
            raise BadFile(path, "is no record with a profile", ADVICE)
        try:
            schema.check(values, GPU_CHECK_SHAPE if kind == "gpu-check" else RUN_SHAPE)
        except ValueError as error:
            raise BadFile(path, str(error), ADVICE) from None
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
            "model_rate": profile["rates"].get("model"),
            "loader_rate": profile["rates"].get("loader"),
            "combined": profile["rates"].get("combined"),
            "peak": profile["arithmetic"].get("matrix_flops_per_second"),
            "watts": (profile.get("gpu") or {}).get("mean_watts"),
            "device_bytes": values.get("peak_memory_bytes") if values["device"] != "cpu" else None,
        }
        return {
            name: Figure(self._rate(name.replace("_", " "), value), MEASURED, whence)
            for name, value in found.items()
            if value is not None
        }

    def _rate(self, what: str, value: float) -> float:
        if value < LEAST:
            raise UserError(f"--record {self.path} has the {what} {value}: measure again with --profile.")
        return float(value)
