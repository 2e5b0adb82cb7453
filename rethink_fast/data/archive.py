"""Tar archives read into memory, never extracted to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def read_tar(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The regular files of a tar (plain, .gz, .bz2 or .xz) whose name is wanted; a damaged one is a UserError."""
    try:
        data = _decompressed(path)
        # tarfile takes a cut between two members for the end; only the closing block of zeros tells.
        if len(data) < 1024 or data[-512:].strip(b"\0"):
            raise UserError(f"{path} is no tar archive, or a truncated one")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = [member for member in archive if member.isreg() and wanted(member.name)]
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is no tar archive, or a damaged one ({error})") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    return {member.name: data[member.offset_data : member.offset_data + member.size] for member in members}


def _decompressed(path: Path) -> bytes:
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            with opener(path, "rb") as stream:
                return bytes(stream.read())
    return path.read_bytes()
