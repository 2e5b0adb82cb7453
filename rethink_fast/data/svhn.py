"""SVHN, the cropped digits of house numbers: two MATLAB files of colour images, where the digit 0 has the label 10."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from ..errors import bad_path, unreadable
from ..files import open_regular
from .matlab import read_arrays
from .options import DataOptions
from .registry import SMALL_SETS, MatFiles, SmallSet
from .source import Dataset, InMemoryImages, Split, subset

REPLACE = "replace it, for example with --download"
EDGE = 32
MOST = 2**20
"""Images in one file: twice as many as in the largest of the three."""
DIGIT_0 = 10


def load(folder: Path, options: DataOptions, row: SmallSet = SMALL_SETS["svhn"]) -> Dataset:
    """Open the data set from a folder of its two files. Raises UserError that names a missing or damaged file."""
    assert isinstance(row.files, MatFiles)
    files = row.files
    folder = next((at for at in (folder, folder / row.title) if os.path.lexists(at / files.train)), folder)
    for name in (files.train, files.test):
        if not os.path.lexists(folder / name):
            raise bad_path(folder, f"holds no {name}", f"put {files.train} and {files.test} there")
    train, test = (_split(folder / name, options, row) for name in (files.train, files.test))
    others = [name for name in files.others if os.path.lexists(folder / name)]
    notes = tuple(f"not used in {folder}: {name}" for name in others)
    return Dataset(row.name, f"{row.name} mat {folder.absolute()}", row.classes, train, test, notes)


def _split(path: Path, options: DataOptions, row: SmallSet) -> Split:
    images, classes = _read(path)
    wrong = classes[(classes < 1) | (classes > DIGIT_0)]
    if len(wrong):
        problem = f"has the label {wrong[0]:g}, and {row.title} has 1 ... {DIGIT_0}, {DIGIT_0} for the digit 0"
        raise bad_path(path, problem, REPLACE)
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 0, 1, 2)))
    labels = torch.from_numpy(classes.astype(np.int64) % DIGIT_0)
    return Split(InMemoryImages(pixels, options.device), labels, subset(len(labels), options.max_samples))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return X, uint8 [32, 32, 3, n], and y, whole numbers [n]. Raises UserError."""

    def accept(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
        if name == "X" and (dtype != np.uint8 or shape[:-1] != (EDGE, EDGE, 3) or not 0 < shape[-1] <= MOST):
            raise ValueError(f"its X is {dtype} {shape}, not uint8 ({EDGE}, {EDGE}, 3, n)")
        if name == "y" and (len(shape) != 2 or min(shape) != 1 or max(shape) > MOST):
            raise ValueError(f"its y has the shape {shape}, not (n, 1)")
        return name in ("X", "y")

    try:
        with open_regular(path) as file:
            found = read_arrays(file, accept)
        for name in ("X", "y"):
            if name not in found:
                raise ValueError(f"it holds no array of numbers {name}")
        images, classes = found["X"], found["y"].reshape(-1)
        if images.shape[3] != len(classes):
            raise ValueError(f"it has {images.shape[3]} images and {len(classes)} labels")
        if not (classes == np.floor(classes)).all():
            raise ValueError("its y holds numbers that are not whole")
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise bad_path(path, f"is damaged or no file of SVHN's digits ({error})", REPLACE) from None
    return images, classes
