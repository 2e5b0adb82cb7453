"""The forms in which samples of people's datasets come, and the same form again after a change."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_KEYS = ("image", "img", "pixel_values")
LABEL_KEYS = ("label", "labels", "fine_label")
PLAIN_ARRAYS = (np.ndarray, np.memmap)

Move = Callable[[Tensor], Tensor]
"""Moves the pixels of an image: uint8 [1, H, W, K] to uint8 [1, H, W, K], K bytes being one pixel."""


def place_of(item: Any, keys: Sequence[str], position: int) -> Any:
    """Return where an item holds its image or its label: a key of a mapping, or an index.

    item: a sample.
    keys: the names it may have in a mapping or a namedtuple.
    position: where it is in other tuples and lists.
    Raises UserError for an item without it, or with two of these names.
    """
    named = isinstance(item, Mapping)
    names = list(item) if named else list(getattr(item, "_fields", ()))
    known = [key for key in keys if key in names]
    if len(known) > 1:
        raise UserError(f"an item with both {known[0]!r} and {known[1]!r} is ambiguous", "keep one of them")
    if named and not known:
        raise UserError(
            f"an item of keys {', '.join(map(repr, names))} is unknown",
            f"name one of them {', '.join(keys)}",
            value=tuple(names),
            allowed=tuple(keys),
        )
    if known:
        return known[0] if named else names.index(known[0])
    if not isinstance(item, tuple | list):
        raise UserError(f"an item of type {_name(item)} is unknown", "give (image, label, ...) or a dict")
    if len(item) <= position:
        raise UserError(f"an item of {len(item)} elements is unknown", "give (image, label, ...)")
    return position


def replaced(item: Any, place: Any, value: Any) -> Any:
    """Return a copy of an item, of the same type and with the same other elements, with `value` at `place`.

    place: from `place_of`.
    Raises UserError for a mapping that cannot be copied or changed.
    """
    if isinstance(item, tuple):
        make = getattr(type(item), "_make", type(item))
        return make([value if k == place else element for k, element in enumerate(item)])
    try:
        changed = copy.copy(item)
        changed[place] = value
    except TypeError:
        raise UserError(f"an item of type {_name(item)} cannot be changed", "give a dict") from None
    return changed


def class_of(label: Any) -> int:
    """Return the class number that a label holds: an integer, a whole float, or an array or tensor of one such number.

    Raises UserError for anything else.
    """
    if isinstance(label, np.ndarray | Tensor) and np.prod(label.shape) != 1:
        raise UserError(
            f"a label of shape {tuple(label.shape)} is unknown", "give the number of the class, not one-hot"
        )
    number: object = label
    if isinstance(label, np.ndarray | np.generic):
        number = None
        if label.dtype.kind in "biuf" and (isinstance(label, np.generic) or type(label) in PLAIN_ARRAYS):
            number = float(label.item()) if label.dtype.kind == "f" else int(label.item())
    elif isinstance(label, Tensor):
        number = label.item()
    if not isinstance(number, int | float):
        raise UserError(f"a label of {_form(label)} is unknown", "give the number of the class")
    if isinstance(number, float) and not number.is_integer():
        raise UserError(f"the label {number} is not a whole number", "give the number of the class", value=number)
    return int(number)


def label_like(label: Any, number: int) -> Any:
    """Return this class number in the form, type, dtype and shape of `label`, or raise UserError."""
    result: Any = None
    try:
        if isinstance(label, Tensor):
            result = _typed_as(torch.full_like(_plain(label), number), label)
        elif isinstance(label, np.ndarray):
            result = np.full_like(label, number, subok=False)
        else:
            result = type(label)(number)
        fits = class_of(result) == number
    except (ValueError, TypeError, OverflowError, RuntimeError):
        fits = False
    if not fits:
        raise UserError(f"a label of {_form(label)} cannot hold the class {number}", "give labels as int", value=number)
    return result


def moved(image: Any, move: Move) -> Any:
    """Return the image with its pixels moved, in the form of the old one: type, dtype, strides, mode, palette, info.

    image: a PIL image of any mode, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W].
    move: as `Move`.
    Raises UserError for another form.
    """
    if isinstance(image, Tensor):
        pixels = channels_last(image).clone(memory_format=torch.contiguous_format)  # also resolves conj and neg
        return _in_layout(move(pixels.view(torch.uint8).unsqueeze(0))[0].view(pixels.dtype), image)
    if isinstance(image, np.ndarray):
        height, width, _ = channels_last(image).shape
        result = np.empty_like(image, subok=False)
        result[...] = _moved_bytes(image.tobytes(), height, width, move).view(image.dtype).reshape(image.shape)
        return result
    width, height = _pil(image).size
    content = image.tobytes()
    if image.mode == "1":  # eight pixels in a byte
        bits = np.unpackbits(np.frombuffer(content, np.uint8).reshape(height, -1), axis=1)[:, :width]
        bits = _moved_bytes(bits.tobytes(), height, width, move).reshape(height, width)
        content = np.packbits(bits, axis=1).tobytes()
    else:
        content = _moved_bytes(content, height, width, move).tobytes()
    moved_image = image.copy()
    moved_image.frombytes(content)
    return moved_image


def shape_of(image: Any) -> tuple[int, int, int]:
    """Return height, width and channels of an image. Raises UserError, also for PIL modes whose numbers are indices."""
    if isinstance(image, Tensor | np.ndarray):
        height, width, channels = channels_last(image).shape
        return height, width, channels
    if _pil(image).mode in ("1", "P", "PA"):
        raise UserError(
            f"gaussian draws a value for each channel, and mode {image.mode} has none",
            "convert to RGB or L",
            value=image.mode,
        )
    return image.height, image.width, len(image.getbands())


def values_like(image: Any, values: Tensor) -> Any:
    """Return values as an array or tensor in the axes of an image; for a PIL image as an array [H, W, C].

    image: in one of the forms of `moved`.
    values: float32 [H, W, C].
    """
    if isinstance(image, Tensor):
        return _in_layout(values, image)
    return values.numpy().reshape(image.shape) if isinstance(image, np.ndarray) else values.numpy()


def is_pil(image: Any) -> bool:
    """Return whether an image is one of Pillow's; where Pillow is not imported, none is."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _pil(image: Any) -> Image.Image:
    if not is_pil(image):
        raise UserError(f"an image of type {_name(image)} is unknown", "give a PIL image, an array or a tensor")
    if 0 in image.size:
        raise UserError(
            f"an image of {image.width}x{image.height} pixels is unknown", "give at least one pixel", value=image.size
        )
    return image


