"""What a run does to the stored images, from its options and the data set."""

from __future__ import annotations

import torch

from ..augment import center_window
from ..config import Run
from ..corruptions import KINDS, PIXEL_KINDS
from ..data import Dataset
from ..data.loader import pixel_statistics
from ..data.preprocess import Preprocessing
from ..data.source import SupportsCrops
from ..defaults import ResolvedRun, defaults
from ..errors import UserError


def wants_windows(run: Run | ResolvedRun) -> bool:
    """Return whether a resized crop's windows may come from the source: not where pixels are corrupted first."""
    return "random-resized-crop" in run.train.augment and KINDS[run.corruption.corruption] not in PIXEL_KINDS


def source_crops(run: ResolvedRun, dataset: Dataset) -> bool:
    """Return whether the source decodes nothing but the windows of a resized crop."""
    return wants_windows(run) and isinstance(dataset.train.images, SupportsCrops)


def make_preprocessing(run: ResolvedRun, dataset: Dataset, device: torch.device) -> Preprocessing:
    """Return what is done to the stored images. Raises UserError where the data does not fit the options."""
    height, width, channels = dataset.train.images.shape
    size = run.data.size
    if size > min(height, width):
        problem = f"--size {size} is larger than the images of {dataset.data_source}, {height} x {width}"
        fix = f"choose at most {min(height, width)}"
        raise UserError(problem, fix, option="--size", value=size, allowed=f"at most {min(height, width)}")
    crop = "crop" in run.train.augment
    if crop and size == height == width:
        problem = f"--augment crop has no room: the images of {dataset.data_source} are {height} x {width}"
        raise UserError(problem, "choose a --size below that", option="--augment", value="crop")
    if "color-jitter" in run.train.augment and channels != 3:
        raise UserError(
            f"--augment color-jitter needs images of red, green and blue: "
            f"those of {dataset.data_source} have {channels} channel(s)",
            "omit it",
            option="--augment",
            value="color-jitter",
        )
    kind = KINDS[run.corruption.corruption]
    mean, std = pixel_statistics(dataset.train, device) if kind == "gaussian" else (None, None)
    return Preprocessing(
        window=(0, 0, height, width) if crop else center_window(height, width, (size, size)),
        corruption=kind if kind in PIXEL_KINDS else "",
        seed=run.corruption.seed,
        size=(size, size),
        crop=crop,
        flip="flip" in run.train.augment,
        rotation="rotation" in run.train.augment,
        random_resized_crop="random-resized-crop" in run.train.augment and not source_crops(run, dataset),
        color_jitter="color-jitter" in run.train.augment,
        normalisation=defaults(run.dataset, on_gpu=device.type == "cuda").normalisation,
        mean=mean,
        std=std,
        dtype=torch.bfloat16 if run.train.precision == "bf16" else torch.float32,
    )
