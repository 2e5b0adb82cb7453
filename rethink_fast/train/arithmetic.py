"""What a run reached of what it could: the bottleneck by name, and its share of the device's matrix rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .setup import RunContext
from .throughput import MATRIX, copy_bandwidth, loader_rate, matrix_rate, model_rate, training_flops

LOOP_SHARE = 0.8
"""Below this share of model and loader one after the other, neither explains how slow the run is."""


@dataclass(frozen=True)
class Rooflines:
    """What was measured before the first step.

    step_flops: FLOP of a training step of `step_images` images.
    matrix_rate: FLOP/s of the product that `matrix` names.
    copy_bandwidth: bytes/s, read plus written.
    model_rate, loader_rate: images/s of each alone.
    """

    step_flops: int
    step_images: int
    matrix: str
    matrix_rate: float
    copy_bandwidth: float
    model_rate: float
    loader_rate: float

    def figures(self, combined: float | None) -> dict[str, Any]:
        """Return the figures of the record.

        combined: images/s by the run's training clock; None where nothing was trained.
        """
        flops = self.step_flops / self.step_images
        return {
            "rates": {"model": self.model_rate, "loader": self.loader_rate, "combined": combined},
            "bottleneck": None if combined is None else self._bottleneck(combined),
            "arithmetic": {
                "flops_per_step": self.step_flops,
                "flops_per_image": flops,
                "matrix": self.matrix,
                "matrix_flops_per_second": self.matrix_rate,
                "copy_bytes_per_second": self.copy_bandwidth,
                "training_share_of_matrix_rate": None if combined is None else combined * flops / self.matrix_rate,
                "model_share_of_matrix_rate": self.model_rate * flops / self.matrix_rate,
            },
        }

    def _bottleneck(self, combined: float) -> dict[str, str]:
        model, loader = self.model_rate, self.loader_rate
        in_turn = 1 / (1 / model + 1 / loader)
        rates = (
            f"the model alone trains {model:,.0f} images/s, the loader alone gives {loader:,.0f}, the run makes "
            f"{combined:,.0f} (one after the other they would make {in_turn:,.0f}, side by side "
            f"{min(model, loader):,.0f})"
        )
        if combined < LOOP_SHARE * in_turn:
            return {"what": "loop", "why": f"the loop around model and loader is the bottleneck: {rates}"}
        what = "loader" if loader < model else "model"
        return {"what": what, "why": f"the {what} is the bottleneck: {rates}"}


def measure_limits(setup: RunContext) -> Rooflines:
    """Return the rooflines of a run, measured in a few seconds that leave no trace."""
    dtype = torch.bfloat16 if setup.step.autocast else torch.float32
    size = MATRIX[setup.device.type]
    flops, images = training_flops(setup)
    return Rooflines(
        step_flops=flops,
        step_images=images,
        matrix=f"{size} x {size} in {setup.run.train.precision}",
        matrix_rate=matrix_rate(setup.device, dtype),
        copy_bandwidth=copy_bandwidth(setup.device),
        model_rate=model_rate(setup),
        loader_rate=loader_rate(setup),
    )
