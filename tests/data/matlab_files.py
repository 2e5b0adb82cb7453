"""Small MATLAB 5 files, written here, as SVHN's authors' files are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    if 0 < len(content) <= 4 and kind != 14:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name: str, values: np.ndarray, *, order: str = "<", stored: str = "", flags: int = 0) -> bytes:
    """An array of numbers. stored: its type in the file, if that is another than its class."""
    kind = values.dtype.str[1:]
    stored = stored or kind
    numbers = values.astype(f"{order}{stored}").tobytes(order="F")
    return element(
        14,
        element(6, struct.pack(f"{order}II", CLASSES[kind] | flags, 0), order)
        + element(5, struct.pack(f"{order}{values.ndim}i", *values.shape), order)
        + element(1, name.encode(), order)
        + element(TYPES[stored], numbers, order),
        order,
    )


def mat(*matrices: bytes, order: str = "<", compressed: bool = True) -> bytes:
    head = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124)
    head += struct.pack(f"{order}H", 0x100) + (b"IM" if order == "<" else b"MI")
    if compressed:
        matrices = tuple(
            struct.pack(f"{order}II", 15, len(packed)) + packed for packed in (zlib.compress(one) for one in matrices)
        )
    return head + b"".join(matrices)


def svhn(folder: Path, count: int = 23) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Both files in a folder; images uint8 [n, 32, 32, 3] and digits [n] of each."""
    generator, made = np.random.default_rng(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        images = generator.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        digits = np.append(np.arange(10), generator.integers(0, 10, count - 10))
        labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        content = mat(matrix("X", images.transpose(1, 2, 3, 0)), matrix("y", labels))
        (folder / f"{name}_32x32.mat").write_bytes(content)
        made[name] = images, digits
    return made
