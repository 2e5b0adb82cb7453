"""The ops of this package: their schemas, what runs each of them on which device, and what torch.compile may assume.

    device | what runs                                                     | when
    CPU    | csrc/cpu, compiled into rethink_fast/_native.so               | it was built (see native.py)
    CUDA   | csrc/cuda, compiled into rethink_fast/_native_cuda.so         | it was built and holds the op
    CUDA   | the Triton kernel in kernels/triton_<stem>.py                 | otherwise
    CUDA   | csrc/cuda, for whole images that `prepare` only moves         | it was built; the values are the same
    any    | the reference in plain torch, next to the public function     | nothing above serves

The public functions (corruptions/, data/preprocess.py) check their arguments and call torch.ops.rethink_fast.<op>.
max_pool_gradient is called by compiled steps (train/inductor.py).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import rng
from . import checks, native

SCHEMAS = {
    "corrupt_labels": "(Tensor labels, Tensor index, int num_classes, float probability, int seed) -> Tensor",
    "shuffled_pixels": "(Tensor images, int seed) -> Tensor",
    "random_pixels": "(Tensor images, Tensor index, int seed) -> Tensor",
    "gaussian": "(Tensor index, int height, int width, Tensor mean, Tensor std, int seed) -> Tensor",
    "order": "(int seed, int epoch, int n, int start, int stop) -> Tensor",
    "prepare": "(Tensor images, Tensor rows, Tensor index, int[] window, str corruption, int seed, Tensor? mean, "
    "Tensor? std, int[] size, bool crop, bool flip, bool rotation, Tensor? epoch, str normalisation, "
    "ScalarType dtype) -> Tensor",
    "preprocess_distorted": "(Tensor images, Tensor rows, Tensor index, int[] window, str corruption, int seed, "
    "Tensor? mean, Tensor? std, int[] size, bool crop, bool flip, bool rotation, bool random_resized_crop, "
    "bool color_jitter, Tensor epoch, str normalisation, ScalarType dtype) -> Tensor",
    "resize": "(Tensor[] images, Tensor(a!) out) -> ()",
    "max_pool_gradient": "(Tensor gradient, Tensor offsets, int height, int width) -> Tensor",
}
"""The only definition of each op: the compiled libraries implement these and define none."""

TRITON = {
    "corrupt_labels": "triton_partially_corrupted_labels",
    "shuffled_pixels": "triton_random_pixels",
    "random_pixels": "triton_random_pixels",
    "gaussian": "triton_gaussian",
    "prepare": "triton_preprocess",
    "preprocess_distorted": "triton_distortion",
    "max_pool_gradient": "triton_max_pool",
}
"""The module that holds the Triton launcher of each op, under the op's own name."""

F = TypeVar("F", bound=Callable[..., Tensor | None])


def reference(name: str) -> Callable[[F], F]:
    """Return a decorator that registers the function as what runs an op where no kernel serves the device."""

    def register(function: F) -> F:
        _library.impl(name, function, "CompositeExplicitAutograd")
        return function

    return register


def triton_launcher(name: str) -> Callable[..., Tensor]:
    """Return the function that launches the Triton kernel of an op, and import its module. name: of TRITON."""
    launcher: Callable[..., Tensor] = getattr(importlib.import_module(f".{TRITON[name]}", __name__), name)
    return launcher


def _corrupt_labels_fake(labels: Tensor, *_: Any) -> Tensor:
    return labels.new_empty(labels.shape)


def _pixels_fake(images: Tensor, *_: Any) -> Tensor:
    return images.new_empty(images.shape)


def _gaussian_fake(index: Tensor, height: int, width: int, mean: Tensor, *_: Any) -> Tensor:
    return index.new_empty((index.shape[0], height, width, mean.shape[0]), dtype=torch.float32)


def _order_fake(seed: int, epoch: int, n: int, start: int, stop: int) -> Tensor:
    return torch.empty(stop - start, dtype=torch.int64)


def _prepare_fake(images: Tensor, rows: Tensor, *rest: Any) -> Tensor:
    size = rest[6]
    shape = (rows.shape[0], images.shape[3], *size)
    return torch.empty(shape, dtype=rest[-1], device=images.device, memory_format=torch.channels_last)


