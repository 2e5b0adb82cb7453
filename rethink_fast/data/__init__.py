"""Data sources, each giving uint8 images, labels and a stable sample index. `open_dataset` opens any of them.

path, "auto" or "synthetic"
  mnist.py        IDX                                   -> InMemoryImages (decoded, on the device)
  cifar10.py      python, binary, class folders, tar    -> InMemoryImages
  imagenet.py     train/WNID/*.JPEG and val/, or any folder of class folders
                  jpeg_images.py, decoded every epoch   -> JpegFolder
  pack_images.py  a pack of either of both              -> PackedOriginals, PackedJpegs, or those of npy_images.py
  synthetic.py    made from the sample index            -> InMemoryImages or Generated

residency.py then decides which images stay on the device, decoded once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, one_of
from ..files import user_path
from . import cifar10, imagenet, mnist, pack_images, search_path, synthetic
from .dali import CROP
from .digest import digest_some
from .download import fetch
from .npy_images import MemmapImages
from .pack_format import is_pack
from .residency import cache_images
from .source import Dataset, Images, InMemoryImages, Progress, Split, subset
from .tree import FolderTree, is_archive, is_folder_at

DATASETS = ("imagenet", "cifar10", "mnist")


def open_dataset(
    dataset: str,
    data: str,
    *,
    size: int,
    margin: bool,
    limit: int | None,
    device: torch.device,
    workers: int,
    download: bool,
    damaged: str,
    residency: str = "auto",
    windows: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> Dataset:
    """Open a data set: "imagenet", "cifar10" or "mnist".

    data: a path, "auto" (look in the usual places, else synthetic, and say so in Dataset.notes) or "synthetic".
    size: network input size, to which imagenet is resized; margin: deliver imagenet images as large as a random
    crop of `size` needs, round(size / 0.875). limit: at most so many samples of each split. damaged: "stop" at a
    damaged image file, or "skip" it. residency: "device" decodes images once, to stay there, "stream" anew for every
    epoch, "auto" by the memory that is free. windows: whether random windows of the training images will be asked for,
    which are decoded from their files where that is possible. processes: how many share the host's memory. download:
    where nothing is found, fetch the official files. workers: threads that read and decode. progress: called with
    (what, done, total). Raises UserError.
    """
    one_of("dataset", dataset, DATASETS)
    one_of("damaged", damaged, ("stop", "skip"))
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit} is out of range: choose at least 1")
    if download and data != "auto":
        raise UserError(f"--download puts the files where --data auto finds them: leave out --data {data}")
    if size < 1:
        raise UserError(f"size {size} is out of range: choose at least 1")
    made = _find(dataset, data, size, margin, limit, device, workers, download, damaged, progress)
    if isinstance(made.train.images, MemmapImages) or not isinstance(made.train.images, InMemoryImages):
        made = replace(made, sample=digest_some(made.train))
    made, plan = cache_images(made, residency, device, progress, windows=windows, processes=processes)
    notes = [f"images {plan}"] if plan is not None else []
    return replace(made, notes=(*made.notes, *notes))


def _find(
    dataset: str,
    data: str,
    size: int,
    margin: bool,
    limit: int | None,
    device: torch.device,
    workers: int,
    download: bool,
    damaged: str,
    progress: Progress | None,
) -> Dataset:
    notes: tuple[str, ...] = ()
    folder = None if data == "synthetic" else Path(data)
    if data == "auto":
        folder = search_path.find(dataset)
        if folder is None and download:
            folder = fetch(dataset, progress=progress)
    if data == "synthetic" or folder is None:
        edge = round(size / CROP) if margin else size
        made = synthetic.load(
            dataset, edge=edge if dataset == "imagenet" else None, limit=limit, device=device, progress=progress
        )
        if data == "auto":
            notes = (_note(dataset, made),)
        return replace(made, notes=notes)
    folder = user_path(str(folder))
    is_folder = is_folder_at(folder, f"name a folder or file of {dataset}, or use --data synthetic")
    if is_folder and not _entries(folder):
        raise UserError(f"{folder} is empty: name a folder or file of {dataset}, or use --data synthetic")
    if dataset != "cifar10" and not is_folder:
        raise UserError(f"{folder} is a file: {dataset} is opened from a folder{_unpacking(folder)}")
    how: dict[str, Any] = {
        "limit": limit,
        "device": device,
        "workers": workers,
        "damaged": damaged,
        "progress": progress,
    }
    if is_pack(folder):
        if dataset == "mnist":
            raise UserError(f"{folder} is a pack of colour images: mnist is opened from the four IDX files")
        return pack_images.load(dataset, folder, size=size, margin=margin, **how)
    if dataset == "mnist":
        return mnist.load(folder, limit=limit, device=device)
    if dataset == "cifar10":
        return cifar10.load(folder, **how)
    return imagenet.load(folder, size=size, margin=margin, **how)


def _entries(folder: Path) -> bool:
    listing = FolderTree(folder).listing("")
    return bool(listing.folders or listing.files)


def _unpacking(path: Path) -> str:
    return ": unpack it, and name the folder that it gives by --data" if is_archive(path.name) else ""


def _note(dataset: str, made: Dataset) -> str:
    height, width, _ = made.train.images.shape
    looked = ", ".join(str(place) for place in search_path.places(dataset))
    return (
        f"no {dataset} found at {looked}: using the embedded synthetic set, {len(made.train.index)} images "
        f"of {height}x{width}, {made.num_classes} classes"
    )


__all__ = ["DATASETS", "Dataset", "Images", "InMemoryImages", "Split", "open_dataset", "subset"]
