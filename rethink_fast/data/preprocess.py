"""From stored bytes to network input: the order of the stages, written once.

    gather -> fixed crop -> corruption -> random crop, or resized crop -> flip -> rotation -> colour -> whitening
           -> cast, channels_last

Corruption comes before anything random and sees only (image, index, seed, statistics). The op `prepare` does all
but the resized crop and the colour; `preprocess_distorted` does these as well, in plain torch on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kernels, rng
from ..augment import (
    center_window,
    color_jitter,
    fixed_crop,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
    unit_range,
    whiten,
)
from ..corruptions import PIXEL_KINDS
from ..corruptions.gaussian import gaussian_reference
from ..corruptions.random_pixels import random_pixels_reference
from ..corruptions.shuffled_pixels import shuffled_pixels_reference
from ..kernels.checks import check_epoch, check_images, check_index, check_rows, check_statistics

NORMALISATIONS = ("whiten", "unit_range")
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Preprocessing:
    """Everything `preprocess` must know, the same for a whole run.

    window: (top, left, height, width) of the fixed crop.
    corruption: one of PIXEL_KINDS, or "" for none.
    size: height and width of the network input.
    random_resized_crop: whether a random window is resized, instead of the centre window of that size.
    normalisation: "whiten" or "unit_range".
    mean, std: float32 [C] in pixel units, for gaussian.
    dtype: torch.float32 or torch.bfloat16.
    Raises ValueError for what is none of these.
    """

    window: tuple[int, int, int, int]
    corruption: str
    seed: int
    size: tuple[int, int]
    crop: bool = False
    flip: bool = False
    rotation: bool = False
    random_resized_crop: bool = False
    color_jitter: bool = False
    normalisation: str = "whiten"
    mean: Tensor | None = None
    std: Tensor | None = None
    dtype: torch.dtype = torch.float32

    @property
    def distorts(self) -> bool:
        """Whether training batches go through `preprocess_distorted` instead of `prepare`."""
        return self.random_resized_crop or self.color_jitter

    def __post_init__(self) -> None:
        rng.check_seed(self.seed)
        for what, value, allowed in (
            ("corruption", self.corruption, ("", *PIXEL_KINDS)),
            ("normalisation", self.normalisation, NORMALISATIONS),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in allowed:
                raise ValueError(f"{what} {value!r} is unknown: choose one of {', '.join(map(repr, allowed))}")
        top, left, height, width = self.window
        if min(top, left) < 0 or min(height, width) < 1:
            raise ValueError(
                f"window {self.window} is out of range: give top and left 0 or more, height and width 1 or more"
            )
        if not (1 <= self.size[0] <= height and 1 <= self.size[1] <= width):
            raise ValueError(
                f"size {self.size} is out of range: choose one from 1 x 1 to the window's {height} x {width}"
            )
        if self.corruption == "gaussian" and (self.mean is None or self.std is None):
            raise ValueError("gaussian needs the mean and std of the training set, one float for each channel")


def preprocess(
    images: Tensor, rows: Tensor, index: Tensor, preprocessing: Preprocessing, *, epoch: int | Tensor | None
) -> Tensor:
    """Return the network input for the samples `index`: preprocessing.dtype [B, C, *preprocessing.size], channels_last.

    images: uint8 [M, H, W, C].
    rows: int64 [B], where each sample is stored in `images`.
    index: int64 [B], the permanent sample index.
    epoch: keys the random augmentation; None omits it (evaluation), and a crop is then the center crop. A captured or
        compiled graph keeps an int as a constant, but reads a tensor, int64 [], each time it runs.
    Raises ValueError for what does not fit.
    """
    height, width, channels = check_images(images).shape[1:]
    if images.dtype != torch.uint8:
        raise ValueError(f"images of {images.dtype} are not allowed: give uint8")
    top, left = preprocessing.window[0], preprocessing.window[1]
    if top + preprocessing.window[2] > height or left + preprocessing.window[3] > width:
        raise ValueError(f"window {preprocessing.window} is out of range: it must lie in images of {height} x {width}")
    if preprocessing.color_jitter and channels != 3:
        raise ValueError(f"color_jitter needs images of 3 channels, not {channels}")
    rows = check_rows(rows, images)
    index = check_index(index, len(rows), images.device)
    mean = std = None
    if preprocessing.corruption == "gaussian" and preprocessing.mean is not None and preprocessing.std is not None:
        mean = check_statistics(preprocessing.mean, channels, images.device, "mean")
        std = check_statistics(preprocessing.std, channels, images.device, "std")
    arguments = (
        images,
        rows,
        index,
        preprocessing.window,
        preprocessing.corruption,
        preprocessing.seed,
        mean,
        std,
        preprocessing.size,
        preprocessing.crop,
        preprocessing.flip,
        preprocessing.rotation,
    )
    now, last = _epoch_on(images.device, epoch), (preprocessing.normalisation, preprocessing.dtype)
    if now is None or not preprocessing.distorts:
        return torch.ops.rethink_fast.prepare(*arguments, now, *last)
    distortion = preprocessing.random_resized_crop, preprocessing.color_jitter
    return torch.ops.rethink_fast.preprocess_distorted(*arguments, *distortion, now, *last)


def _network_input(x: Tensor, normalisation: str, dtype: torch.dtype) -> Tensor:
    """The last stages: pixels [B, H, W, C] to [B, C, H, W] of this type, channels_last."""
    x = whiten(x) if normalisation == "whiten" else unit_range(x)
    return x.to(dtype).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _epoch_on(device: torch.device, epoch: int | Tensor | None) -> Tensor | None:
    """The epoch as the op takes it. A tensor's value is not looked at: that would wait for the device."""
    if epoch is None:
        return None
    if not isinstance(epoch, Tensor):
        # filled in on the device, where a copy from the host would wait
        return torch.full((), check_epoch(epoch), dtype=torch.int64, device=device)
    if epoch.dtype != torch.int64 or epoch.dim() != 0:
        raise ValueError(f"epoch of {epoch.dtype} {list(epoch.shape)} is not allowed: give an int or int64 []")
    if epoch.device != device:
        raise ValueError(f"epoch is on {epoch.device}: move it to {device}, where the samples are")
    return epoch