def _max_pool_gradient_fake(gradient: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    shape = (*gradient.shape[:2], height, width)
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)


def _resize_fake(images: list[Tensor], out: Tensor) -> None:
    return None


FAKES: dict[str, Callable[..., Tensor | None]] = {
    "corrupt_labels": _corrupt_labels_fake,
    "shuffled_pixels": _pixels_fake,
    "random_pixels": _pixels_fake,
    "gaussian": _gaussian_fake,
    "order": _order_fake,
    "prepare": _prepare_fake,
    "preprocess_distorted": _prepare_fake,
    "resize": _resize_fake,
    "max_pool_gradient": _max_pool_gradient_fake,
}


def _has_kernel(name: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"rethink_fast::{name}", key)


def _register() -> torch.library.Library:
    library = torch.library.Library("rethink_fast", "FRAGMENT")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
        torch.library.register_fake(f"rethink_fast::{name}", FAKES[name], lib=library)
    if not native.load("_native").usable:
        library.impl("order", rng.order, "CompositeExplicitAutograd")
    native.load("_native_cuda")
    if importlib.util.find_spec("triton") is not None:
        for name in TRITON:
            if not _has_kernel(name, "CUDA"):
                library.impl(name, lambda *args, name=name: triton_launcher(name)(*args), "CUDA")
                _by_triton.add(name)
    return library


_by_triton: set[str] = set()
_library = _register()


def backend(name: str, device: torch.device) -> str:
    """Return what runs an op on a device: "C++ (avx512)", "cuda C++", "triton", or "torch" for the plain reference.

    "triton and cuda C++" for what Triton launches or hands to the compiled library.

    name: of SCHEMAS. "order" has no tensor to choose a device by, and runs on the CPU for any.
    """
    if device.type == "cuda" and name != "order":
        if not _has_kernel(name, "CUDA"):
            return "torch"
        if name not in _by_triton:
            return "cuda C++"
        return "triton and cuda C++" if name == "prepare" and native.load("_native_cuda").usable else "triton"
    compiled = native.load("_native").usable if name == "order" else _has_kernel(name, "CPU")
    return f"C++ ({native.instruction_set()})" if compiled else "torch"


def data_path(device: torch.device, *, distorts: bool = False) -> dict[str, str]:
    """Return what runs each operator of a run's data path: as `backend` has it, and "DALI" for a GPU's resize.

    device: of the run. The labels are corrupted, and the order is made, on the CPU for any.
    distorts: whether it resizes random crops or jitters colors of batches, which is `preprocess_distorted`.
    """
    cpu = torch.device("cpu")
    backends = {name: backend(name, cpu) for name in ("order", "corrupt_labels")}
    backends |= {name: backend(name, device) for name in ("prepare", *(("preprocess_distorted",) * distorts))}
    backends["resize"] = "DALI" if device.type == "cuda" else backend("resize", cpu)
    return backends


def slow(device: torch.device) -> str | None:
    """Return a line for the screen if plain torch runs part of a run's data path, with what to do; else None."""
    names = [name for name, by in data_path(device).items() if by == "torch"]
    if not names:
        return None
    status = native.load("_native")
    why, do = (status.why, status.do) if not status.usable else ("triton is not installed", "pip install triton")
    return f"plain torch runs {', '.join(names)}, 30 to 150 times slower than compiled kernels: {why}; {do}"


def order(seed: int, epoch: int, n: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Return positions start ... stop of an epoch's order over n samples: rng.order, by the fastest backend.

    Returns int64 [stop - start] on the CPU.
    Raises ValueError for what is out of range.
    """
    stop = n if stop is None else stop
    if not 1 <= n <= 2**31:
        raise ValueError(f"a permutation of {n} places is out of range: choose n in [1, 2^31]")
    if not 0 <= start <= stop <= n:
        raise ValueError(f"positions {start} to {stop} are out of range: choose them in [0, {n}]")
    return torch.ops.rethink_fast.order(rng.check_seed(seed), checks.check_epoch(epoch), n, start, stop)
