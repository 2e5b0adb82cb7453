"""Arrays of numbers in a MATLAB 5 file (.mat), compressed or not, as SVHN comes.

No more is read, or unpacked, than the arrays that are asked for take at their declared sizes, which the caller checks
first. The form: "MAT-File Format" by The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

HEADER = 128
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of data elements. A small element holds up to four bytes beside its type and length."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Classes of arrays of numbers. Their numbers may be stored as a smaller type."""
COMPLEX, LOGICAL = 0x800, 0x200
CHUNK = 2**20
MOST_NAME = 64

Accept = Callable[[str, np.dtype, tuple[int, ...]], bool]
"""Called with the name, the dtype and the shape of an array. Returns whether it is wanted; raises ValueError."""


def read_arrays(file: BinaryIO, accept: Accept) -> dict[str, np.ndarray]:
    """Return the arrays of a file that `accept` wants, by name, in MATLAB's order: the first axis changes fastest.

    Raises ValueError where the file is none of this form, truncated or damaged, and OSError.
    """
    header = file.read(HEADER)
    if header[:8] == b"\x89HDF\r\n\x1a\n" or header[:19] == b"MATLAB 7.3 MAT-file":
        raise ValueError("it is of MATLAB 7.3; save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(header[126:], "")
    if not order or struct.unpack(f"{order}H", header[124:126]) != (0x100,):
        raise ValueError("it is no MATLAB 5 file")
    found: dict[str, np.ndarray] = {}
    while start := file.read(8):
        kind, length = struct.unpack(f"{order}II", _whole(start, 8))
        end = file.tell() + length
        if kind == COMPRESSED:
            stream: Any = _Inflated(file, length)
            kind, _ = struct.unpack(f"{order}II", _whole(stream.read(8), 8))
        else:
            stream = file
        if kind != MATRIX:
            raise ValueError(f"it holds an element of type {kind} where an array begins")
        _read_array(stream, order, accept, found)
        file.seek(end)
    return found


def _read_array(stream: Any, order: str, accept: Accept, found: dict[str, np.ndarray]) -> None:
    _, flags = _element(stream, order, 8)
    word = struct.unpack(f"{order}I", _whole(flags, 8)[:4])[0]
    _, dimensions = _element(stream, order, 4 * 32)
    shape = tuple(np.frombuffer(dimensions, f"{order}i4").tolist())
    _, letters = _element(stream, order, MOST_NAME)
    name, kind = letters.decode("ascii", "replace"), CLASSES.get(word & 0xFF)
    if kind is None or word & COMPLEX or any(n < 0 for n in shape):
        return
    if not accept(name, np.dtype(kind), shape):
        return
    if name in found:
        raise ValueError(f"it holds {name} twice")
    count = math.prod(shape)
    stored, content = _element(stream, order, 8 * count)
    if stored not in STORED:
        raise ValueError(f"{name} is stored as the unknown type {stored}")
    values = np.frombuffer(content, f"{order}{STORED[stored]}")
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} numbers for the shape {shape}")
    found[name] = values.astype(kind, copy=False).reshape(shape, order="F")


def _element(stream: Any, order: str, most: int) -> tuple[int, bytes]:
    """The type and the content of a data element of at most so many bytes."""
    first, second = struct.unpack(f"{order}II", _whole(stream.read(8), 8))
    if first >> 16:  # a small one
        kind, length = first & 0xFFFF, first >> 16
        return kind, struct.pack(f"{order}I", second)[: min(length, 4)]
    if second > most:
        raise ValueError(f"it holds {second} bytes where at most {most} fit")
    content = _whole(stream.read(second), second)
    stream.read(-second % 8)
    return first, content


def _whole(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise ValueError("it is truncated")
    return content


class _Inflated:
    """The unpacked content of the next `length` bytes of a file, as far as it is read."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length
        self._unpacker = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing > 0 and not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail
            if not packed:
                packed = self._file.read(min(CHUNK, self._left))
                self._left -= len(packed)
            try:
                part = self._unpacker.decompress(packed, missing)
            except zlib.error as error:
                raise ValueError(f"it is damaged (zlib: {error})") from None
            if not packed and not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