@kernels.reference("prepare")
def preprocess_reference(
    images: Tensor,
    rows: Tensor,
    index: Tensor,
    window: list[int],
    corruption: str,
    seed: int,
    mean: Tensor | None,
    std: Tensor | None,
    size: list[int],
    crop: bool,
    flip: bool,
    rotation: bool,
    epoch: Tensor | None,
    normalisation: str,
    dtype: torch.dtype,
) -> Tensor:
    """Return what the op `prepare` returns, stage by stage in plain torch."""
    now = None if epoch is None else check_epoch(int(epoch))
    top, left, height, width = window
    x = fixed_crop(images[rows], (top, left, height, width))
    if corruption == "shuffled_pixels":
        x = shuffled_pixels_reference(x, seed)
    elif corruption == "random_pixels":
        x = random_pixels_reference(x, index, seed)
    elif corruption == "gaussian":
        if mean is None or std is None:
            raise ValueError("gaussian needs the mean and std of the training set")
        x = gaussian_reference(index, height, width, mean, std, seed)
    if (height, width) != (size[0], size[1]):
        if crop and now is not None:
            x = random_crop(x, index, (size[0], size[1]), seed=seed, epoch=now)
        else:
            x = fixed_crop(x, center_window(height, width, (size[0], size[1])))
    if flip and now is not None:
        x = random_flip(x, index, seed=seed, epoch=now)
    if rotation and now is not None:
        x = random_rotation(x, index, seed=seed, epoch=now)
    return _network_input(x, normalisation, dtype)


@kernels.reference("preprocess_distorted")
def preprocess_distorted_reference(
    images: Tensor,
    rows: Tensor,
    index: Tensor,
    window: list[int],
    corruption: str,
    seed: int,
    mean: Tensor | None,
    std: Tensor | None,
    size: list[int],
    crop: bool,
    flip: bool,
    rotation: bool,
    resized: bool,
    jitter: bool,
    epoch: Tensor,
    normalisation: str,
    dtype: torch.dtype,
) -> Tensor:
    """Return what the op `preprocess_distorted` returns: `prepare` as far as it goes, and the rest in plain torch."""
    # what follows a resized crop cannot come before it
    stages = (False, False, False) if resized else (crop, flip, rotation)
    given = images, rows, index, window, corruption, seed, mean, std, size
    scaled = torch.ops.rethink_fast.prepare(*given, *stages, epoch, "unit_range", torch.float32)
    x = (scaled.permute(0, 2, 3, 1) + 1.0) * 127.5
    if resized:
        x = random_resized_crop(x, index, seed=seed, epoch=epoch)
        if flip:
            x = random_flip(x, index, seed=seed, epoch=epoch)
        if rotation:
            x = random_rotation(x, index, seed=seed, epoch=epoch)
    if jitter:
        x = color_jitter(x, index, seed=seed, epoch=epoch)
    return _network_input(x, normalisation, dtype)
