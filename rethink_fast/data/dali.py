"""JPEG (and PNG) through DALI, the one place that imports it.

    file bytes, sample indices  ->  external_source  ->  decoder of the crop  ->  resize  ->  uint8 batch

The decoder is DALI's everywhere. On a GPU its resize follows in the same pipeline; on the CPU ours does, in threads
beside DALI's: it takes 0.075 ms of a photograph at 299 pixels where DALI's takes 1.4 (one core of an AMD EPYC).

The order of the samples is the caller's own list of index batches, so DALI's readers, their shuffling and their
padding of the last batch, which repeat or lose samples from the second epoch on, do not come into it.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..augment import crop_windows
from ..errors import UserError
from ..quiet import quiet
from ..stages import stage
from .resize import resize

CROP = 0.875
"""The share of each dimension in the evaluation crop of the TensorFlow Inception package."""

AHEAD = 2
"""Batches whose files are read before DALI asks for them; DALI itself holds two more."""

Feed = tuple[Any, ...]
"""Of one batch: the bytes of each file (list of uint8), the sample indices (int64 [B]) and, for a decoder of windows,
where they begin and how large they are (int32 [B, 2] each: vertical, horizontal)."""


class DecodeError(Exception):
    """DALI gave up on one of these batches (the oldest first)."""

    def __init__(self, batches: list[Feed]) -> None:
        super().__init__("a batch could not be decoded")
        self.batches = batches


class Decoder:
    """A DALI pipeline fed by Python and kept while it works; `graph` makes its output from the encoded bytes.

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
        self._waiting: Feed | None = None
        self._flying: deque[Feed] = deque()
        self._turn = 0

    def run(self, feeds: Iterable[Feed]) -> Iterator[tuple[Any, np.ndarray]]:
        """The decoded batch (a DALI TensorList) and the sample indices, for each feed in turn.

        A run ends the one before it, wherever that one stands. Raises DecodeError.
        """
        self._turn += 1
        turn = self._turn
        self._drain()
        self._feeds = iter(feeds)
        while True:
            if self._waiting is None:
                self._waiting = next(self._feeds, None)
            if self._waiting is None:
                return
            if self._pipeline is None or len(self._waiting[0]) > self._largest:
                self._pipeline, self._largest = None, len(self._waiting[0])
                self._pipeline = self._build()
            yield from self._decoded(turn)

    def _decoded(self, turn: int) -> Iterator[tuple[Any, np.ndarray]]:
        """What the pipeline makes of the feeds, until they end or one is larger than it was built for."""
        while True:
            assert turn == self._turn, "another read of these images has begun"
            try:
                with stage("decode"):
                    output, index = self._pipeline.run(self._stream())
            except StopIteration:
                self._pipeline.reset()
                return
            except RuntimeError as error:
                self._pipeline = None  # DALI: "Current pipeline object is no longer valid"
                raise DecodeError(list(self._flying)) from error
            except BaseException:
                self._pipeline = None
                raise
            expected = self._flying.popleft()[1]
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
        self._feeds, self._waiting = iter(()), None
        if self._pipeline is not None:
            try:
                with contextlib.suppress(StopIteration):
                    while True:
                        self._pipeline.run(self._stream())
                self._pipeline.reset()
            except RuntimeError:
                self._pipeline = None
        self._flying.clear()

    def _next_feed(self) -> Feed:
        if self._waiting is None:
            with stage("load"):  # inside "decode": DALI asks for the files as it runs
                self._waiting = next(self._feeds)
        feed = self._waiting
        if len(feed[0]) > self._largest:
            raise StopIteration
        self._waiting = None
        self._flying.append(feed)
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
                source=source,
                num_outputs=inputs,
                batch=True,
                dtype=dtypes[:inputs],
                ndim=[1, 0, 1, 1][:inputs],
            )
            return graph(encoded, *window), index

        made = dali.pipeline_def(
            batch_size=self._largest, num_threads=self._threads, device_id=self._device_id(), prefetch_queue_depth=2
        )(pipeline)()
        made.build()
        return made


def _dali() -> Any:
    try:
        from nvidia import dali
    except ImportError as error:
        raise UserError(
            f"reading image files needs DALI ({error}): pip install nvidia-dali-cuda130, on Linux"
        ) from None
    return dali


def _image(encoded: Any, *, crop: bool = False, **how: Any) -> Any:
    """Decode to RGB, upright, the whole image or its central part. how: options of DALI's decoders."""
    decoders, rgb = _dali().fn.decoders, _dali().types.RGB
    if not crop:
        return decoders.image(encoded, output_type=rgb, **how)
    start, shape = _centre()
    return decoders.image_slice(encoded, rel_start=start, rel_shape=shape, axis_names="HW", output_type=rgb, **how)


def _centre() -> tuple[tuple[float, float], tuple[float, float]]:
    return ((1 - CROP) / 2,) * 2, (CROP,) * 2


