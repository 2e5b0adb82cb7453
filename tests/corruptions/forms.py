"""One image, or one label, through CorruptedDataset."""

from __future__ import annotations

from typing import Any

import torch

from rethink_fast import CorruptedDataset

MODES: tuple[str, ...] = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"),
    *("I;16", "I;16B", "I;16L", "I;16N"),
)
TORCH_DTYPES: tuple[torch.dtype, ...] = (
    *(torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.bool, torch.float16),
    *(torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn),
)
MOVING = ("shuffled_pixels", "random_pixels")


def one(image: Any, kind: str = "random_pixels", seed: int = 0, **how: Any) -> Any:
    """The image as it comes out, its label staying what it is."""
    label = object()
    moved, kept = CorruptedDataset([(image, label)], kind, seed=seed, **how)[0]
    assert kept is label
    return moved


def drawn(label: Any, classes: int = 10, seed: int = 0) -> Any:
    image = object()
    kept, new = CorruptedDataset([(image, label)], "random_labels", seed=seed, num_classes=classes)[0]
    assert kept is image
    return new


class Picture(torch.Tensor):
    """As tv_tensors.Image is one."""
