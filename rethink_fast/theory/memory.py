"""Whether a matrix of kernel values will fit, asked before the work and not after half of it."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import UserError


def require_memory(needed: int, n: int, device: torch.device) -> None:
    """Raise UserError if `needed` bytes, which grow as n^2, are more than the device has left."""
    available = _available(device)
    if available is not None and needed > available:
        fits = int(n * (available / needed) ** 0.5 * 0.95)
        raise UserError(
            f"the kernel matrix of {n:,} images needs {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB are free on "
            f"{device}: use at most {fits:,} images."
        )


def _available(device: torch.device) -> int | None:
    """Bytes that can still be had, or None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
