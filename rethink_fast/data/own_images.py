"""The images of a data set given in Python: any map-style one, read item by item, in order, by worker processes."""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..corruptions.item_forms import IMAGE_KEYS, LABEL_KEYS, channels_last, class_of, is_pil, place_of
from ..errors import UserError
from .options import DataOptions

UINT8 = "give uint8 images (without ToTensor and Normalize: a run whitens each image itself)"


@dataclass(frozen=True)
class FailedItem:
    """What is wrong with an item, as a worker sends it. details: the traceback of the data set's own code, if any."""

    problem: str
    fix: str
    details: str = ""

    def error(self, name: str) -> UserError:
        """Return it as an error. name: of the data set."""
        error = UserError(f"{name}: {self.problem}", self.fix, option="data", value=name)
        error.__cause__ = RuntimeError(f"in a worker:\n{self.details}") if self.details else None
        return error


class PlainItems(TorchDataset[Any]):
    """The items of a map-style data set as (pixels uint8 [H, W, C], class), or a FailedItem.

    dataset: anything with len() and integer indexing, whose items are in one of the forms of CorruptedDataset.
    shape: what the pixels of every item must have; None allows any.
    """

    def __init__(self, dataset: Any, shape: tuple[int, int, int] | None = None) -> None:
        self.dataset, self.shape = dataset, shape

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int] | FailedItem:
        try:
            item = self.dataset[i]
            pixels = pixels_of(item[place_of(item, IMAGE_KEYS, 0)])
            label = class_of(item[place_of(item, LABEL_KEYS, 1)])
        except UserError as error:
            return FailedItem(f"item {i}: {error.problem}", error.fix)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return FailedItem(
                f"item {i} cannot be read ({reason})",
                "fix the data set; with workers=1 it is read in this process",
                traceback.format_exc(),
            )
        if not 0 <= label < 2**31:
            return FailedItem(f"item {i}: the label {label} is out of range", "number the classes from 0 on")
        if self.shape is not None and pixels.shape != self.shape:
            ours, first = (" x ".join(map(str, shape)) for shape in (pixels.shape, self.shape))
            return FailedItem(
                f"item {i}: the image has the shape {ours}, and the first one {first} (height x width x channels)",
                "resize or convert them to one shape",
            )
        return pixels, label


def pixels_of(image: Any) -> np.ndarray:
    """Return an image as uint8 [H, W, C]. Raises UserError for another dtype, or what is no image.

    image: a PIL image, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W].
    """
    if is_pil(image):
        if image.mode in ("1", "P", "PA"):
            raise UserError(f"an image of mode {image.mode} is not allowed", "convert it to RGB or L", value=image.mode)
        image = np.asarray(image)
    elif not isinstance(image, np.ndarray | Tensor):
        raise UserError(f"an image of type {type(image).__name__} is unknown", "give a PIL image, an array or a tensor")
    if image.dtype not in (np.uint8, torch.uint8):
        raise UserError(f"an image of {image.dtype} is not allowed", UINT8, value=str(image.dtype))
    pixels = channels_last(image)
    return pixels.cpu().numpy() if isinstance(pixels, Tensor) else np.asarray(pixels)


class OwnImages:
    """Images of a data set given in Python, read again in every epoch. Also yields the labels, by `read_items`.

    dataset: as PlainItems.
    name: of the data set, for errors.
    shape: height, width and channels of every image.
    options: workers and device are used. One worker is this process.
    """

    resident = False

    def __init__(self, dataset: Any, name: str, shape: tuple[int, int, int], options: DataOptions) -> None:
        self.shape = shape
        self._dataset, self._name, self._device = dataset, name, options.device
        self._length = len(dataset)
        self._batches = _Batches()
        processes = options.threads if options.threads > 1 else 0
        self._loader: DataLoader[Any] = DataLoader(
            PlainItems(dataset, shape),
            batch_sampler=self._batches,
            num_workers=processes,
            collate_fn=_stacked,
            pin_memory=self._device.type == "cuda",
            persistent_workers=processes > 0,
            worker_init_fn=_ignore_interrupts if processes else None,
            generator=torch.Generator(),  # else it would draw from torch's
        )

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and rows, as source.Images.read: a fresh tensor each time. A read ends the one before it."""
        for images, _ in self.read_items(batches):
            yield images, torch.arange(len(images), device=self._device)

    def read_items(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images uint8 [B, H, W, C] on the device, and their true classes int64 [B] on the CPU, in order.

        batches: int64 [B] on the CPU, the samples of each.
        Raises UserError that names the item which is not as it must be.
        """
        self.check_length()
        self._batches.batches = batches
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Got pickle error")  # the error below says it
                parts = iter(self._loader)
        except (PicklingError, AttributeError, TypeError) as error:  # of Python 3.14 on, or of set_start_method
            raise UserError(
                f"{self._name} cannot be sent to the processes that read it ({' '.join(str(error).split())[:200]})",
                "define what it uses at the top level of a module, or read in this process by workers=1",
                option="workers",
                value=self._loader.num_workers,
            ) from None
        while (part := self._next(parts)) is not None:
            images, labels = part
            yield images.to(self._device, non_blocking=True), labels

    def end_workers(self) -> None:
        """End the processes that read; a read after that starts others.

        An error keeps its loader alive until the garbage collector finds it. That may close the pipe of a worker that
        has had no batch yet, and torch then asks the worker to end through a descriptor that is another file's by now.
        """
        workers, self._loader._iterator = self._loader._iterator, None
        if workers is not None:
            workers._shutdown_workers()  # type: ignore[attr-defined]  # DataLoader has no public method for it

    def check_length(self) -> None:
        """Raise UserError where the data set no longer has as many items as at first."""
        if len(self._dataset) != self._length:
            raise UserError(
                f"{self._name} had {self._length} items and has {len(self._dataset)} now",
                "give a data set of a fixed length",
                option="data",
            )

    def _next(self, parts: Iterator[Any]) -> tuple[Tensor, Tensor] | None:
        try:
            part = next(parts, None)
        except RuntimeError as error:
            ended = ended_worker(error)
            if ended is None:
                raise
            raise ended from None
        if isinstance(part, FailedItem):
            raise part.error(self._name)
        return None if part is None else (part[0], part[1])


def ended_worker(error: Exception) -> UserError | None:
    """Return the UserError for torch's error about a worker that ended; None for any other error.

    torch raises it by a signal, wherever the process is.
    """
    if not str(error).startswith("DataLoader worker"):
        return None
    return UserError(
        f"a process that reads the data set ended ({str(error).splitlines()[0][:200]})",
        "use fewer workers, which takes less memory, or workers=1 to read in this process",
        option="workers",
    )


class _Batches:
    """The batches of the read in progress, as DataLoader asks for them."""

    batches: Iterable[Tensor] = ()

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch.tolist()


def _stacked(items: list[tuple[np.ndarray, int] | FailedItem]) -> tuple[Tensor, Tensor] | FailedItem:
    plain = []
    for item in items:
        if isinstance(item, FailedItem):
            return item
        plain.append(item)
    images, labels = zip(*plain, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _ignore_interrupts(_: int) -> None:
    # Ctrl-C reaches every process of a terminal; the run ends its workers once it has written its checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
