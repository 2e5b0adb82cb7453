"""Decoded images in a .npy, by memory map: directly on a CPU, to a GPU through pinned memory.

CPU    .npy (the system's page cache)  ->  rows of it, gathered by the preprocessing itself: no copy is made
GPU    .npy  ->  gather  ->  pinned buffer  ->  copy on a second stream  ->  fresh batch on the device
"""

from __future__ import annotations

import itertools
import mmap
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import bad_path, unreadable
from ..files import open_regular
from ..stages import stage
from .source import Images, InMemoryImages

PACK_AGAIN = "pack the images again"
RESTORE = f"restore it or {PACK_AGAIN}"

AHEAD = 2
"""Batches that are asked of the disk, or on their way to the device, before they are wanted."""


def load_npy(path: Path) -> np.memmap:
    """Return a .npy of uint8 [N, H, W, C] by memory map. Raises UserError where it is no such file, or truncated."""
    try:
        with open_regular(path) as file:  # open_memmap would wait for a fifo
            size = os.fstat(file.fileno()).st_size
        images = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise unreadable(path, error, RESTORE) from None
    except Exception as error:  # a damaged header raises anything, from Python's tokenizer too
        raise bad_path(path, f"is damaged, or no .npy file ({' '.join(str(error).split())[:200]})", RESTORE) from None
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or 0 in shape or not images.flags.c_contiguous:
        raise bad_path(path, f"holds {images.dtype} {shape}, not uint8 (N, H, W, C)", PACK_AGAIN)
    if size != images.offset + images.nbytes:
        raise bad_path(path, f"has {size} bytes for {shape}", PACK_AGAIN)
    return images


class MappedFile:
    """A .npy of uint8 [N, H, W, C] in the process's address space; the system reads what is touched.

    images: the whole of it as a tensor, never to be written to. Raises UserError where it is no such file.
    """

    def __init__(self, path: Path) -> None:
        images = load_npy(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.images = torch.from_numpy(images)
        self._map: Any = images.base
        self._start = images.offset % mmap.ALLOCATIONGRANULARITY
        self._row = images[0].nbytes
        self._fits_in_memory = images.nbytes <= os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 2
        self._prefetched = torch.zeros(len(images), dtype=torch.bool)

    def prefetch(self, index: Tensor) -> None:
        """Ask the system to read these rows, without waiting. index: int64 [B].

        Of a file that memory has room for, once: the asking takes half as long as the copying of rows that are there.
        """
        if self._fits_in_memory:
            index = index[~self._prefetched[index]]
            self._prefetched[index] = True
        for row in index.tolist():
            first = self._start + row * self._row
            page = first - first % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, first + self._row - page)


def open_mapped(path: Path, device: torch.device) -> Images:
    """Return the images of a .npy on this device, by sample index. Raises UserError."""
    file = MappedFile(path)
    return PinnedMemmapImages(file, device) if device.type == "cuda" else MemmapImages(file)


class MemmapImages(InMemoryImages):
    """On a CPU: resident, as far as the system has memory for it."""

    def __init__(self, file: MappedFile) -> None:
        super().__init__(file.images, torch.device("cpu"))
        self._file = file

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and rows, as source.Images.read."""
        expected: deque[Tensor] = deque()
        waiting = iter(batches)
        while True:
            for index in itertools.islice(waiting, AHEAD + 1 - len(expected)):
                self._file.prefetch(index)
                expected.append(index)
            if not expected:
                return
            yield self.images, expected.popleft()


class PinnedMemmapImages:
    """To a GPU: AHEAD batches are on their way while one is in use. Each batch is a fresh tensor on the device."""

    resident = False

    def __init__(self, file: MappedFile, device: torch.device) -> None:
        self._file, self._device = file, device
        _, height, width, channels = file.images.shape
        self.shape: tuple[int, int, int] = (height, width, channels)
        self._buffers = [_Buffer() for _ in range(AHEAD + 1)]
        self._stream: torch.cuda.Stream | None = None  # one for all reads: torch keeps freed memory apart by stream

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and rows, as source.Images.read."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        stream = self._stream
        in_flight: deque[Future[tuple[Tensor, torch.cuda.Event]]] = deque()
        waiting, buffers = iter(batches), itertools.cycle(self._buffers)
        with ThreadPoolExecutor(1, thread_name_prefix="stage-images") as pool:
            while True:
                for index in itertools.islice(waiting, AHEAD + 1 - len(in_flight)):
                    self._file.prefetch(index)
                    in_flight.append(pool.submit(self._send, index, next(buffers), stream))
                if not in_flight:
                    return
                images, sent = in_flight.popleft().result()
                with stage("copy"):
                    current = torch.cuda.current_stream(self._device)
                    current.wait_event(sent)
                    images.record_stream(current)  # its memory comes from the other stream: not before this one is done
                    rows = torch.arange(len(images), device=self._device)
                yield images, rows

    def _send(self, index: Tensor, buffer: _Buffer, stream: torch.cuda.Stream) -> tuple[Tensor, torch.cuda.Event]:
        staged = buffer.gather(self._file.images, index)
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            images = torch.empty(staged.shape, dtype=torch.uint8, device=self._device)
            images.copy_(staged, non_blocking=True)
            return images, buffer.mark(stream)


class _Buffer:
    """Pinned memory for one batch, which is not written to before its last copy to the device has ended."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._sent: torch.cuda.Event | None = None

    def gather(self, images: Tensor, index: Tensor) -> Tensor:
        if self._sent is not None:
            self._sent.synchronize()
        if len(self._memory) < len(index):
            self._memory = torch.empty((len(index), *images.shape[1:]), dtype=torch.uint8, pin_memory=True)
        staged = self._memory[: len(index)]
        # Several times as fast as torch.index_select, which does not copy rows of bytes in one piece.
        np.take(images.numpy(), index.numpy(), axis=0, out=staged.numpy(), mode="clip")
        return staged

    def mark(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        self._sent = torch.cuda.Event()
        self._sent.record(stream)
        return self._sent