def channels_last(image: Any) -> Any:
    """Return a view [H, W, C] of an array or a tensor that is an image. Raises UserError."""
    tensor, shape = isinstance(image, Tensor), tuple(image.shape)
    order = "[H, W] or [C, H, W]" if tensor else "[H, W] or [H, W, C]"
    if tensor:
        known = image.layout == torch.strided
    else:
        known = type(image) in PLAIN_ARRAYS and image.dtype.kind in "biufcV" and not image.dtype.hasobject
    if not known:
        raise UserError(f"an image of {_form(image)} is unknown", "give plain dense numbers")
    if len(shape) not in (2, 3) or 0 in shape:
        raise UserError(
            f"an image of type {_name(image)}, shape {shape} is unknown",
            f"give {order}, none of them 0",
            value=shape,
            allowed=order,
        )
    if len(shape) == 3 and shape[0 if tensor else 2] > 4 >= shape[2 if tensor else 0]:
        raise UserError(
            f"an image of type {_name(image)}, shape {shape} has its channels elsewhere",
            f"give {order}",
            value=shape,
            allowed=order,
        )
    if not tensor:
        return np.asarray(image).reshape(*shape[:2], -1)
    plain = _plain(image)
    return plain.permute(1, 2, 0) if len(shape) == 3 else plain.unsqueeze(2)


def _moved_bytes(content: bytes, height: int, width: int, move: Move) -> np.ndarray:
    """Return the bytes of an image whose pixels are stored row by row, moved: uint8, flat."""
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return move(pixels.view(1, height, width, -1)).flatten().numpy()


def _in_layout(values: Tensor, image: Tensor) -> Tensor:
    """Return values [H, W, C] with the axes, the strides, the class and the requires_grad of `image`."""
    result = torch.empty_like(_plain(image), dtype=values.dtype)
    result.copy_(values.permute(2, 0, 1) if image.ndim == 3 else values.squeeze(2))
    return _typed_as(result, image)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().as_subclass(Tensor)


def _typed_as(result: Tensor, original: Tensor) -> Tensor:
    if type(original) is not Tensor:
        result = result.as_subclass(type(original))
    return result.requires_grad_(original.requires_grad)


def _form(value: Any) -> str:
    return f"type {_name(value)}" + (f" and dtype {value.dtype}" if isinstance(value, np.ndarray | Tensor) else "")


def _name(value: Any) -> str:
    return type(value).__name__
