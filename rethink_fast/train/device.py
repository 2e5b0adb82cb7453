"""Waiting for a device, reading its counters without waiting, and giving a CPU's memory back."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trim_heap(device: torch.device) -> None:
    """Give the memory of freed batches back to the system, where torch leaves that to glibc: on a CPU.

    glibc fits new aligned blocks badly into the holes of old ones, so that they pile up: 85 epochs of MNIST with an MLP
    held 7.3 GB where 0.6 are in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if device.type == "cpu" else None
    if trim is not None:
        trim(0)


class LossPoll:
    """Reads a loss from a GPU without waiting for it: each call begins a copy and returns what the last one brought."""

    def __init__(self) -> None:
        self._copy: tuple[Tensor, torch.cuda.Event, int] | None = None
        self.polled: tuple[float | None, bool] = None, False

    def __call__(self, loss_sum: Tensor, first_non_finite_step: Tensor, seen: int) -> tuple[float | None, bool]:
        """Return the mean loss and whether one was not finite, as of the call before; at first None and False.

        loss_sum: float64 [], over `seen` samples.
        first_non_finite_step: int64 [], -1 for none.
        """
        if self._copy is None:
            values, event = torch.zeros(2, dtype=torch.float64).pin_memory(), torch.cuda.Event()
        else:
            values, event, copied = self._copy
            if not event.query():
                return self.polled
            self.polled = values[0].item() / copied, values[1].item() >= 0
        values[0:1].copy_(loss_sum[None], non_blocking=True)
        values[1:2].copy_(first_non_finite_step[None].double(), non_blocking=True)
        event.record()
        self._copy = values, event, seen
        return self.polled
