"""Compiles what the Triton launchers launch, for a GPU that is not there. Run by kernels.py.

The launchers run as they are, on CPU tensors, under a driver that names the target and launches nothing: so these are
the very signatures, specialisations and options of a real run. Prints one JSON object: case -> resources by kernel.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from benchmarks.counts.resources import of_cubin
from rethink_fast.kernels import (
    triton_distortion,
    triton_gaussian,
    triton_max_pool,
    triton_partially_corrupted_labels,
    triton_preprocess,
    triton_random_pixels,
    triton_whitening,
)

SHARED_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes a block may opt in to


class Driver:
    """A CUDA device of this compute capability, as far as the compiler asks."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.utils = SimpleNamespace(
            load_binary=lambda name, binary, shared, device: (0, 0, 0, 0, 1024),
            get_device_properties=lambda device: {"max_shared_mem": SHARED_LIMIT[capability]},
        )

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return lambda *arguments: None


def image_case(
    height: int, size: int, channels: int, corruption: str, normalisation: str, dtype: torch.dtype, **stages: Any
) -> Callable[[], Tensor]:
    """A call of the fused preparation on square images, cropped to the middle or by the augmentation."""

    def call() -> Tensor:
        window = stages.get("window", [0, 0, height, height])
        augment = stages.get("augment", False)
        return triton_preprocess.prepare(
            torch.zeros(1, height, height, channels, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            torch.zeros(2, dtype=torch.int64),
            window,
            corruption,
            2**62 + 1,
            torch.zeros(channels),
            torch.ones(channels),
            [size, size],
            augment,
            augment,
            stages.get("rotation", False),
            torch.ones((), dtype=torch.int64) if augment or stages.get("rotation") else None,
            normalisation,
            dtype,
        )

    return call


def distorted_case(
    size: int, corruption: str, normalisation: str, dtype: torch.dtype, *, resized: bool, jitter: bool
) -> Callable[[], Tensor]:
    """A call of the fused preprocessing with a flip and ImageNet's augmentation, on square images of three channels."""

    def call() -> Tensor:
        return triton_distortion.preprocess_distorted(
            torch.zeros(1, size, size, 3, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            torch.zeros(2, dtype=torch.int64),
            [0, 0, size, size],
            corruption,
            2**62 + 1,
            torch.zeros(3),
            torch.ones(3),
            [size, size],
            False,
            True,
            False,
            resized,
            jitter,
            torch.ones((), dtype=torch.int64),
            normalisation,
            dtype,
        )

    return call


def cases() -> dict[str, Callable[[], Tensor]]:
    """Every kernel, in every form that a run of the package uses."""
    two = torch.zeros(2, dtype=torch.int64)
    image = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    half, full = torch.bfloat16, torch.float32
    out = {
        "corrupt_labels": lambda: triton_partially_corrupted_labels.corrupt_labels(two, two, 1000, 0.5, 1),
        "shuffled_pixels": lambda: triton_random_pixels.shuffled_pixels(image, 1),
        "random_pixels": lambda: triton_random_pixels.random_pixels(image, two[:1], 1),
        "gaussian": lambda: triton_gaussian.gaussian(two, 224, 224, torch.zeros(3), torch.ones(3), 1),
    }
    windows = torch.zeros(1, 64, 73, 73, dtype=half).to(memory_format=torch.channels_last)
    out["max_pool_gradient"] = lambda: triton_max_pool.max_pool_gradient(windows, windows.to(torch.int8), 147, 147)
    for corruption in ("", "shuffled_pixels", "random_pixels", "gaussian"):
        name = corruption or "true"
        out[f"imagenet 299 {name}"] = image_case(299, 299, 3, corruption, "unit_range", half)
        out[f"cifar10 28 {name}"] = image_case(32, 28, 3, corruption, "whiten", half, window=[2, 2, 28, 28])
    out["imagenet 224 true"] = image_case(224, 224, 3, "", "unit_range", half)
    out["imagenet 224 true float32"] = image_case(224, 224, 3, "", "unit_range", full)
    out["imagenet 224 true whitened"] = image_case(224, 224, 3, "", "whiten", half)
    out["imagenet 299 true augmented"] = image_case(331, 299, 3, "", "unit_range", half, augment=True)
    out["imagenet 299 random_pixels augmented"] = image_case(
        331, 299, 3, "random_pixels", "unit_range", half, augment=True
    )
    out["cifar10 28 true augmented"] = image_case(32, 28, 3, "", "whiten", half, augment=True)
    out["cifar10 28 true rotated"] = image_case(32, 28, 3, "", "whiten", half, rotation=True)
    for corruption in ("", "random_pixels"):
        name = f"imagenet 299 {corruption or 'true'}"
        out[f"{name} resized"] = distorted_case(299, corruption, "unit_range", half, resized=True, jitter=False)
        out[f"{name} distorted"] = distorted_case(299, corruption, "unit_range", half, resized=True, jitter=True)
    out["imagenet 299 true jittered"] = distorted_case(299, "", "unit_range", half, resized=False, jitter=True)
    out["imagenet 299 gaussian distorted"] = distorted_case(
        299, "gaussian", "unit_range", half, resized=True, jitter=True
    )
    out["cifar10 28 true distorted"] = distorted_case(28, "", "whiten", half, resized=True, jitter=True)
    out["mnist 28 true"] = image_case(28, 28, 1, "", "whiten", full)
    return out


def resources(kernel: Any) -> dict[str, Any]:
    """What the machine code says of itself, the shared memory of a launch, and the casts to bfloat16 from the PTX."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        (found,) = of_cubin(Path(file.name)).values()
    casts = sorted(set(re.findall(r"cvt[\w.]*bf16[\w.]*", kernel.asm["ptx"])))
    return {**found, "shared": int(kernel.metadata.shared), "casts": casts}


def main(capability: int, wanted: list[str]) -> None:
    active = Driver(capability)
    driver.set_active(active)
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for name, call in cases().items():
        if wanted and name not in wanted:
            continue
        before = {id(k) for k in _compiled()}
        call()
        out[name] = {}
        for kernel in _compiled():
            if id(kernel) not in before:
                title = kernel.metadata.name
                # the passes of one kernel, in their order
                number = sum(key.startswith(title) for key in out[name]) + 1
                out[name][title if number == 1 else f"{title}, pass {number}"] = resources(kernel)
    print(json.dumps(out))


def _compiled() -> list[Any]:
    functions = [
        triton_partially_corrupted_labels._corrupt_labels_kernel,
        triton_random_pixels._move_pixels_kernel,
        triton_gaussian._gaussian_kernel,
        triton_whitening._statistics_kernel,
        triton_preprocess._prepare_kernel,
        triton_distortion._distortion_kernel,
        triton_max_pool._max_pool_gradient_kernel,
    ]
    return [kernel for function in functions for kernel in function.device_caches[0][0].values()]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
