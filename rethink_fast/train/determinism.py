"""Which algorithms torch uses, and whether they give identical curves, bit for bit, from run to run on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import UserError

NOT_DETERMINISTIC = "does not have a deterministic implementation"

_settings: Any = torch.utils.deterministic


def set_backends(*, deterministic: bool) -> None:
    """Set how CUDA's libraries compute from here on; build_run calls this for every run.

    cuDNN times its algorithms and takes the fastest, unless the run is to be deterministic. float32 means float32: TF32
    is off in convolutions too, where it is torch's default.
    """
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms alone in this block, or, if not `on`, any.

    cuBLAS reads its setting when it is first used in the process, so this block belongs around the first use.
    Raises UserError where an operation has no deterministic algorithm.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    fill = _settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(on)
    # It hunts for reads of memory that was never written, at the price of writing all of it.
    _settings.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as error:
        if not on or NOT_DETERMINISTIC not in str(error):
            raise
        what = str(error).split(NOT_DETERMINISTIC)[0].strip()
        problem = f"--deterministic is not possible: torch has no deterministic {what} for this device"
        fix = "omit --deterministic, choose another network, or compile it with --compile on"
        raise UserError(problem, fix, option="--deterministic") from None
    finally:
        torch.use_deterministic_algorithms(before)
        _settings.fill_uninitialized_memory = fill
