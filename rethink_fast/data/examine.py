"""Looking at encoded images that may be damaged: their headers in batches, their pixels one by one.

An image can be decoded if its structure is whole and DALI decodes it; or else if Pillow reads all of it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..stderr import suppress_stderr
from .dali import DecodeError, Decoder, shape_of, whole
from .image_formats import structural_damage, unsupported
from .pillow import MAX_PIXELS, TooLarge, as_ppm, for_dali


class Opened:
    """Image files whose header and structure have been checked, and nothing decoded.

    data: what DALI decodes, uint8 [n] each: the file, or the image decoded by Pillow.
    sizes: int64 [N, 2], height and width of the upright images.
    reasons: why an image cannot be decoded, as far as is known.
    by_pillow: bool [N], whether Pillow decoded it because DALI cannot.
    """

    def __init__(self, files: Sequence[np.ndarray], peek: Decoder) -> None:
        """Look at encoded images. peek: Decoder(shape_of), which unlike one of pixels survives any bytes in a batch."""
        self.data = [for_dali(file) for file in files]
        self.sizes = np.zeros((len(files), 2), np.int64)
        self.reasons: list[str | None] = [None] * len(files)
        self.by_pillow = np.zeros(len(files), bool)
        with suppress_stderr():
            try:
                self._peek(peek, range(len(files)))
            except DecodeError:
                self.sizes[:] = 0
                for k, file in enumerate(files):
                    self._peek_alone(peek, k, file)
        for k, file in enumerate(files):
            if self.reasons[k] is None and self.sizes[k].prod() > MAX_PIXELS:
                self.reasons[k] = str(TooLarge(*self.sizes[k].tolist()))
            if self.reasons[k] is None and not self.by_pillow[k]:
                damage = structural_damage(file.tobytes())
                # Viewers read some files that are not whole by their format. Pillow reads all pixels or none.
                self.reasons[k] = damage if damage is not None and not _pillow_reads(file) else None

    def _peek(self, peek: Decoder, at: Sequence[int]) -> None:
        if at:
            for shapes, positions in peek.run([([self.data[k] for k in at], np.asarray(at, np.int64))]):
                self.sizes[positions] = np.asarray(shapes.as_tensor())[:, :2]

    def _peek_alone(self, peek: Decoder, k: int, file: np.ndarray) -> None:
        try:
            self._peek(peek, [k])
        except DecodeError:
            self.decode_by_pillow(k, file)
            if self.by_pillow[k]:
                self._peek(peek, [k])

    def decode_by_pillow(self, k: int, file: np.ndarray) -> None:
        """Decode an image that DALI does not, or set its reason."""
        content = file.tobytes()
        try:
            decoded = as_ppm(content)
        except TooLarge as error:
            self.reasons[k] = str(error)
            return
        if decoded is None:
            self.reasons[k] = _explain(content)
        else:
            self.data[k], self.by_pillow[k] = np.frombuffer(decoded, np.uint8), True


def _pillow_reads(file: np.ndarray) -> bool:
    try:
        return as_ppm(file.tobytes()) is not None
    except TooLarge:
        return False


def _explain(content: bytes) -> str:
    """Why neither DALI nor Pillow reads it."""
    return "empty" if not content else unsupported(content) or structural_damage(content) or "corrupt"


class Examined(NamedTuple):
    """One image that was tried.

    reason: why it cannot be decoded, or None.
    data: what DALI decodes, uint8 [n].
    by_pillow: whether Pillow decoded it because DALI cannot.
    output: of the graph of `Examiner`.
    """

    reason: str | None
    data: np.ndarray
    by_pillow: bool
    output: Any


class Examiner:
    """Decodes images that may be damaged, each in a batch of one.

    DALI 2.4 may end the process (a segmentation fault) at a header it cannot read with others behind it in the batch.
    """

    def __init__(self, graph: Callable[..., Any]) -> None:
        """graph: as of `Decoder`."""
        self._peek, self._decoder, self._again = (Decoder(output, threads=1) for output in (shape_of, graph, graph))

    def decode_one_by_one(self, files: Sequence[np.ndarray]) -> Iterator[Examined]:
        """Yield what became of each file, in order. An output is valid until the next is asked for."""
        opened = Opened(files, self._peek)
        outputs = _decoded(self._decoder, [opened.data[k] for k, why in enumerate(opened.reasons) if why is None])
        for k, file in enumerate(files):
            output = next(outputs) if opened.reasons[k] is None else None
            if output is None and opened.reasons[k] is None and not opened.by_pillow[k]:
                opened.decode_by_pillow(k, file)
                if opened.by_pillow[k]:
                    output = next(_decoded(self._again, [opened.data[k]]))
            if output is None and opened.reasons[k] is None:
                opened.reasons[k] = "corrupt"
            yield Examined(opened.reasons[k], opened.data[k], bool(opened.by_pillow[k]), output)


def _decoded(decoder: Decoder, files: Sequence[np.ndarray]) -> Iterator[Any]:
    """The output for each file, in batches of one; None where there is none."""
    waiting = deque(files)
    while waiting:
        try:
            for output, _ in decoder.run(([data], np.zeros(1, np.int64)) for data in tuple(waiting)):
                waiting.popleft()
                yield output[0]
        except DecodeError:
            waiting.popleft()
            yield None


def find_undecodable(batches: Iterable[list[np.ndarray]], *, workers: int) -> Iterator[list[str | None]]:
    """Yield for each batch of encoded files why each cannot be decoded, or None where it can."""
    examiners = [Examiner(lambda encoded: whole(encoded).shape()) for _ in range(workers)]

    def check(examiner: Examiner, files: list[np.ndarray]) -> list[str | None]:
        return [examined.reason for examined in examiner.decode_one_by_one(files)]

    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            cuts = [len(batch) * k // workers for k in range(workers + 1)]
            parts = [batch[start:stop] for start, stop in itertools.pairwise(cuts)]
            with suppress_stderr():  # the decoders write on stderr what is returned here
                reasons = list(pool.map(check, examiners, parts))
            yield list(itertools.chain.from_iterable(reasons))