def _resized(image: Any, size: tuple[int, int]) -> Any:
    dali = _dali()
    return dali.fn.resize(image, size=size, interp_type=dali.types.INTERP_LINEAR, antialias=True)


def whole(encoded: Any) -> Any:
    """A graph for `Decoder`: the whole image at its own size, on the CPU."""
    return _image(encoded)


def whole_then_centre(encoded: Any) -> Any:
    """A graph for `Decoder`: what a `JpegFolder` without margin resizes, to the bit, but with every row decoded.

    A decoder that is asked for the centre stops below it, and does not see what is wrong further down.
    """
    start, shape = _centre()
    return _dali().fn.slice(_image(encoded), rel_start=start, rel_shape=shape, axis_names="HW")


def _window(encoded: Any, start: Any, shape: Any, **how: Any) -> Any:
    """Decode a window of the upright image to RGB, and as little beside it as the format allows."""
    rgb = _dali().types.RGB
    return _dali().fn.decoders.image_slice(encoded, start=start, shape=shape, axis_names="HW", output_type=rgb, **how)


def decoding(size: tuple[int, int] | None, *, crop: bool, **how: Any) -> Callable[..., Any]:
    """A graph for `Decoder`: the whole image or its central part; or a window of it. Resized if there is a size."""

    def graph(encoded: Any, *window: Any) -> Any:
        image = _window(encoded, *window, **how) if window else _image(encoded, crop=crop, **how)
        return image if size is None else _resized(image, size)

    return graph


def _shape(encoded: Any) -> Any:
    """Height, width and channels of the upright image, by the file's header."""
    return _dali().fn.peek_image_shape(encoded)


