"""Loads the compiled kernels, and says why they are unavailable and how to build them."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from . import sources

PACKAGE = Path(__file__).resolve().parents[1]
TOOLS = {"_native": "a C++ compiler (g++ 12 or newer)", "_native_cuda": "the CUDA toolkit (nvcc)"}
BUILD = "pip install --no-build-isolation"


@dataclass(frozen=True)
class Status:
    """Whether a compiled library is in use; else `why` not and what to `do`. On success `why` is its path."""

    usable: bool
    why: str
    do: str = ""


@functools.cache
def load(name: str) -> Status:
    """Load rethink_fast/<name>.so once for the process. name: "_native" (CPU) or "_native_cuda".

    A library that was built from other sources than those next to the package is not loaded: after an update of a
    source tree it would compute what the package did before.
    """
    path, csrc = PACKAGE / f"{name}.so", PACKAGE.parent / "csrc"
    do = f"with {TOOLS[name]}, from the source tree: {BUILD} -e ."
    if name == "_native_cuda" and torch.version.cuda is None:
        return Status(False, "this torch was built without CUDA", "install a CUDA build of torch")
    if not path.exists():
        return Status(False, f"csrc/{sources.FOLDERS[name]} was not compiled: {path} does not exist", do)
    try:
        if _is_stale(path, csrc, name):
            return Status(False, f"{path} was built from other sources than {csrc}", f"rebuild it {do}")
        torch.ops.load_library(path)
    except OSError as error:
        return Status(False, f"{path} does not load into torch {torch.__version__}: {error}", f"rebuild it {do}")
    return Status(True, str(path))


def _is_stale(path: Path, csrc: Path, name: str) -> bool:
    """A library that holds no fingerprint is stale too: it was cut off, or built before there were any."""
    return (csrc / "philox.h").exists() and sources.noted(path) != sources.fingerprint(csrc, name)


def instruction_set() -> str | None:
    """Return the instruction set that the C++ kernels use on this processor, such as "avx512"; None without them."""
    status = load("_native")
    if not status.usable:
        return None
    name = ctypes.CDLL(status.why).rethink_fast_instruction_set
    name.restype = ctypes.c_char_p
    return str(name().decode())
