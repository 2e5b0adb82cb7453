"""What `make gpu-check` runs: each kernel at the shapes of the paper, its reference, and the bytes it must move."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rethink_fast.corruptions.gaussian import gaussian_reference
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.corruptions.random_pixels import random_pixels_reference
from rethink_fast.corruptions.shuffled_pixels import shuffled_pixels_reference
from rethink_fast.data import preprocess
from rethink_fast.train.max_pool import max_pool_gradient_reference

SEED = 2**62 + 11
MEAN, STD = 120.0, 70.0

NOISE_BOUND = 2e-4
"""How far a deviate on the GPU may be from the reference's: log2's error of 2^-22 moves the smallest radius, 1e-3, by
1.7e-4; everything else together moves the largest by 1e-5."""


DISTORTION_BOUNDS = {
    "resized": 2 * 2 * 44 * 2 * 299 * 2.0**-24,
    "jittered": 2 * 3000 * 1.2 * 2 * 2.0**-24,
}
"""How far bytes scaled to [-1, 1] may be from the reference's, by tests/kernels/triton_distortion_values.py: a place in
a window of up to 299 pixels a side is off by 44 (height + width) roundings, and a value changes by at most 2 a pixel in
each direction; the stages of jitter round 2,904 times, and a mean of 299 x 299 pixels 4 times more than there."""

PREPROCESSING = ("prepare", "preprocess_distorted", "moved_pixels")


@dataclass(frozen=True)
class Case:
    """One op at one shape.

    corruption, normalisation, dtype: of PREPROCESSING; dtype also of max_pool_gradient.
    target: share of the copy bandwidth.
    distortion: "resized" or "jittered", of `preprocess_distorted`, which also flips.
    """

    op: str
    batch: int
    size: int = 1
    channels: int = 1
    corruption: str = ""
    normalisation: str = "unit_range"
    dtype: torch.dtype = torch.bfloat16
    target: float | None = None
    distortion: str = ""

    @property
    def name(self) -> str:
        if self.op == "corrupt_labels":
            return f"{self.op} {self.batch}"
        shape = f"{self.batch}x{self.size}x{self.size}x{self.channels}"
        if self.op == "max_pool_gradient":
            return f"{self.op} {str(self.dtype)[6:]} {shape}"
        if self.op not in PREPROCESSING:
            return f"{self.op} {shape}"
        op = self.distortion or self.op
        return f"{op} {self.corruption or 'true'} {self.normalisation} {str(self.dtype)[6:]} {shape}"

    @property
    def elements(self) -> int:
        return self.batch * self.size * self.size * self.channels

    @property
    def bytes(self) -> int:
        """Read plus written, each once."""
        if self.op == "corrupt_labels":
            return self.batch * 3 * 8
        if self.op == "gaussian":
            return self.elements * 4
        if self.op == "max_pool_gradient":
            windows = self.batch * self.channels * ((self.size - 1) // 2) ** 2
            return self.elements * self.dtype.itemsize + windows * (1 + self.dtype.itemsize)
        if self.op in PREPROCESSING:
            return self.elements * ((self.corruption != "gaussian") + self.dtype.itemsize)
        return self.elements * 2

    @property
    def exact(self) -> bool:
        moved = self.op == "max_pool_gradient" or ("gaussian" not in (self.op, self.corruption) and not self.distortion)
        return moved and self.normalisation == "unit_range"

    @property
    def bound(self) -> tuple[float, float]:
        """Absolute and relative difference allowed from the reference."""
        if self.exact:
            return 0.0, 0.0
        if self.distortion:
            return DISTORTION_BOUNDS[self.distortion], 2.0**-7 if self.dtype == torch.bfloat16 else 2.0**-18
        if self.op == "gaussian":
            return NOISE_BOUND * STD, 2.0**-20
        # the images' deviation is 70 or more, and nothing is scaled by less; a cast may fall on the other neighbour
        return NOISE_BOUND * STD / 50, 2.0**-7 if self.dtype == torch.bfloat16 else 2.0**-18


def cases() -> list[Case]:
    """All of them, the issue's targets with those that have one."""
    out = []
    targets = {"": 0.85, "shuffled_pixels": 0.85, "gaussian": 0.85, "random_pixels": 0.6}
    for size in (299, 224):
        out += [Case("prepare", 128, size, 3, kind, target=target) for kind, target in targets.items()]
        out += [Case("moved_pixels", 128, size, 3, kind) for kind in ("shuffled_pixels", "random_pixels")]
    out += [Case("prepare", 128, 28, 3, kind, "whiten") for kind in targets]
    out.append(Case("prepare", 128, 224, 3, "", "whiten", torch.float32))
    out += [Case("preprocess_distorted", 128, 299, 3, distortion=name) for name in DISTORTION_BOUNDS]
    for size, channels in ((299, 3), (224, 3), (32, 3), (28, 1)):
        out += [Case(op, 128, size, channels) for op in ("random_pixels", "shuffled_pixels")]
    out += [Case("gaussian", 128, 299, 3), Case("corrupt_labels", 1_281_167)]
    for size, channels in ((147, 64), (71, 192), (35, 288), (28, 80)):
        out.append(Case("max_pool_gradient", 128, size, channels))
    out.append(Case("max_pool_gradient", 128, 28, 80, dtype=torch.float32))
    return out


