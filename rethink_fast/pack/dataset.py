"""A pack of a data set given in Python, in npy format."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.options import DataOptions
from ..data.own import OwnData, load_own
from ..data.pack_format import Pack, Part, read_pack, write_manifest
from ..data.pack_schema import INDEX, check_classes, file_of
from ..data.source import Dataset, Split
from ..errors import UserError, bad_path
from ..files import check_writable, user_path
from ..terminal import LiveLine, Terminal
from .plan import SHARD, npy_header
from .write import check_room, locked

AGAIN = "make room, or choose another place, and pack again"
FILES = {"pack.json", "unreadable.csv", "train.npy", "train.index.npy", "test.npy", "test.index.npy"}
Wrote = Callable[[int], None]


def pack_dataset(
    data: Any, dest: str | Path, *, test: Any = None, workers: int | None = None, progress: bool = False
) -> Pack:
    """Write a data set of your own as a pack, which trains by `rethink-fast bench own --data DEST`.

    Images, labels, classes and sample indices are those of `run(Run("own"), data=..., test=...)`, and so are all
    numbers of its runs. What must not be missed is logged as a warning of the logger "rethink_fast".

    data, test: map-style data sets, as `run` takes them.
    dest: a folder, which appears once the pack is whole. A call that was stopped starts over.
    workers: processes that read the items; 1 is this process. None: the number of cores.
    progress: print how far it is, on stdout.
    Raises UserError for what `run` refuses, a folder that exists, and a disk that lacks the bytes.
    """
    dest = user_path(str(dest))
    if dest.exists():
        raise bad_path(dest, "exists already", "choose another place, or remove it")
    check_writable(dest, AGAIN)
    screen = LiveLine(Terminal()) if progress else None
    with screen or nullcontext():
        count = screen.count if screen is not None else None
        dataset = load_own(OwnData(data, test), DataOptions(workers=workers, progress=count))
        try:
            check_classes(list(dataset.classes))
        except ValueError as error:
            fix = "give each class a different name in its attribute classes"
            raise UserError(f"{dataset.data_source} has {error}", fix, option="data") from None
        for note in dataset.notes[:-1]:  # the last one is about the images in memory
            logging.getLogger("rethink_fast").warning("%s", note)
        splits = {"train": dataset.train} | ({"test": dataset.test} if dataset.test is not None else {})
        total, done = sum(len(split.index) for split in splits.values()), 0

        def wrote(images: int) -> None:
            nonlocal done
            done += images
            if count is not None:
                count("packing images", done, total)

        sizes = [int(np.prod(split.images.shape)) + INDEX.itemsize for split in splits.values()]
        check_room(dest, sum(len(split.index) * size for split, size in zip(splits.values(), sizes, strict=True)))
        return _write(dest, dataset, splits, wrote)


def _write(dest: Path, dataset: Dataset, splits: dict[str, Split], wrote: Wrote) -> Pack:
    """Write all files next to DEST, and give the folder its name."""
    folder = dest.with_name(f"{dest.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            for left in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
                if left.name not in FILES:
                    raise bad_path(folder, f"holds {left.name}", "remove it, or choose another place")
                left.unlink()
            made = {name: _write_split(folder, name, split, wrote) for name, split in splits.items()}
            parts = {name: {"parts": [asdict(part) for part in each]} for name, (each, _) in made.items()}
            values = {"format": "npy", "size": None, "classes": list(dataset.classes), "splits": parts}
            write_manifest(folder, values, {name: index for name, (_, index) in made.items()}, [])
            read_pack(folder)
            (folder / ".lock").unlink(missing_ok=True)
            folder.replace(dest)
    except OSError as error:
        raise bad_path(dest, f"cannot be written ({error.strerror})", AGAIN) from None
    return read_pack(dest)


def _write_split(folder: Path, name: str, split: Split, wrote: Wrote) -> tuple[list[Part], np.ndarray]:
    """Write the .npy of a split, and return its parts and its index."""
    samples, shape = len(split.index), split.images.shape
    header, row = npy_header((samples, *shape)), int(np.prod(shape))
    file, parts = file_of("npy", name, 0), []
    with (folder / file).open("wb") as opened:
        head = header
        for images, rows in split.images.read(split.index.split(SHARD)):
            content, head = head + images[rows].cpu().numpy().tobytes(), b""
            parts.append(Part(file, opened.tell(), len(content), hashlib.sha256(content).hexdigest()))
            opened.write(content)
            wrote(len(rows))
        opened.flush()
        os.fsync(opened.fileno())
    index = np.zeros(samples, INDEX)
    index["offset"] = len(header) + np.arange(samples, dtype=np.int64) * row
    index["label"], index["length"] = split.labels[split.index].numpy(), row
    index["height"], index["width"] = shape[:2]
    return parts, index
