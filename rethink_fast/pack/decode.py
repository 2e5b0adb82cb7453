"""Decoding images to pack them: as the data loader decodes them, and as JPEG again."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..stderr import suppress_stderr
from .source import EncodedSplit

QUALITY, SUBSAMPLING = 90, "4:2:0"
"""Of re-encoded JPEGs. Most photographs of ImageNet come in 4:2:0 themselves."""
BATCH = 32

NO_PIXELS = np.empty(0, np.uint8)
Image = tuple[np.ndarray, tuple[int, int], str]
"""Pixels uint8 [H, W, 3], empty where they are not needed; height and width; why it cannot be decoded, or ""."""


def images(source: EncodedSplit, format: str, size: int | None) -> Iterator[tuple[int, np.ndarray, Image]]:
    """Yield for each sample in order its position in the source, its bytes (uint8 [n]) and the image."""
    for first in range(0, len(source), BATCH):
        samples = range(first, min(first + BATCH, len(source)))
        encoded = [source.read(k) for k in samples]
        known = [source.quarantined.get(k, ("", ""))[1] for k in samples]
        yield from zip(samples, encoded, _decoded(encoded, known, format, size), strict=True)


def _decoded(encoded: list[np.ndarray], known: list[str], format: str, size: int | None) -> list[Image]:
    decoded: list[Image] = []
    with suppress_stderr():  # what the decoders write on stderr is in the quarantine
        examined = _examiner(format, size).decode_one_by_one(encoded)
        for (reason, _, _, output), quarantined in zip(examined, known, strict=True):
            if output is None:
                decoded.append((NO_PIXELS, (0, 0), quarantined or reason or ""))
            elif format == "jpeg" and size is None:
                shape = np.asarray(output)
                decoded.append((NO_PIXELS, (int(shape[0]), int(shape[1])), ""))
            else:
                pixels = np.array(output) if size is None else _resized(output, size)
                decoded.append((pixels, (pixels.shape[0], pixels.shape[1]), ""))
    return decoded


def _resized(output: Any, size: int) -> np.ndarray:
    """A decoded image of DALI's as a folder gives it, uint8 [size, size, 3]."""
    import torch

    from ..data.resize import resize

    out = torch.empty((1, size, size, 3), dtype=torch.uint8)
    resize([torch.from_numpy(np.asarray(output))], out)
    return out[0].numpy()


@functools.cache
def _examiner(format: str, size: int | None) -> Any:
    from ..data.dali import whole, whole_then_centre
    from ..data.examine import Examiner

    if size is not None:
        return Examiner(whole_then_centre)
    return Examiner(whole if format == "npy" else lambda encoded: whole(encoded).shape())


def jpeg_of(pixels: np.ndarray) -> bytes:
    """Return an image uint8 [H, W, 3] as JPEG."""
    from PIL import Image as PillowImage

    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    return file.getvalue()
