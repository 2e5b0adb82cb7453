"""What every backend refuses, in the same words: one ValueError, the value and what is allowed.

The public functions call these before the op. Shapes and dtypes cost a microsecond or two. Values are looked at on the
CPU only, and not while torch.compile traces: elsewhere that would wait for the device or break the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import rng

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _readable(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() > 0 and not torch.compiler.is_compiling()


def check_index(index: Tensor, batch: int, device: torch.device) -> Tensor:
    """Return `index` as int64 if it has one integer in [0, 2^63) for each of `batch` samples, on this device."""
    _check_places(index, batch, device, "index")
    if _readable(index) and (least := int(index.min())) < 0:
        raise ValueError(f"index {least} is out of range: choose one in [0, 2^63)")
    return index.to(torch.int64)


def check_rows(rows: Tensor, images: Tensor) -> Tensor:
    """Return `rows` as int64 if each is a row of `images`, on the same device."""
    _check_places(rows, rows.numel(), images.device, "rows")
    if _readable(rows):
        least, most = (int(value) for value in rows.aminmax())
        if least < 0 or most >= len(images):
            outside = least if least < 0 else most
            raise ValueError(f"row {outside} is out of range: choose one in [0, {len(images)}), the images given")
    return rows.to(torch.int64)


def _check_places(index: Tensor, batch: int, device: torch.device, name: str) -> None:
    if index.dtype not in INTEGERS:
        raise ValueError(f"{name} must hold integers, not {index.dtype}")
    if index.dim() != 1 or len(index) != batch:
        raise ValueError(
            f"{name} of shape {list(index.shape)} does not fit: give one entry for each of {batch} samples"
        )
    if index.device != device:
        raise ValueError(f"{name} is on {index.device}: move it to {device}, where the samples are")


def check_images(images: Tensor) -> Tensor:
    """Return `images` if it is [B, H, W, C] with at least one pixel and channel, and at most 2^31 pixels."""
    if images.dim() != 4 or min(images.shape[1:]) < 1:
        raise ValueError(
            f"images of shape {list(images.shape)} are not allowed: give [B, H, W, C], H, W and C 1 or more"
        )
    if images.shape[1] * images.shape[2] > 2**31:
        raise ValueError(f"images of {images.shape[1]} x {images.shape[2]} pixels are too large: 2^31 is the most")
    return images


def check_labels(labels: Tensor) -> Tensor:
    """Return `labels` if it is int64 [B]."""
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(f"labels of {labels.dtype} {list(labels.shape)} are not allowed: give int64 [B]")
    return labels


def check_classes(num_classes: int) -> int:
    """Return `num_classes` if it is in [1, 2^31]."""
    if not 1 <= num_classes <= 2**31:
        raise ValueError(f"num_classes {num_classes} is out of range: choose one in [1, 2^31]")
    return num_classes


def check_epoch(epoch: int) -> int:
    """Return `epoch` if it is in [0, 2^63)."""
    if not 0 <= epoch <= rng.LARGEST:
        raise ValueError(f"epoch {epoch} is out of range: choose one in [0, 2^63)")
    return epoch


def check_probability(probability: float) -> float:
    """Return `probability` as a float if it is in [0, 1]."""
    rng.threshold(probability)
    return float(probability)


def check_statistics(statistics: Tensor, channels: int, device: torch.device, name: str) -> Tensor:
    """Return mean or std as float32 if it has one number for each channel, on this device."""
    if not statistics.is_floating_point() or list(statistics.shape) != [channels]:
        raise ValueError(
            f"{name} of {statistics.dtype} {list(statistics.shape)} does not fit: give one float for each of "
            f"{channels} channels"
        )
    if statistics.device != device:
        raise ValueError(f"{name} is on {statistics.device}: move it to {device}, where the samples are")
    return statistics.to(torch.float32)
