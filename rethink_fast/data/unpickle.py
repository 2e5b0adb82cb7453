"""Pickle files read as data: nothing but NumPy arrays in plain containers, so that no file can run code."""

from __future__ import annotations

import codecs
import io
import pickle
from typing import Any

import numpy as np

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how protocol 2 writes bytes
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a data file does not need")
        return _ALLOWED[module, name]


def loads(data: bytes) -> Any:
    """The object of a pickle, written by Python 2 or 3; any that is damaged or needs more is a ValueError."""
    try:
        return _Restricted(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damaged pickles raise anything, as the pickle module documents
        raise ValueError(f"{error}" or type(error).__name__) from None
