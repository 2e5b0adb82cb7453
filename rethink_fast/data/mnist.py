"""MNIST in the IDX format of its authors, gzipped or not, and the data sets that came in the same form after it."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import UserError, bad_path, unreadable
from ..files import open_regular
from .options import DataOptions
from .registry import SMALL_SETS, IdxFiles, SmallSet
from .source import Dataset, InMemoryImages, Split, subset

REPLACE = "replace it, for example with --download"
IMAGES_MAGIC = 0x0803
LABELS_MAGIC = 0x0801
EDGE = 28
"""Height and width of every image."""
TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
MAX_BYTES = 2**31
"""Of one file: two and a half million images."""
CHUNK = 2**20


def find(folder: Path, files: IdxFiles) -> list[Path] | None:
    """Return the four files (training images and labels, test images and labels) at or below a folder, or None."""
    for below in ("", "raw", "gzip", f"{files.below}/raw", files.below):
        variants = [_variant(folder / below, name) for name in files.names]
        if all(variants):
            return [path for path in variants if path is not None]
    return None


def _variant(folder: Path, name: str) -> Path | None:
    """The file of this name, plain or .gz; else whatever else has its name, so that it is named when it is opened."""
    dotted = name.replace("-idx", ".idx")
    paths = [folder / n for n in (name, name + ".gz", dotted, dotted + ".gz")]
    paths += [folder / n / n for n in (name, dotted)]  # as Kaggle unpacks them
    present = [path for path in paths if os.path.lexists(path)]
    return next(filter(os.path.isfile, present), next(iter(present), None))


def load(folder: Path, options: DataOptions, row: SmallSet = SMALL_SETS["mnist"]) -> Dataset:
    """Open a data set from a folder of its four IDX files. Raises UserError that names a missing or damaged file."""
    assert isinstance(row.files, IdxFiles)
    paths = find(folder, row.files)
    if paths is None:
        names = row.files.names
        fix = f"put {', '.join(names)} there or in {row.files.below}/raw, each plain or .gz"
        raise UserError(f"{folder} holds no {row.title}", fix, value=folder, allowed=names)
    train, test = (_split(paths[i], paths[i + 1], options, row, row.files) for i in (0, 2))
    return Dataset(row.name, f"{row.name} idx {paths[0].parent.absolute()}", row.classes, train, test)


def _split(images_path: Path, labels_path: Path, options: DataOptions, row: SmallSet, files: IdxFiles) -> Split:
    images = read_idx(images_path, IMAGES_MAGIC).unsqueeze(-1)
    labels = read_idx(labels_path, LABELS_MAGIC).to(torch.int64) - files.first_label
    if not len(images):
        raise bad_path(images_path, "has no images", REPLACE)
    if images.shape[1:3] != (EDGE, EDGE):
        raise bad_path(
            images_path,
            f"has images of {images.shape[1]}x{images.shape[2]} pixels (height x width), not {row.title}'s "
            f"{EDGE}x{EDGE}",
            "make class folders of them, and open those as imagenet, with --size",
        )
    if len(images) != len(labels):
        raise bad_path(labels_path, f"has {len(labels)} labels for the {len(images)} images of {images_path}", REPLACE)
    outside = labels[(labels < 0) | (labels >= len(row.classes))]
    if len(outside):
        first, last = files.first_label, files.first_label + len(row.classes) - 1
        problem = f"has the label {int(outside[0]) + first}, and {row.title} has the classes {first} ... {last}"
        raise bad_path(labels_path, problem, REPLACE)
    if files.transposed:
        images = images.transpose(1, 2).contiguous()
    return Split(InMemoryImages(images, options.device), labels, subset(len(labels), options.max_samples))


def read_idx(path: Path, magic: int) -> Tensor:
    """Return the content of an IDX file, uint8 of the shape in its header. Raises UserError that names a damaged file.

    The header comes first: no more is read, or unpacked, than it promises.
    """
    try:
        with open_regular(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if zipped else file
            shape = _shape(path, stream, magic)
            content = _content(path, stream, math.prod(shape))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad_path(path, f"is damaged (gzip: {error})", REPLACE) from None
    except OSError as error:
        raise unreadable(path, error) from None
    return (
        torch.frombuffer(content, dtype=torch.uint8).view(shape) if content else torch.empty(shape, dtype=torch.uint8)
    )


def _shape(path: Path, stream: BinaryIO | gzip.GzipFile, magic: int) -> list[int]:
    dimensions = magic & 0xFF
    header = stream.read(4 + 4 * dimensions)
    if len(header) >= 4 and header[:2] == b"\0\0" and header[2] in TYPES and header[2:4] != magic.to_bytes(2, "big"):
        what = f"holds {TYPES[header[2]]} of {header[3]} dimensions where uint8 of {dimensions} are needed"
        raise bad_path(path, f"{what} (magic number {magic:#010x})", REPLACE)
    if len(header) < 4 + 4 * dimensions or int.from_bytes(header[:4], "big") != magic:
        raise bad_path(path, f"is no IDX file of this kind, with the magic number {magic:#010x}", REPLACE)
    shape = [int.from_bytes(header[4 * i : 4 * i + 4], "big") for i in range(1, dimensions + 1)]
    if math.prod(shape) > MAX_BYTES:
        raise bad_path(
            path, f"is damaged (its header promises {' x '.join(map(str, shape))} bytes, too many for MNIST)", REPLACE
        )
    return shape


def _content(path: Path, stream: BinaryIO | gzip.GzipFile, length: int) -> bytearray:
    content = bytearray()
    while len(content) <= length and (chunk := stream.read(min(CHUNK, length + 1 - len(content)))):
        content += chunk
    if len(content) != length:
        size = f"{len(content)} bytes" if len(content) < length else "more bytes"
        what = "truncated" if len(content) < length else "too long"
        raise bad_path(path, f"is {what} ({size} after its header, which promises {length})", REPLACE)
    return content
