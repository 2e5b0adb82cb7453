"""Files of torch.save: read as plain values and tensors alone, and sealed, so that a flipped bit anywhere is noticed.

The seal is the comment of the file's zip archive: the SHA-256 of all that comes before it.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..files import read_bytes
from ..text import printable

SEAL = b"rethink_fast sha256 "
SEAL_BYTES = len(SEAL) + 64


def sealed(content: Any) -> memoryview:
    """Return what torch.save writes, sealed."""
    file = io.BytesIO()
    torch.save(content, file)
    return seal(file)


def seal(file: io.BytesIO) -> memoryview:
    """Return a zip archive without a comment, sealed."""
    file.seek(-2, io.SEEK_END)  # its last two bytes are the length of the comment
    file.write(struct.pack("<H", SEAL_BYTES))
    file.write(SEAL + hashlib.sha256(file.getbuffer()).hexdigest().encode())
    return file.getbuffer()


def unsealed(path: Path, *, limit: int) -> Any:
    """Return the content that `sealed` sealed. Raises OSError, and ValueError that says what is wrong with the file."""
    data = memoryview(read_bytes(path, limit=limit))
    if bytes(data[-SEAL_BYTES : -SEAL_BYTES + len(SEAL)]) != SEAL:
        raise ValueError("is damaged, or not of this version: it does not end with its checksum")
    if bytes(data[-64:]) != hashlib.sha256(data[:-SEAL_BYTES]).hexdigest().encode():
        raise ValueError("is damaged: its checksum does not agree")
    return loaded(data)


def loaded(data: bytes | memoryview) -> Any:
    """Return what torch.save wrote, with its tensors on the CPU. Raises ValueError for anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed")  # a small file may hold any amount of zeros
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a strange archive makes of zipfile, torch and its unpickler
        raise ValueError(f"is not as torch.save writes it: {printable(str(error))[:300]}") from None


def describe_misfit(value: Any, expected: torch.Tensor) -> str | None:
    """Return what is wrong with a value that is to be copied into a tensor; None where it fits."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return "no tensor of numbers"
    if (value.shape, value.dtype) != (expected.shape, expected.dtype):
        return f"{value.dtype} {list(value.shape)}, not {expected.dtype} {list(expected.shape)}"
    return None
