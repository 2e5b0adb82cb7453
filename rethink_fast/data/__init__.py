"""Data sources, each giving uint8 images, labels and a stable sample index. `load_dataset` opens any of them.

path, "auto" or "synthetic"
  mnist.py        IDX (MNIST and all in its form)       -> InMemoryImages (decoded, on the device)
  svhn.py         MATLAB files                          -> InMemoryImages
  cifar10.py      python, binary, class folders, tar    -> InMemoryImages
  imagenet.py     train/WNID/*.JPEG and val/, or any folder of class folders
                  jpeg_images.py, decoded every epoch   -> JpegImages
  pack_images.py  a pack of one of these, or of one's own -> JpegImages, or MemmapImages of npy_images.py
  own.py          a map-style data set in Python        -> InMemoryImages or OwnImages, by load_own
  synthetic.py    made from the sample index            -> InMemoryImages or Generated

residency.py then decides which images stay on the device, decoded once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import UserError, bad_path, one_of
from ..files import user_path
from . import cifar10, imagenet, mnist, pack_images, search_path, svhn, synthetic
from .digest import digest_some
from .download import fetch
from .npy_images import MemmapImages
from .options import DataOptions
from .pack_format import is_pack
from .registry import DATASETS, OWN, SMALL_SETS
from .residency import cache_images
from .source import Dataset, Images, InMemoryImages, Split, subset
from .tree import FolderTree, is_archive, is_folder_at


def load_dataset(dataset: str, options: DataOptions | None = None) -> Dataset:
    """Open a data set.

    dataset: one of DATASETS, or "own" for a pack of a data set of your own.
    options: where it is and how it is opened; by default found in the usual places, else synthetic.
    Raises UserError.
    """
    options = options or DataOptions()
    if dataset == OWN and not names_path(options.path):
        raise not_given()
    one_of("dataset", dataset, (*DATASETS, OWN))
    opened = _find(dataset, options)
    if isinstance(opened.train.images, MemmapImages) or not isinstance(opened.train.images, InMemoryImages):
        opened = replace(opened, sample=digest_some(opened.train))
    opened, plan = cache_images(opened, options)
    notes = [f"images {plan}"] if plan is not None else []
    return replace(opened, notes=(*opened.notes, *notes))


def names_path(data: str) -> bool:
    """Return whether --data is a path."""
    return data not in ("auto", "synthetic")


def not_given() -> UserError:
    """Return the error of a run of a data set of one's own, where there is none."""
    return UserError(
        "the data set own is your own, and there is none",
        "name a pack of it by --data (rethink_fast.pack_dataset writes one), or give it in Python by "
        "rethink_fast.run(run, data=...)",
        option="data",
        value=OWN,
    )


def _find(dataset: str, options: DataOptions) -> Dataset:
    folder = None if options.path == "synthetic" else Path(options.path)
    if options.path == "auto":
        folder = search_path.find(dataset)
        if folder is None and options.download:
            folder = fetch(dataset, progress=options.progress)
    if folder is None:
        opened = synthetic.load(dataset, options)
        return replace(opened, notes=(_note(dataset, opened),)) if options.path == "auto" else opened
    folder = user_path(str(folder))
    is_folder = is_folder_at(folder, f"name a folder or file of {dataset}, or use --data synthetic")
    if is_folder and not _entries(folder):
        raise bad_path(folder, "is empty", f"name a folder or file of {dataset}, or use --data synthetic")
    row = SMALL_SETS.get(dataset)
    if not is_folder and (row is None or row.reader != "cifar"):
        raise bad_path(folder, f"is a file, and {dataset} is opened from a folder", _unpacking(folder))
    if is_pack(folder):
        if row is not None and row.reader == "idx":
            raise bad_path(folder, "is a pack", f"open it as own, or name the folder of the IDX files of {dataset}")
        if row is not None:
            cifar10.refuse_coarse(row, folder, "packed images")
        return pack_images.load(dataset, folder, options)
    if dataset == OWN:
        pack_images.read_own(folder)
    if row is None:
        return imagenet.load(folder, options)
    reader = {"cifar": cifar10.load, "idx": mnist.load, "mat": svhn.load}[row.reader]
    return reader(folder, options, row)


def _entries(folder: Path) -> bool:
    listing = FolderTree(folder).listing("")
    return bool(listing.folders or listing.files)


def _unpacking(path: Path) -> str:
    return "unpack it, and name its folder by --data" if is_archive(path.name) else "name its folder by --data"


def _note(dataset: str, opened: Dataset) -> str:
    height, width, _ = opened.train.images.shape
    looked = ", ".join(str(folder) for folder in search_path.folders(dataset))
    return (
        f"no {dataset} found at {looked}: using the embedded synthetic set, {len(opened.train.index)} images "
        f"of {height}x{width}, {opened.num_classes} classes"
    )


__all__ = [
    "DATASETS",
    "OWN",
    "DataOptions",
    "Dataset",
    "Images",
    "InMemoryImages",
    "Split",
    "load_dataset",
    "names_path",
    "not_given",
    "subset",
]
