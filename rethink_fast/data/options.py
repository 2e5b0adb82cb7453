"""How a data set is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ..env import cores
from ..errors import UserError, in_range, one_of
from .dali import CROP
from .source import Progress

CPU = torch.device("cpu")
OnDecodeError = Literal["raise", "skip"]
CacheImages = Literal["auto", "device", "none"]


@dataclass(frozen=True)
class DataOptions:
    """How a data set is opened; the defaults open all of it for a network without augmentation.

    path: a folder or file; "auto" looks in the usual places, else takes the synthetic set and says so in
        Dataset.notes; or "synthetic".
    size: height and width of the network's input, in pixels, to which imagenet is resized. None: 299.
    max_samples: open at most so many samples of each split. None: all.
    on_decode_error: "raise", or "skip" images that cannot be decoded, which Dataset then lists.
    cache_images: "device" decodes images once and keeps them in the device's memory, "none" decodes them again in every
        epoch, "auto" decides by the free memory.
    device: where images go.
    workers: threads that read and decode. None: the number of cores.
    processes: how many processes share the host's memory.
    crop_margin: deliver imagenet images as large as a random crop of `size` needs, round(size / 0.875).
    random_windows: whether random windows of the training images will be asked for, which are decoded from their files
        where that is possible.
    download: where nothing is found, download the official files.
    progress: called with (what, done, total).
    Raises UserError for a value that is not allowed.
    """

    path: str = "auto"
    size: int | None = None
    max_samples: int | None = None
    on_decode_error: OnDecodeError = "raise"
    cache_images: CacheImages = "auto"
    device: torch.device = CPU
    workers: int | None = None
    processes: int = 1
    crop_margin: bool = False
    random_windows: bool = False
    download: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        one_of("on_decode_error", self.on_decode_error, ("raise", "skip"))
        one_of("cache_images", self.cache_images, ("auto", "device", "none"))
        for name, value in (("max_samples", self.max_samples), ("size", self.size), ("workers", self.workers)):
            if value is not None:
                in_range(name, value, 1, 2**31)
        if self.download and self.path != "auto":
            problem = "--download puts the files where --data auto finds them"
            raise UserError(problem, f"omit --data {self.path}", option="--data", value=self.path, allowed="auto")

    @property
    def threads(self) -> int:
        """Threads that read and decode."""
        return self.workers or cores()

    @property
    def input_size(self) -> int:
        """Height and width of an imagenet input."""
        return self.size or 299

    @property
    def image_size(self) -> int:
        """Height and width that imagenet images are delivered at."""
        return round(self.input_size / CROP) if self.crop_margin else self.input_size
