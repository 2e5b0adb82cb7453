"""Loads the compiled kernels, and says why they are unavailable and how to build them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = {"_native": "csrc/cpu", "_native_cuda": "csrc/cuda"}
TOOLS = {"_native": "a C++ compiler (g++ 12 or newer)", "_native_cuda": "the CUDA toolkit (nvcc)"}


@dataclass(frozen=True)
class Status:
    """Whether a compiled library is in use; else `why` not and what to `do`. On success `why` is its path."""

    usable: bool
    why: str
    do: str = ""


@functools.cache
def load(name: str) -> Status:
    """Load rethink_fast/<name>.so once for the process; name: "_native" (CPU) or "_native_cuda"."""
    path = PACKAGE / f"{name}.so"
    do = f"with {TOOLS[name]}, from the source tree: pip install --no-build-isolation -e ."
    if name == "_native_cuda" and torch.version.cuda is None:
        return Status(False, "this torch was built without CUDA", "install a CUDA build of torch")
    if not path.exists():
        return Status(False, f"{SOURCES[name]} was not compiled: {path} does not exist", do)
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return Status(False, f"{path} does not load into torch {torch.__version__}: {error}", do)
    return Status(True, str(path))
