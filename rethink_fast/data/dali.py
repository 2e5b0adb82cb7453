"""JPEG (and PNG) through DALI, the one place that imports it.

    file bytes, sample indices  ->  external_source  ->  decoder of the crop  ->  resize  ->  uint8 batch

The decoder is DALI's everywhere. On a GPU its resize follows in the same pipeline; on the CPU ours does, in threads
next to DALI's: it takes 0.075 ms of a photograph at 299 pixels where DALI's takes 1.4 (one core of an AMD EPYC).

The order of the samples is the caller's own list of index batches, so DALI's readers, their shuffling and their
padding of the last batch, which repeat or lose samples from the second epoch on, do not come into it.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..env import DALI
from ..errors import UserError
from ..stages import stage

CROP = 0.875
"""The share of each dimension in the evaluation crop of the TensorFlow Inception package."""

Feed = tuple[Any, ...]
"""Of one batch: the bytes of each file (list of uint8), the sample indices (int64 [B]) and, for a decoder of windows,
where they begin and how large they are (int32 [B, 2] each: vertical, horizontal)."""


class DecodeError(Exception):
    """DALI gave up on the first of these batches, or on one of the next; none of them has been yielded."""

    def __init__(self, batches: list[Feed]) -> None:
        super().__init__("a batch could not be decoded")
        self.batches = batches


class Decoder:
    """A DALI pipeline that Python feeds, kept for all runs.

    graph: makes its output from the encoded bytes.
    windows: whether the feeds hold windows, whose start and shape `graph` takes as well.
    """

    def __init__(
        self, graph: Callable[..., Any], *, threads: int, device: torch.device | None = None, windows: bool = False
    ) -> None:
        self._graph, self._threads = graph, threads
        self._inputs = 4 if windows else 2
        self._device = device if device is not None and device.type == "cuda" else None
        self._pipeline: Any = None
        self._largest = 0
        self._feeds: Iterator[Feed] = iter(())
        self._next: Feed | None = None
        self._in_flight: deque[Feed] = deque()
        self._generation = 0

    def run(self, feeds: Iterable[Feed]) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield for each feed in turn the decoded batch, a DALI TensorList, and the sample indices, int64 [B].

        A run ends the one before it. Raises DecodeError.
        """
        self._generation += 1
        generation = self._generation
        self._drain()
        self._feeds = iter(feeds)
        while True:
            if self._next is None:
                self._next = next(self._feeds, None)
            if self._next is None:
                return
            if self._pipeline is None or len(self._next[0]) > self._largest:
                self._pipeline, self._largest = None, len(self._next[0])
                self._pipeline = self._build()
            yield from self._decoded(generation)

    def _decoded(self, generation: int) -> Iterator[tuple[Any, np.ndarray]]:
        """What the pipeline makes of the feeds, until they end or one is larger than it was built for."""
        while True:
            assert generation == self._generation, "another read of these images has begun"
            try:
                with stage("decode"):
                    output, index = self._pipeline.run(self._stream())
            except StopIteration:
                self._pipeline.reset()
                return
            except RuntimeError as error:
                self._pipeline = None  # DALI: "Current pipeline object is no longer valid"
                later = [] if self._next is None else [self._next]
                raise DecodeError([*self._in_flight, *later]) from error
            except BaseException:
                self._pipeline = None
                raise
            expected = self._in_flight.popleft()[1]
            assert np.array_equal(np.asarray(index.as_tensor()), expected), "DALI returned other samples than asked for"
            yield output, expected

    def _device_id(self) -> int | None:
        if self._device is None:
            return None
        return torch.cuda.current_device() if self._device.index is None else self._device.index

    def _stream(self) -> torch.cuda.Stream | None:
        return None if self._device is None else torch.cuda.current_stream(self._device)

    def _drain(self) -> None:
        """Take out what an abandoned run left in the pipeline."""
        self._feeds, self._next = iter(()), None
        if self._pipeline is not None:
            try:
                with contextlib.suppress(StopIteration):
                    while True:
                        self._pipeline.run(self._stream())
                self._pipeline.reset()
            except RuntimeError:
                self._pipeline = None
        self._in_flight.clear()

    def _next_feed(self) -> Feed:
        if self._next is None:
            with stage("load"):  # inside "decode": DALI asks for the files as it runs
                self._next = next(self._feeds)
        feed = self._next
        if len(feed[0]) > self._largest:
            raise StopIteration
        self._next = None
        self._in_flight.append(feed)
        return feed

    def _build(self) -> Any:
        dali, graph, inputs = _dali(), self._graph, self._inputs
        # The pipeline must not hold the decoder that holds it: left to the garbage collector, it may be collected in a
        # forked child (a DataLoader's worker), where its destructor waits for threads that are not there.
        feed = weakref.WeakMethod(self._next_feed)

        def source() -> Feed:
            following = feed()
            if following is None:
                raise StopIteration
            return following()

        def pipeline() -> Any:
            dtypes = [dali.types.UINT8, dali.types.INT64, dali.types.INT32, dali.types.INT32]
            encoded, index, *window = dali.fn.external_source(
                source=source, num_outputs=inputs, batch=True, dtype=dtypes[:inputs], ndim=[1, 0, 1, 1][:inputs]
            )
            return graph(encoded, *window), index

        built = dali.pipeline_def(
            batch_size=self._largest, num_threads=self._threads, device_id=self._device_id(), prefetch_queue_depth=2
        )(pipeline)()
        built.build()
        return built


