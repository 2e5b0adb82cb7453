"""What a pack will hold, how it is cut into shards, and how many bytes it takes."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pack_schema import BLOCK, INDEX, LARGEST_SIZE, PACK_FORMATS
from ..errors import UserError, bad_path, in_range, one_of
from ..files import check_writable
from .decode import QUALITY, SUBSAMPLING, images, jpeg_of
from .source import EncodedSplit, PackSource, open_tree
from .worker import ShardJob

SHARD = 1024
"""Samples of a shard: about 110 MB of ImageNet's own photographs, about 30 MB of them at 299 pixels."""
MIN_SHARD, PARTS = 64, 16
"""A small set is cut into smaller shards, so many of them that all processes have work."""
ESTIMATE_SAMPLES = 64
"""Images that are encoded to estimate the length of all of them."""


@dataclass(frozen=True)
class PackPlan:
    """A pack that is to be written.

    shape: height, width and channels of every image in npy format; () in jpeg format.
    bytes: what it takes on the disk.
    exact: whether `bytes` is exact, not estimated from a few images.
    """

    dest: Path
    tree: PackSource
    format: str
    size: int | None
    shape: tuple[int, ...]
    bytes: int
    exact: bool

    @property
    def folder(self) -> Path:
        """The folder of the unfinished pack."""
        return self.dest.with_name(f"{self.dest.name}.partial")

    @property
    def images(self) -> int:
        """The number of images in all splits."""
        return sum(len(source) for source in self.tree.splits.values())

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a run to resume an unfinished pack."""
        return {
            "format": self.format,
            "size": self.size,
            "encoding": f"JPEG, quality {QUALITY}, {SUBSAMPLING}" if self.format == "jpeg" and self.size else None,
            "shard": SHARD,
            "source": self.tree.fingerprint(),
        }

    def jobs(self) -> Iterator[ShardJob]:
        """Yield the shards of all splits, in order."""
        row = int(np.prod(self.shape)) if self.shape else 0
        for name, source in self.tree.splits.items():
            samples = min(SHARD, max(MIN_SHARD, -(-len(source) // PARTS)))
            header = len(npy_header((len(source), *self.shape))) if self.shape else 0
            for number, start in enumerate(range(0, len(source), samples)):
                part = source.part(start, min(start + samples, len(source)))
                offset = header + start * row
                yield ShardJob(self.folder, name, number, start, part, self.format, self.size, self.shape, offset)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy of uint8 in row-major order."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def plan(src: Path, dest: Path, *, format: str, size: int | None) -> PackPlan:
    """Return the plan of a pack, for which the source is listed and a few images are decoded.

    src: as of `open_tree`.
    dest: the pack's folder, which must not exist.
    format: one of PACK_FORMATS.
    size: height and width in pixels that images are resized to; None keeps every image as it is.
    Raises UserError.
    """
    one_of("format", format, PACK_FORMATS)
    if size is not None:
        in_range("--size", size, 1, LARGEST_SIZE)
    if dest.exists():
        raise bad_path(dest, "exists already", "choose another place, or remove it")
    check_writable(dest, "choose another place")
    tree = open_tree(src)
    if size is not None and tree.size is not None:
        problem = f"{src} is a pack of images at --size {tree.size} already"
        raise UserError(problem, f"omit --size {size}", option="--size", value=size)
    draft = PackPlan(dest, tree, format, size, (), 0, True)
    sources = tree.splits.values()
    if format == "npy":
        shape = (size, size, 3) if size is not None else _first_shape(draft)
        pixels = int(np.prod(shape))
        return replace(draft, shape=shape, bytes=sum(len(s) * pixels + _metadata_bytes(s) for s in sources))
    lengths = [s.lengths if size is None else np.full(len(s), _encoded_length(draft, s)) for s in sources]
    needed = sum(_tar_bytes(s, each) for s, each in zip(sources, lengths, strict=True))
    return replace(draft, bytes=needed, exact=size is None)


def _tar_bytes(source: EncodedSplit, lengths: np.ndarray) -> int:
    """Of each sample a header and the image in whole blocks, and a header and a block with the label."""
    blocks = -(-lengths // BLOCK) + 3
    return int(blocks.sum()) * BLOCK + _metadata_bytes(source)


def _metadata_bytes(source: EncodedSplit) -> int:
    """At most: of a sample its rows in the index and in its shard's record, 64 bytes in text; of a shard its
    description and the end of its tar; the headers and the text around them."""
    return len(source) * (INDEX.itemsize + 64) + (len(source) // MIN_SHARD + 1) * (2 * BLOCK + 256) + 4096


def _decoded(draft: PackPlan, source: EncodedSplit, number: int) -> Iterator[np.ndarray]:
    """The pixels of `number` evenly spaced images, of those that can be decoded: uint8 [H, W, 3]."""
    for k in np.unique(np.linspace(0, len(source) - 1, number, dtype=np.int64)).tolist():
        for _, _, (pixels, _, _) in images(source.part(k, k + 1), draft.format, draft.size):
            if pixels.size:
                yield pixels


def _first_shape(draft: PackPlan) -> tuple[int, ...]:
    """The shape of the first training image that can be decoded."""
    source = draft.tree.splits["train"]
    for pixels in _decoded(draft, source, len(source)):
        return tuple(pixels.shape)
    raise bad_path(
        source.root, f"has {len(source)} images, and none can be decoded", "name a folder of JPEG or PNG images"
    )


def _encoded_length(draft: PackPlan, source: EncodedSplit) -> int:
    """Bytes of an encoded image: the mean of a few, and three standard errors."""
    lengths = [len(jpeg_of(pixels)) for pixels in _decoded(draft, source, ESTIMATE_SAMPLES)]
    if not lengths:
        problem = f"has no image that can be decoded among {min(ESTIMATE_SAMPLES, len(source))} tried"
        raise bad_path(source.root, problem, "name a folder of JPEG or PNG images")
    error = statistics.stdev(lengths) / len(lengths) ** 0.5 if len(lengths) > 1 else 0.0
    return int(statistics.mean(lengths) + 3 * error)