def smaller(case: Case) -> Case:
    """The same with a few images, for comparing values."""
    return replace(case, batch=min(case.batch, 1025 if case.op == "corrupt_labels" else 3))


def arguments(case: Case, device: str) -> tuple:
    """What the op is called with: the same values on every device, the images of indices on both sides of 2^62."""
    generator = torch.Generator().manual_seed(1)
    index = torch.arange(case.batch) * 3 + 2**62 - 4
    if case.op == "corrupt_labels":
        return torch.arange(case.batch).to(device) % 1000, index.to(device), 1000, 0.5, SEED
    if case.op == "max_pool_gradient":
        windows = (case.batch, case.channels, *[(case.size - 1) // 2] * 2)
        gradient = torch.randn(windows, generator=generator).to(device, case.dtype, memory_format=torch.channels_last)
        offsets = torch.randint(0, 9, windows, dtype=torch.int8, generator=generator)
        return gradient, offsets.to(device, memory_format=torch.channels_last), case.size, case.size
    mean, std = torch.full((case.channels,), MEAN, device=device), torch.full((case.channels,), STD, device=device)
    if case.op == "gaussian":
        return index.to(device), case.size, case.size, mean, std, SEED
    shape = (case.batch, case.size, case.size, case.channels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    if case.op == "shuffled_pixels":
        return images, SEED
    if case.op == "random_pixels":
        return images, index.to(device), SEED
    rows = torch.arange(case.batch).flip(0).to(device)
    if case.op == "moved_pixels":
        return images, rows, index.to(device), case.corruption == "shuffled_pixels", SEED, case.dtype
    whole = [0, 0, case.size, case.size]
    stages: tuple = (False, False, False, None)
    if case.distortion:
        epoch = torch.tensor(3, device=device)
        stages = (False, True, False, case.distortion == "resized", case.distortion == "jittered", epoch)
    last = (*stages, case.normalisation, case.dtype)
    return images, rows, index.to(device), whole, case.corruption, SEED, mean, std, whole[2:], *last


def moved_pixels_reference(
    images: Tensor, rows: Tensor, index: Tensor, shared: bool, seed: int, dtype: torch.dtype
) -> Tensor:
    """What the op `moved_pixels` returns: `prepare` of whole images, as [B, H, W, 3]."""
    size, corruption = list(images.shape[1:3]), "shuffled_pixels" if shared else "random_pixels"
    given = images, rows, index, [0, 0, *size], corruption, seed, None, None, size
    return REFERENCES["prepare"](*given, False, False, False, None, "unit_range", dtype).permute(0, 2, 3, 1)


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "corrupt_labels": corrupt_labels_reference,
    "gaussian": gaussian_reference,
    "max_pool_gradient": max_pool_gradient_reference,
    "shuffled_pixels": shuffled_pixels_reference,
    "random_pixels": random_pixels_reference,
    "moved_pixels": moved_pixels_reference,
    "prepare": getattr(preprocess, "preprocess_reference", None) or preprocess.prepare_reference,  # type: ignore[attr-defined]
    "preprocess_distorted": getattr(preprocess, "preprocess_distorted_reference", None),  # type: ignore[dict-item]
}


def operator(case: Case) -> Callable[..., Tensor] | None:
    """The registered op, or None where this build has none."""
    return getattr(torch.ops.rethink_fast, case.op, None)


def difference(case: Case, out: Tensor, expected: Tensor) -> str:
    """Empty where `out` is as the reference says, else what is wrong."""
    if out.shape != expected.shape or out.dtype != expected.dtype or out.stride() != expected.stride():
        return f"{out.dtype} {list(out.shape)} {out.stride()} for {expected.dtype} {list(expected.shape)}"
    if case.exact:
        wrong = int((out != expected).sum())
        return f"{wrong} of {out.numel()} values differ" if wrong else ""
    absolute, relative = case.bound
    over = (out.double() - expected.double()).abs() - relative * expected.double().abs()
    worst = float(over.max())
    return "" if math.isfinite(worst) and worst <= absolute else f"off by {worst:.2e}, {absolute:.2e} allowed"
