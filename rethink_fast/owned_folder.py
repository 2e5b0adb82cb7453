"""A folder that one process writes in at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

from .errors import UserError
from .files import lock, make_folder, remove_partial, try_writing

LOCK = ".lock"

Self = TypeVar("Self", bound="OwnedFolder")


class OwnedFolder:
    """A folder that this process owns until `close`, by a lock that goes with the process. Use as a context manager.

    path: made if it is not there.
    option: the command's option that names it, for messages.
    made: what `make_folder` returned, if this process has just made it.
    note (attribute): a line for the user, or "".
    Raises UserError, also where another process owns it.
    """

    def __init__(self, path: Path, option: str = "--out", *, made: Sequence[Path] = ()) -> None:
        self.path, self.made, self.note = path, made, ""
        self._lock: BinaryIO | None = None
        try:
            self._own()
        except BlockingIOError:
            raise UserError(
                f"{option} {path} is in use by another process",
                "wait for its end, or choose another folder by --out",
                option=option,
                value=path,
            ) from None
        except OSError as error:
            self.abandon()
            self.close()
            raise UserError(
                f"{option} {path} cannot be written ({error.strerror})",
                "choose another folder",
                option=option,
                value=path,
            ) from None
        remove_partial(path)

    def _own(self) -> None:
        for last in (False, False, True):
            with suppress(FileExistsError):
                self.made = make_folder(self.path)
            try:
                self._lock = lock(self.path / LOCK)
                break
            except FileNotFoundError:  # the process that made it has just removed it again
                if last:
                    raise
        try_writing(self.path / LOCK)
        if self._lock is None:
            self.note = f"{self.path} is on a file system without locks: see that no second command writes there"

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abandon()
        self.close()

    def close(self) -> None:
        """Give the folder up, so that another process can own it."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def abandon(self) -> None:
        """Remove the folder again, and those made for it, if this process made it and nothing is in it."""
        with suppress(OSError):
            if self.made and set(os.listdir(self.path)) <= {LOCK}:
                (self.path / LOCK).unlink(missing_ok=True)
                for folder in self.made:
                    folder.rmdir()

    def restore(self) -> bool:
        """Make the folder again if it was removed. Returns whether it was."""
        if self.path.is_dir():
            return False
        self.close()
        self._own()
        return True
