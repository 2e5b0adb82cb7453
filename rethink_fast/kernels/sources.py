"""Which C++ sources a compiled library was built from: setup.py notes it in the library, and native.py compares.

No imports from this package or of torch: setup.py loads this file by its path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDERS = {"_native": "cpu", "_native_cuda": "cuda"}
"""The folder of csrc/ that each library is built from, with the files in csrc/ itself."""

NOTE = b"\nrethink_fast sources "
DIGITS = 64


def fingerprint(csrc: Path, library: str) -> str:
    """Return the SHA-256 of the names and bytes of a library's sources. Raises OSError where they cannot be read."""
    paths = [path for path in csrc.iterdir() if path.is_file()]
    paths += [path for path in (csrc / FOLDERS[library]).iterdir() if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(csrc).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def note(library: Path, value: str) -> None:
    """Append a fingerprint to a library, behind what the loader reads."""
    with library.open("ab") as file:
        file.write(NOTE + value.encode())


def noted(library: Path) -> str | None:
    """Return the fingerprint that a library was built with, or None where it holds none."""
    with library.open("rb") as file:
        file.seek(max(0, library.stat().st_size - len(NOTE) - DIGITS))
        tail = file.read()
    return tail[len(NOTE) :].decode(errors="replace") if tail.startswith(NOTE) else None
