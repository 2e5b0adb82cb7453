"""Encoded images by sample index: where JpegImages takes its bytes from, and the files of a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import bad_path, unreadable
from ..files import open_regular

MAX_BYTES = 2**30
"""Of an image file. The largest that is decoded takes 534 MB without compression."""

Stamp = tuple[int, int]
"""Size of a file in bytes, and its modification time in ns."""


class EncodedImages(Protocol):
    """The encoded images of one split."""

    root: Path
    """The folder they come from."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, sample: int) -> np.ndarray:
        """Return the bytes of a sample, uint8 [n]. Raises UserError."""
        ...

    def name(self, sample: int) -> str:
        """Return what a message calls a sample."""
        ...


class ImageFiles:
    """One file per sample. A file that changes after it was checked is refused."""

    def __init__(self, root: Path, files: Sequence[str], stamps: np.ndarray | None = None) -> None:
        """Serve the files below `root`.

        stamps: int64 [N, 2], `stamp_of` each file when it was checked, -1 where it was not.
        """
        self.root, self._files = root, files
        self._stamps = np.full((len(files), 2), -1, np.int64) if stamps is None else stamps

    def __len__(self) -> int:
        return len(self._files)

    def read(self, sample: int) -> np.ndarray:
        """Return the bytes of a sample, uint8 [n]. Raises UserError."""
        path = self.root / self._files[sample]
        try:
            data, stamp = read_image(path)
        except OSError as error:
            raise unreadable(path, error, "make it readable") from None
        if self._stamps[sample, 0] < 0:
            self._stamps[sample] = stamp
        if stamp != tuple(self._stamps[sample].tolist()):
            raise bad_path(path, "has changed since it was checked", "start again to check it again")
        return data

    def name(self, sample: int) -> str:
        """Return the path of a sample."""
        return str(self.root / self._files[sample])


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file. Raises OSError."""
    return _stamp(os.stat(path))


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns


def read_image(path: Path) -> tuple[np.ndarray, Stamp]:
    """Return the bytes of a regular file, uint8 [n], and its stamp. Raises OSError, also for more than MAX_BYTES."""
    with open_regular(path) as file:
        stamp = _stamp(os.fstat(file.fileno()))
        if stamp[0] > MAX_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_BYTES // 2**20:,} MiB")
        return np.fromfile(file, np.uint8), stamp
