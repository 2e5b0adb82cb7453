"""Where decoded images stay: on the device, decoded once, or nowhere, decoded or copied again for every epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..env import free_memory
from ..errors import UserError
from ..text import format_bytes
from .npy_images import MemmapImages
from .options import CacheImages, DataOptions
from .source import Dataset, InMemoryImages, Progress, Split, SupportsCrops

MAX_CACHE_FRACTION = 0.5
"""Of the free memory, what images may take: the network, its activations and the batches in hand need the rest."""
DECODED_AT_ONCE = 256


@dataclass(frozen=True)
class CachePlan:
    """Whether the images stay, and why. bytes: of all of them, decoded."""

    stay: bool
    bytes: int
    reason: str

    def __str__(self) -> str:
        return f"{'stay in memory' if self.stay else 'stream'}, {format_bytes(self.bytes)} decoded: {self.reason}"


def plan(choice: CacheImages, needed: int, free: int, device: torch.device) -> CachePlan:
    """Return whether images stay in memory.

    choice: the option: "auto", "device" or "none".
    needed: bytes of the decoded images.
    free: bytes of free memory on the device.
    Raises UserError where "device" does not fit.
    """
    where = f"{format_bytes(free)} free on {'the CPU' if device.type == 'cpu' else device}"
    if choice == "none":
        return CachePlan(False, needed, "as asked for")
    if choice == "device":
        if needed > free:
            problem = f"--cache-images device needs {format_bytes(needed)}, and there are {where}"
            fix = "use --cache-images none, or a smaller --max-samples"
            raise UserError(problem, fix, option="--cache-images", value="device", allowed="none")
        return CachePlan(True, needed, f"as asked for, {where}")
    fits = needed <= MAX_CACHE_FRACTION * free
    return CachePlan(fits, needed, f"{'at most' if fits else 'more than'} half of {where}")


def plan_for(options: DataOptions, needed: int) -> CachePlan:
    """Return whether images stay in memory, by what is free now. needed: bytes. Raises UserError, as `plan`."""
    device, free = options.device, free_memory(options.device) or 0
    return plan(options.cache_images, needed, free if device.type == "cuda" else free // options.processes, device)


def cache_images(dataset: Dataset, options: DataOptions) -> tuple[Dataset, CachePlan | None]:
    """Return the data set with its images where they stay, and the plan; None where the source leaves no choice.

    A set that its reader decodes to the device stays there. One that is read by random windows does not, where the
    source can decode a window alone: the pixels must not depend on the free memory. The processes that share the host's
    memory each hold all of the images; a GPU belongs to one process.
    Raises UserError.
    """
    choice, device, progress = options.cache_images, options.device, options.progress
    splits = [split for split in (dataset.train, dataset.test) if split is not None]
    needed = sum(len(split.index) * int(np.prod(split.images.shape)) for split in splits)
    if isinstance(dataset.train.images, MemmapImages) and choice != "device":
        return dataset, CachePlan(False, needed, "memory-mapped, and kept in memory by the system")
    if dataset.train.images.resident and not isinstance(dataset.train.images, MemmapImages):
        if choice == "none":
            raise UserError(
                f"--cache-images none has no effect with {dataset.data_source}, which is decoded when it is opened",
                "omit it, or pack the images and name the pack",
                option="--cache-images",
                value="none",
            )
        return dataset, None
    if options.random_windows and isinstance(dataset.train.images, SupportsCrops):
        if choice == "device":
            raise UserError(
                "--cache-images device has no effect with --augment random-resized-crop, which decodes another "
                "window of each image for every epoch",
                "omit one of them",
                option="--cache-images",
                value="device",
            )
        return dataset, CachePlan(False, needed, "a window of each image is decoded again for every epoch")
    cache_plan = plan_for(options, needed)
    if cache_plan.stay:
        train = _decoded(dataset.train, "training", device, progress)
        test = _decoded(dataset.test, "test", device, progress) if dataset.test is not None else None
        dataset = replace(dataset, train=train, test=test)
    return dataset, cache_plan


def _decoded(split: Split, what: str, device: torch.device, progress: Progress | None) -> Split:
    """The split with every image that takes part decoded once, on the device."""
    held = torch.empty((len(split.index), *split.images.shape), dtype=torch.uint8, device=device)
    done = 0
    for images, rows in split.images.read(split.index.split(DECODED_AT_ONCE)):
        held[done : done + len(rows)] = images[rows]
        done += len(rows)
        if progress is not None:
            progress(f"decoding {what} images, once", done, len(held))
    all_held = len(held) == len(split.labels)
    return replace(split, images=InMemoryImages(held, device, None if all_held else split.index))
