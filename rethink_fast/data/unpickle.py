"""Pickle files read as data: plain arrays in plain containers, so that no file can run code or claim memory.

By the unpickler in Python: the one in C sets aside, and writes to, as much memory as a number in the file says.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import numpy as np

_ARRAY = object()
"""Stands for numpy.ndarray, which could be called for uninitialised memory of any size."""


def _empty_array(kind: object, shape: object, _: object) -> np.ndarray:
    """What a pickle makes an array from, before it sets its shape, its dtype and its bytes."""
    if kind is not _ARRAY or shape != (0,):
        raise pickle.UnpicklingError("it makes an array from something else")
    return np.empty(0, np.uint8)


def _dtype(code: str | bytes, *_: object) -> np.dtype:
    """A dtype that is not shared with the rest of the process: the pickle goes on to change it."""
    name = code.decode() if isinstance(code, bytes) else code
    if not isinstance(name, str) or np.dtype(name).kind not in "biuf":
        raise pickle.UnpicklingError(f"it holds an array of {name!r:.40}")
    return np.dtype(name, copy=True)


def _array_of(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r:.40}")
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of for core in ("core", "_core")},
}


class _Restricted(pickle._Unpickler):
    read: Any
    append: Any

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a data file does not need")
        return _ALLOWED[module, name]

    def _load_bytearray8(self) -> None:
        """Take the bytes that are there, before memory for as many as the file says."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytearray8}


def loads(data: bytes) -> Any:
    """Return the object of a pickle of Python 2 or 3. Raises ValueError for one that is damaged or needs more."""
    try:
        return _Restricted(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damaged pickles raise anything, as the pickle module documents
        raise ValueError(" ".join(f"{error}".split())[:200] or type(error).__name__) from None