def _dali() -> Any:
    # Its decoders write on stderr. `damaged` reports files that fail.
    for name, level in (("DALI_NVIMGCODEC_LOG_LEVEL", "0"), ("OPENCV_LOG_LEVEL", "SILENT")):
        os.environ.setdefault(name, level)
    try:
        from nvidia import dali
    except ImportError as error:
        problem = f"reading image files needs DALI ({error})"
        fix = f"pip install {DALI[0]}, or {DALI[1]} with a torch for CUDA 12, on Linux; --data synthetic needs none"
        raise UserError(problem, fix) from None
    return dali


def dali_version() -> str:
    """Return DALI's version. Raises UserError where it is not installed."""
    return str(_dali().__version__)


def _image(encoded: Any, **options: Any) -> Any:
    """Decode to RGB, upright. options: of DALI's decoders."""
    return _dali().fn.decoders.image(encoded, output_type=_dali().types.RGB, **options)


def _image_slice(encoded: Any, **options: Any) -> Any:
    """Decode a window to RGB, upright, and as little around it as the format allows."""
    dali = _dali()
    return dali.fn.decoders.image_slice(encoded, axis_names="HW", output_type=dali.types.RGB, **options)


CENTRE = {"rel_start": ((1 - CROP) / 2,) * 2, "rel_shape": (CROP,) * 2}


def whole(encoded: Any) -> Any:
    """Return the whole image at its size, on the CPU: a graph for `Decoder`."""
    return _image(encoded)


def whole_then_centre(encoded: Any) -> Any:
    """Return what `JpegImages` without margin resizes, bit-exact, but with every row decoded: a graph for `Decoder`.

    A decoder of the centre alone stops below it, and does not see what is wrong further down.
    """
    return _dali().fn.slice(_image(encoded), axis_names="HW", **CENTRE)


def decoding(size: tuple[int, int] | None, *, crop: bool, device: str = "cpu") -> Callable[..., Any]:
    """Return a graph for `Decoder` of the whole image or, with `crop`, its central part; or of a window, where fed.

    size: height and width that the result is resized to; None for no resize.
    device: "cpu" or "mixed", as of DALI's decoders.
    """

    def graph(encoded: Any, *window: Any) -> Any:
        dali = _dali()
        if window:
            start, shape = window
            image = _image_slice(encoded, start=start, shape=shape, device=device)
        elif crop:
            image = _image_slice(encoded, device=device, **CENTRE)
        else:
            image = _image(encoded, device=device)
        if size is None:
            return image
        return dali.fn.resize(image, size=size, interp_type=dali.types.INTERP_LINEAR, antialias=True)

    return graph


def shape_of(encoded: Any) -> Any:
    """Return height, width and channels of the upright image, by its header: a graph for `Decoder`."""
    return _dali().fn.peek_image_shape(encoded)


def decode(files: Sequence[np.ndarray], *, workers: int, batch: int = 1024) -> Iterator[list[Tensor] | Tensor]:
    """Decode images held in memory, in order: for each batch uint8 [B, H, W, 3], or a list where sizes differ.

    Raises DecodeError.
    """
    decoder = Decoder(whole, threads=workers)
    parts = (
        (list(files[i : i + batch]), np.arange(i, min(i + batch, len(files)))) for i in range(0, len(files), batch)
    )
    for output, _ in decoder.run(parts):
        if output.is_dense_tensor():
            yield from_dlpack(output.as_tensor())
        else:
            yield [from_dlpack(output[i]) for i in range(len(output))]
