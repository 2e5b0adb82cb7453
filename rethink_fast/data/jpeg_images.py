"""Images that are decoded from their encoded bytes on every epoch."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..augment import crop_windows
from ..errors import UserError, bad_path
from ..stages import stage
from .dali import DecodeError, Decoder, Feed, decoding, shape_of, whole
from .examine import Examiner, Opened
from .image_files import EncodedImages
from .options import DataOptions
from .pillow import as_ppm, for_dali
from .resize import resize

AHEAD = 2
"""Batches whose files are read before DALI asks for them; DALI itself holds two more."""


class JpegImages:
    """Encoded images, decoded every time they are read.

    source: their bytes.
    options: size, crop_margin, device and threads are used.
    shape: the (height, width) that all images have, which are delivered unchanged. None: they are resized to
        options.image_size (antialiased linear): the central 87.5 % of each dimension, the evaluation preprocessing of
        the TensorFlow Inception package, which the paper reuses; with options.crop_margin the whole image, for a random
        crop later on.
    """

    resident = False

    def __init__(self, source: EncodedImages, options: DataOptions, *, shape: tuple[int, int] | None = None) -> None:
        height, width = shape or (options.image_size, options.image_size)
        self.shape = (height, width, 3)
        self._source, self._device, self._workers = source, options.device, options.threads
        self._resize = shape is None
        self._sizes = np.zeros((len(source), 2), np.int32)  # height and width of the whole images, once they are known
        self._by_pillow = np.zeros(len(source), bool)
        self._peek = Decoder(shape_of, threads=1)
        on_gpu = self._device.type == "cuda"
        # DALI's own share for a GPU's JPEG hardware: one found by timing would change pixels from run to run.
        device = "mixed" if on_gpu else "cpu"
        size = (height, width) if on_gpu else None  # on the CPU they are resized afterwards
        whole_or_center = decoding(
            size if self._resize else None, crop=self._resize and not options.crop_margin, device=device
        )
        self._decoder = Decoder(whole_or_center, threads=self._workers, device=self._device)
        windows = decoding(size, crop=False, device=device)
        self._crop_decoder = Decoder(windows, threads=self._workers, device=self._device, windows=True)

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and rows, as source.Images.read: a fresh tensor each time. A read ends the one before it.

        Raises UserError that names a file which cannot be read or decoded.
        """
        return self._read(batches, self._decoder, lambda feed: feed, self._resize)

    def read_crops(self, batches: Iterable[Tensor], *, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield windows, as source.SupportsCrops.read_crops; nothing else is decoded. Raises as `read`."""

        def with_windows(feed: Feed) -> Feed:
            encoded, index = feed
            height, width = torch.from_numpy(self._sizes[index].astype(np.int64)).unbind(1)
            windows = crop_windows(height, width, torch.from_numpy(index), seed=seed, epoch=epoch)
            start, shape = (part.to(torch.int32).contiguous().numpy() for part in windows.split(2, dim=1))
            return encoded, index, start, shape

        return self._read(batches, self._crop_decoder, with_windows, True)

    def _open_new(self, loaded: tuple[list[np.ndarray], list[bool], np.ndarray]) -> Feed:
        """Look at the images that are read for the first time: their sizes, and whether DALI reads them."""
        encoded, known, index = loaded
        new = [k for k, is_known in enumerate(known) if not is_known]
        if new:
            opened = Opened([encoded[k] for k in new], self._peek)
            for k, data, reason in zip(new, opened.data, opened.reasons, strict=True):
                self._refuse(index[k], reason)
                encoded[k] = data
            self._sizes[index[new]], self._by_pillow[index[new]] = opened.sizes, opened.by_pillow
        return encoded, index

    def _read(
        self, batches: Iterable[Tensor], decoder: Decoder, complete: Callable[[Feed], Feed], resize: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        resize = resize and self._device.type != "cuda"
        with ThreadPoolExecutor(self._workers, thread_name_prefix="read-files") as pool:
            feeds: Iterator[Feed] = map(complete, map(self._open_new, self._feeds(batches, pool)))
            again: list[Feed] = []
            while True:
                try:
                    for output, index in decoder.run(itertools.chain(again, feeds)):
                        if resize:
                            images = resized(output, self.shape[:2], pool, self._workers)
                        else:
                            # The tensor owns the batch's memory: DALI does not use it again while the tensor lives.
                            images = from_dlpack(output.as_tensor())
                        yield images, torch.arange(len(index), device=self._device)
                    return
                except DecodeError as error:
                    again = self._repaired(error)

    def _repaired(self, error: DecodeError) -> list[Feed]:
        """The batches in which DALI failed, with the images that it cannot decode decoded by Pillow.

        Raises UserError if Pillow cannot read them either, or if there are none.
        """
        examiner, repaired = Examiner(whole), False
        for encoded, index, *_ in error.batches:
            for k, examined in enumerate(examiner.decode_one_by_one(encoded)):
                self._refuse(index[k], examined.reason)
                if examined.by_pillow:
                    encoded[k], self._by_pillow[index[k]], repaired = examined.data, True, True
        if not repaired:
            problem = f"DALI failed on images of {self._source.root} ({error.__cause__})"
            raise UserError(problem, "check the files with rethink-fast pack", value=self._source.root) from None
        return error.batches

    def _refuse(self, sample: int, reason: str | None) -> None:
        if reason is not None:
            name = self._source.name(sample)
            raise bad_path(name, f"can no longer be decoded ({reason})", "restore the file")

    def _feeds(
        self, batches: Iterable[Tensor], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[list[np.ndarray], list[bool], np.ndarray]]:
        """Of each batch the encoded images, whether each was known to DALI when it was loaded, and the samples."""
        ahead: deque[tuple[list[Future[list[tuple[np.ndarray, bool]]]], np.ndarray]] = deque()
        waiting = iter(batches)
        while True:
            for batch in itertools.islice(waiting, AHEAD + 1 - len(ahead)):
                index = batch.numpy().astype(np.int64)
                ahead.append(([pool.submit(self._load, part) for part in np.array_split(index, self._workers)], index))
            if not ahead:
                return
            futures, index = ahead.popleft()
            loaded = list(itertools.chain.from_iterable(future.result() for future in futures))
            yield [data for data, _ in loaded], [is_known for _, is_known in loaded], index

    def encoded(self, index: Tensor) -> list[np.ndarray]:
        """Return the encoded bytes, as digest.Encoded.encoded."""
        return [self._source.read(sample) for sample in index.tolist()]

    def _load(self, index: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        return [self._ready(sample) for sample in index.tolist()]

    def _ready(self, sample: int) -> tuple[np.ndarray, bool]:
        """Return the bytes of an image, of a known one as DALI decodes them, and whether it is known."""
        data = self._source.read(sample)
        if not self._sizes[sample, 0]:
            return data, False
        if not self._by_pillow[sample]:
            return for_dali(data), True
        decoded = as_ppm(data.tobytes())
        if decoded is None:
            self._refuse(sample, "corrupt")
        return np.frombuffer(decoded or b"", np.uint8), True


def resized(output: Any, size: tuple[int, int], pool: Executor, parts: int) -> Tensor:
    """Resize the images of a DALI TensorList on the CPU to one size, in `parts` by the pool: uint8 [B, H, W, 3]."""
    images = torch.empty((len(output), *size, 3), dtype=torch.uint8)

    def part(start: int, stop: int) -> None:
        resize([from_dlpack(output[k]) for k in range(start, stop)], images[start:stop])

    with stage("decode"):
        cuts = [len(output) * k // parts for k in range(parts + 1)]
        for done in [pool.submit(part, *cut) for cut in itertools.pairwise(cuts)]:
            done.result()
    return images