class JpegFolder:
    """Image files, read and decoded anew every time they are asked for, at one size.

    size: the network input. Without `margin` the images are the central 87.5 % of each dimension, resized to
    size x size: the evaluation preprocessing of the TensorFlow Inception package, which the paper reuses. With
    `margin` they are the whole image, resized to size / 0.875, for a random crop later on. Antialiased linear.
    """

    resident = False

    def __init__(
        self, root: Path, files: Sequence[str], *, size: int, margin: bool, device: torch.device, workers: int
    ) -> None:
        edge = round(size / CROP) if margin else size
        self.shape = (edge, edge, 3)
        self._root, self._files, self._device, self._workers = root, files, device, workers
        self._crop, self._resize = not margin, True
        self._hw_decoder_load: float | None = None
        self._peek = Decoder(_shape, threads=1)
        self._sizes = np.zeros((len(files), 2), np.int32)  # height and width of the whole images, once they are known
        self._make_decoders()

    def _make_decoders(self) -> None:
        on_gpu = self._device.type == "cuda"
        how: dict[str, Any] = {"device": "mixed" if on_gpu else "cpu"}
        if self._hw_decoder_load is not None:
            how["hw_decoder_load"] = self._hw_decoder_load
        size = self.shape[:2] if on_gpu else None  # on the CPU they are resized afterwards
        whole = decoding(size if self._resize else None, crop=self._crop, **how)
        windows = decoding(size, crop=False, **how)
        self._decoder = Decoder(whole, threads=self._workers, device=self._device)
        self._crop_decoder = Decoder(windows, threads=self._workers, device=self._device, windows=True)

    def share_with_hardware(self, load: float) -> None:
        """Let a GPU's JPEG hardware decode this share of the images, 0 to 1; the next read begins with it."""
        self._hw_decoder_load = load
        self._make_decoders()

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """As source.Images.read, a fresh tensor each time. A read ends the one before it.

        Raises UserError that names a file which cannot be read or decoded.
        """
        return self._read(batches, self._decoder, lambda feed: feed, self._resize)

    def read_crops(self, batches: Iterable[Tensor], *, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As source.Regional.read_crops; nothing but the window of an image is decoded. Raises as `read`."""

        def with_windows(feed: Feed) -> Feed:
            encoded, index = feed
            height, width = torch.from_numpy(self._sizes_of(encoded, index)).unbind(1)
            windows = crop_windows(height, width, torch.from_numpy(index), seed=seed, epoch=epoch)
            start, shape = (part.to(torch.int32).contiguous().numpy() for part in windows.split(2, dim=1))
            return encoded, index, start, shape

        return self._read(batches, self._crop_decoder, with_windows, True)

    def _sizes_of(self, encoded: list[np.ndarray], index: np.ndarray) -> np.ndarray:
        """Height and width of whole images, int64 [B, 2], by the headers of files that are new. Raises DecodeError."""
        new = np.flatnonzero(self._sizes[index, 0] == 0)
        if len(new):
            for shapes, samples in self._peek.run([([encoded[k] for k in new], index[new])]):
                self._sizes[samples] = np.asarray(shapes.as_tensor())[:, :2]
        return self._sizes[index].astype(np.int64)

    def _read(
        self, batches: Iterable[Tensor], decoder: Decoder, complete: Callable[[Feed], Feed], resize: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        resize = resize and self._device.type != "cuda"
        with ThreadPoolExecutor(self._workers, thread_name_prefix="read-files") as pool:
            try:
                for output, index in decoder.run(map(complete, self._feeds(batches, pool))):
                    if resize:
                        images = resized(output, self.shape[:2], pool, self._workers)
                    else:
                        # The tensor owns the memory of the batch: DALI does not use it again while the tensor lives.
                        images = from_dlpack(output.as_tensor())
                    yield images, torch.arange(len(index), device=self._device)
            except DecodeError as error:
                raise UserError(self._blame(error)) from None

    def _feeds(self, batches: Iterable[Tensor], pool: ThreadPoolExecutor) -> Iterator[Feed]:
        ahead: deque[tuple[list[Future[list[np.ndarray]]], np.ndarray]] = deque()
        waiting = iter(batches)
        while True:
            for batch in itertools.islice(waiting, AHEAD + 1 - len(ahead)):
                index = batch.numpy().astype(np.int64)
                ahead.append(([pool.submit(self._load, part) for part in np.array_split(index, self._workers)], index))
            if not ahead:
                return
            futures, index = ahead.popleft()
            yield list(itertools.chain.from_iterable(future.result() for future in futures)), index

    def encoded(self, index: Tensor) -> list[np.ndarray]:
        """As digest.Encoded.encoded."""
        return self._load(index.numpy())

    def _load(self, index: np.ndarray) -> list[np.ndarray]:
        return [read_bytes(self._root / self._files[i]) for i in index]

    def _name(self, sample: int) -> str:
        return str(self._root / self._files[sample])

    def _blame(self, error: DecodeError) -> str:
        for encoded, index, *_ in error.batches:
            for reason, sample in zip(next(faults([encoded], workers=1)), index, strict=True):
                if reason is not None:
                    return f"{self._name(sample)} can no longer be decoded ({reason}): restore the file"
        return f"DALI failed on images of {self._root}: {error.__cause__}"


def resized(output: Any, size: tuple[int, int], pool: Executor, parts: int) -> Tensor:
    """The images of a DALI TensorList on the CPU at one size, uint8 [B, H, W, 3], made in `parts` by the pool."""
    images = torch.empty((len(output), *size, 3), dtype=torch.uint8)

    def part(start: int, stop: int) -> None:
        resize([from_dlpack(output[k]) for k in range(start, stop)], images[start:stop])

    with stage("decode"):
        cuts = [len(output) * k // parts for k in range(parts + 1)]
        for done in [pool.submit(part, *cut) for cut in itertools.pairwise(cuts)]:
            done.result()
    return images


def read_bytes(path: Path) -> np.ndarray:
    """The bytes of a file, uint8 [n]; a UserError if it cannot be read."""
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


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


def singly(decoder: Decoder, files: Iterable[np.ndarray]) -> Iterator[Any]:
    """Decode images that may be damaged: for each in turn its tensor, until the next is asked for, or None.

    In batches of one: DALI 2.4 ends the process (a segmentation fault) where an image that cannot be decoded has others
    behind it in its batch.
    """
    waiting = deque(files)
    while waiting:
        try:
            for output, _ in decoder.run(([data], np.zeros(1, np.int64)) for data in tuple(waiting)):
                waiting.popleft()
                yield output[0]
        except DecodeError:
            waiting.popleft()
            yield None


def faults(batches: Iterable[list[np.ndarray]], *, workers: int) -> Iterator[list[str | None]]:
    """For each batch of encoded files, why each cannot be decoded, or None where it can."""
    decoders = [Decoder(lambda encoded: _image(encoded).shape(), threads=1) for _ in range(workers)]

    def check(decoder: Decoder, files: list[np.ndarray]) -> list[str | None]:
        reasons = [torn(data) for data in files]
        decoded = singly(decoder, [data for data, reason in zip(files, reasons, strict=True) if reason is None])
        return [reason or ("corrupt" if next(decoded) is None else None) for reason in reasons]

    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            cuts = [len(batch) * k // workers for k in range(workers + 1)]
            parts = [batch[start:stop] for start, stop in itertools.pairwise(cuts)]
            with quiet():  # what its C++ says about a damaged file is said in one line
                found = list(pool.map(check, decoders, parts))
            yield list(itertools.chain.from_iterable(found))


def torn(data: np.ndarray) -> str | None:
    """What the structure alone tells, because a decoder may paint a missing end grey: None if it is whole."""
    content = data.tobytes()
    if not content:
        return "empty"
    if content.startswith(b"\xff\xd8"):
        # The end-of-image marker after the last start of scan: an embedded thumbnail has markers of its own.
        return None if content.find(b"\xff\xd9", max(content.rfind(b"\xff\xda"), 0)) > 0 else "truncated"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return None if content.find(b"IEND", len(content) - 64) > 0 else "truncated"
    return "not a JPEG or PNG image"
