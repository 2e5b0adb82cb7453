"""What is packed: a folder of images, or a pack in jpeg format, as stretches of bytes by sample index."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data import layout, webdataset
from ..data.pack_format import Pack, PackSplit, is_pack, read_pack
from ..data.tree import FolderTree, is_folder_at
from ..errors import UserError, bad_path, unreadable
from ..files import open_regular


@dataclass(frozen=True)
class EncodedSplit:
    """Encoded images of one split, or of part of it, in the order of their sample indices.

    files: below `root`, of each image.
    offsets, lengths: int64 [N], the bytes of each image in its file.
    labels: int32 [N].
    quarantined: file and reason, of images that are known to be undecodable.
    """

    root: Path
    files: list[str]
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    quarantined: dict[int, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def part(self, start: int, stop: int) -> EncodedSplit:
        """Return the images from start to stop, counted from 0."""
        known = {k - start: why for k, why in self.quarantined.items() if start <= k < stop}
        cut = slice(start, stop)
        return EncodedSplit(self.root, self.files[cut], self.offsets[cut], self.lengths[cut], self.labels[cut], known)

    def read(self, k: int) -> np.ndarray:
        """Return the bytes of image k, uint8 [n], none of a quarantined one. Raises UserError."""
        path = self.root / self.files[k]
        if k in self.quarantined:
            return np.empty(0, np.uint8)
        try:
            return np.fromfile(path, np.uint8, count=int(self.lengths[k]), offset=int(self.offsets[k]))
        except OSError as error:
            raise unreadable(path, error) from None


@dataclass(frozen=True)
class PackSource:
    """Everything that is packed.

    size: height and width that the images of a source pack were resized to; None where they were not.
    notes: lines about the source, for the user.
    """

    classes: tuple[str, ...]
    splits: dict[str, EncodedSplit]
    size: int | None = None
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the names, places and labels of all images."""
        seen = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for name, source in self.splits.items():
            seen.update(f"\0{name}\0".encode())
            seen.update("\0".join(source.files).encode(errors="surrogateescape"))
            for numbers in (source.offsets, source.lengths, source.labels):
                seen.update(numbers.tobytes())
        return seen.hexdigest()


def open_tree(path: Path) -> PackSource:
    """Return the images of a folder (by layout.find), of WebDataset shards or of a pack in jpeg format.

    Raises UserError.
    """
    fix = "name a folder with train/CLASS/*.JPEG, or CLASS/*.JPEG, or a pack"
    if not is_folder_at(path, fix):
        raise bad_path(path, "is no folder", fix)
    tree = FolderTree(path)
    listing = tree.listing("")
    if is_pack(path):
        return _of_pack(read_pack(path))
    if shards := webdataset.shards(path, listing):
        return _of_shards(path, shards)
    images = layout.find(tree)
    splits = {"train": _of_folder(path, *images.train)}
    if images.test is not None:
        splits["test"] = _of_folder(path, *images.test)
    return PackSource(images.classes, splits, notes=images.notes)


def _of_folder(path: Path, folder: str, files: list[str], labels: object) -> EncodedSplit:
    root, lengths = path / folder, np.zeros(len(files), np.int64)
    quarantined = {}
    for k, file in enumerate(files):
        try:
            with open_regular(root / file) as opened:
                lengths[k] = os.fstat(opened.fileno()).st_size
        except OSError as error:
            quarantined[k] = (file, f"cannot be read: {error.strerror or error}")
    return EncodedSplit(root, files, np.zeros_like(lengths), lengths, np.asarray(labels, np.int32), quarantined)


def _of_shards(path: Path, shards: list[str]) -> PackSource:
    classes, splits = webdataset.read(path, shards)
    number = {name: k for k, name in enumerate(classes)}
    labels = {name: np.array([number[c] for c in s.labels], np.int32) for name, s in splits.items()}
    sources = {name: EncodedSplit(path, s.shards, s.offsets, s.lengths, labels[name]) for name, s in splits.items()}
    return PackSource(classes, sources)


def _of_pack(pack: Pack) -> PackSource:
    if pack.format != "jpeg":
        problem = f"{pack.path} is a pack in {pack.format} format"
        raise UserError(problem, "name a folder or a pack in jpeg format", value=pack.path, allowed="jpeg")

    def source(split: PackSplit) -> EncodedSplit:
        names = split.files
        files = [names[shard] for shard in split.index["shard"]]
        offsets, lengths, labels = (split.index[name].copy() for name in ("offset", "length", "label"))
        known = {sample: (file, reason) for sample, file, reason in split.quarantine}
        return EncodedSplit(pack.path, files, offsets, lengths, labels, known)

    splits = {"train": source(pack.train)}
    if pack.test is not None:
        splits["test"] = source(pack.test)
    return PackSource(pack.classes, splits, pack.size)
