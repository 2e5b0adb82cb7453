"""The classes of a flat ImageNet val/ folder, in the forms they are handed around in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

KAGGLE = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
LISTS = ("val.txt", "val_labels.txt", "ground_truth.txt", "imagenet_2012_validation_synset_labels.txt")
DEVKIT_FOLDERS = ("", "data", "ILSVRC2012_devkit_t12/data")


def read(places: Sequence[Path], files: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The class of each file of a flat folder, from the ground-truth file in the first of `places` to have one.

    LOC_val_solution.csv (Kaggle); ILSVRC2012_validation_ground_truth.txt (the devkit's, with meta.mat beside it); or
    a list with one WNID a line for the files in sorted order, or "filename WNID", or "filename class-number" with
    the classes numbered from 0 in sorted order. Raises UserError.
    """
    number = {name: i for i, name in enumerate(classes)}
    for place in places:
        if (path := place / KAGGLE).is_file():
            return _by_name(path, _kaggle(path), files, number)
        for name in LISTS:
            if (path := place / name).is_file():
                return _list(path, files, number)
        for below in DEVKIT_FOLDERS:
            if (path := place / below / DEVKIT).is_file():
                return _in_order(path, _devkit(path), files, number)
    raise UserError(
        f"{places[0]} holds images without class folders and no ground truth is there or above: looked for "
        f"{', '.join((KAGGLE, *LISTS, DEVKIT))}"
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from None


def _kaggle(path: Path) -> dict[str, str]:
    rows = csv.reader(_lines(path))
    next(rows, None)
    try:
        return {name: prediction.split()[0] for name, prediction in rows}
    except (ValueError, IndexError):
        raise UserError(f"{path} is no {KAGGLE}: each line must be ImageId,PredictionString") from None


def _list(path: Path, files: Sequence[str], number: dict[str, int]) -> list[int]:
    rows = [line.replace(",", " ").split() for line in _lines(path)]
    columns = {len(row) for row in rows}
    if columns == {1}:
        return _in_order(path, [row[0] for row in rows], files, number)
    if columns != {2}:
        raise UserError(f"{path} must have one column (WNID) or two (filename, WNID or class number) in all lines")
    if any(row[1] in number for row in rows):
        return _by_name(path, dict(rows), files, number)
    return _by_name(path, dict(rows), files, {str(i): i for i in range(len(number))})


def _devkit(path: Path) -> list[str]:
    """The WNID of each line: an ILSVRC2012_ID, whose order is not that of the WNIDs, by way of meta.mat."""
    meta = path.with_name("meta.mat")
    if not meta.is_file():
        raise UserError(f"{path} numbers the classes in its own order: put the devkit's meta.mat beside it")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"reading {meta} needs scipy: pip install scipy, or use {KAGGLE} or class folders") from None
    try:
        synsets: Any = loadmat(meta, squeeze_me=True)["synsets"]
        wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return [wnid[int(line)] for line in _lines(path)]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"{path} and {meta} do not fit together: {error!r}") from None


def _in_order(path: Path, names: Sequence[str], files: Sequence[str], number: dict[str, int]) -> list[int]:
    if len(names) != len(files):
        raise UserError(f"{path} has {len(names)} lines for {len(files)} images")
    return _by_name(path, dict(zip(files, names, strict=True)), files, number)


def _by_name(path: Path, names: dict[str, str], files: Sequence[str], number: dict[str, int]) -> list[int]:
    stems = {Path(name).stem: value for name, value in names.items()}
    labels = []
    for file in files:
        value = stems.get(Path(file).stem)
        if value is None:
            raise UserError(f"{path} does not name {file}")
        if value not in number:
            raise UserError(
                f"{path} gives {file} the class {value}, which is not among the {len(number)} classes trained"
            )
        labels.append(number[value])
    return labels
