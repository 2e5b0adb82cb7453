"""MNIST in the IDX format of its authors, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .source import Dataset, Resident, Split, subset

FOLDERS = ("", "raw", "MNIST/raw", "MNIST")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IMAGES_MAGIC = 0x0803
LABELS_MAGIC = 0x0801
CLASSES = tuple("0123456789")


def find(folder: Path) -> list[Path] | None:
    """The four files (training images and labels, test images and labels) at or below a folder, or None."""
    for below in FOLDERS:
        found = [_variant(folder / below, name) for name in FILES]
        if all(found):
            return [path for path in found if path is not None]
    return None


def _variant(folder: Path, name: str) -> Path | None:
    names = (name, name + ".gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz")
    return next((folder / n for n in names if (folder / n).is_file()), None)


def load(folder: Path, *, limit: int | None, device: torch.device) -> Dataset:
    """MNIST from a folder of its four IDX files; a missing or damaged file is a UserError that names it."""
    found = find(folder)
    if found is None:
        raise UserError(
            f"{folder} holds no MNIST: looked for {', '.join(FILES)}, each plain or .gz, there and in MNIST/raw"
        )
    train, test = (_split(found[i], found[i + 1], limit, device) for i in (0, 2))
    return Dataset("mnist", f"mnist idx {found[0].parent.absolute()}", CLASSES, train, test)


def _split(images_path: Path, labels_path: Path, limit: int | None, device: torch.device) -> Split:
    images = read_idx(images_path, IMAGES_MAGIC).unsqueeze(-1)
    labels = read_idx(labels_path, LABELS_MAGIC).to(torch.int64)
    if len(images) != len(labels):
        raise UserError(f"{labels_path} has {len(labels)} labels for the {len(images)} images of {images_path}")
    if len(labels) and int(labels.max()) >= len(CLASSES):
        raise UserError(f"{labels_path} has the label {int(labels.max())}: MNIST has the classes 0 ... 9")
    return Split(Resident(images, device), labels, subset(len(labels), limit))


def read_idx(path: Path, magic: int) -> Tensor:
    """The bytes of one IDX file as uint8 of the shape in its header; a damaged one is a UserError that names it."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged (gzip: {error}): replace it, for example with --download") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(data) < header or int.from_bytes(data[:4], "big") != magic:
        raise UserError(f"{path} is no IDX file of this kind: it must start with the magic number {magic:#010x}")
    shape = [int.from_bytes(data[4 * i : 4 * i + 4], "big") for i in range(1, dimensions + 1)]
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "too long"
        raise UserError(f"{path} is {what}: {len(data)} bytes where its header promises {expected}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())
