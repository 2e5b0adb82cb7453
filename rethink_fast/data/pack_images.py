"""A pack opened as a data set: JPEGs by memory map into the decoder, decoded images by memory map.

The images equal those of the folder, sample by sample, as far as the format keeps them: bit-exact from the original
bytes and from npy; from re-encoded JPEGs, what JPEG makes of those.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, bad_path, unreadable
from . import damaged as damaged_files
from . import pack_format, pack_verify
from .jpeg_images import JpegImages
from .npy_images import RESTORE, open_mapped
from .options import DataOptions
from .pack_format import Pack, PackSplit
from .registry import OWN
from .source import Dataset, Images, Split, square_note, subset


def load(dataset: str, path: Path, options: DataOptions) -> Dataset:
    """Open a pack as a data set of this name; every byte is checked the first time. Raises UserError.

    imagenet takes images at options.size, or original bytes, which it resizes as from a folder. The others take images
    of one size.
    """
    pack = pack_format.read_pack(path)
    pack_verify.check(pack, workers=options.threads, progress=options.progress)
    shape = _as_they_are(dataset, pack, options.input_size, options.crop_margin)

    def split(name: str, packed: PackSplit) -> Split:
        index = subset(len(packed.index), options.max_samples)
        taking = set(index.tolist())
        bad = [(sample, reason) for sample, _, reason in packed.quarantine if sample in taking]
        names = {sample: file for sample, file, _ in packed.quarantine}
        if bad and options.on_decode_error == "raise":
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            problem = f"{path} was packed without {names[bad[0][0]]} ({bad[0][1]}){more}"
            fix = "skip it with --on-decode-error skip, or replace it and pack again"
            raise UserError(problem, fix, option="--on-decode-error", value=path)
        index, named = damaged_files.drop_samples(path, names, index, bad, options.on_decode_error)
        images: Images
        if pack.format == "npy":
            images = open_mapped(path / packed.files[0], options.device)
        else:
            images = JpegImages(PackedBytes(path, packed), options, shape=shape)
        return Split(images, torch.from_numpy(packed.index["label"].astype(np.int64)), index, named)

    train = split("train", pack.train)
    test = split("test", pack.test) if pack.test is not None else None
    notes = [] if test else [f"{path} has no test images: there is no test accuracy"]
    if shape is not None:
        notes += square_note(*shape, options.size)
    return Dataset(dataset, f"{pack.format} pack {path.absolute()}", pack.classes, train, test, tuple(notes))


def read_own(path: Path) -> tuple[Pack, tuple[int, int, int]]:
    """Return a pack of images of one size, and their height, width and channels. Raises UserError."""
    if not pack_format.is_pack(path):
        raise bad_path(path, "is no pack", "write one by rethink_fast.pack_dataset or rethink-fast pack, and name it")
    pack = pack_format.read_pack(path)
    height, width = _of_one_size(OWN, pack)
    lengths = pack.train.index["length"]
    channels = 3 if pack.format == "jpeg" else int(lengths.max()) // (height * width)
    return pack, (height, width, channels)


def _as_they_are(dataset: str, pack: Pack, size: int, margin: bool) -> tuple[int, int] | None:
    """Height and width of images that are taken as the pack has them; None where the decoder brings them to `size`."""
    path = pack.path
    if dataset == "imagenet":
        if pack.size is None and pack.format == "jpeg":
            return None
        if margin:
            problem = f"{path} holds the centers of the images, and random crops need the whole"
            fix = "use a pack in jpeg format made without --size, or the folder"
            raise UserError(problem, fix, option="--augment", value=path)
        if pack.size != size:
            held = f"at {pack.size} pixels" if pack.size is not None else "decoded at their own size"
            what = f"use --size {pack.size}, or a" if pack.size is not None else "use a"
            problem = f"{path} holds images {held}, not at --size {size}"
            raise UserError(problem, f"{what} pack made with --size {size}", option="--size", value=size)
        return size, size
    return _of_one_size(dataset, pack)


def _of_one_size(dataset: str, pack: Pack) -> tuple[int, int]:
    rows = np.concatenate([split.index for split in pack.splits])
    shapes = np.unique(rows[["height", "width"]][rows["length"] > 0])
    if len(shapes) != 1:
        problem = f"{pack.path} holds images of {len(shapes)} sizes, and {dataset} takes one"
        raise UserError(problem, "open it as imagenet, or pack with --size", option="--size", value=pack.path)
    return int(shapes[0]["height"]), int(shapes[0]["width"])


class PackedBytes:
    """The encoded images of a pack, read by memory map."""

    def __init__(self, path: Path, split: PackSplit) -> None:
        self.root, self._rows, self._names = path, split.index, split.files
        # Not NumPy's or Python's own map, which holds a file descriptor for each shard: there may be thousands.
        self._maps = [_mapped(path / name) for name in self._names]

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, sample: int) -> np.ndarray:
        """Return the bytes of a sample, uint8 [n]."""
        shard, offset, length, *_ = self._rows[sample].tolist()
        # The copy costs little next to the decoding, and lets many threads wait for the disk, not the one that feeds.
        return self._maps[shard][offset : offset + length].copy()

    def name(self, sample: int) -> str:
        """Return what a message calls a sample."""
        return f"sample {sample} in {self.root / self._names[self._rows[sample]['shard']]}"


def _mapped(path: Path) -> np.ndarray:
    try:
        size = path.stat().st_size
        mapped: Tensor = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except (OSError, RuntimeError) as error:
        raise unreadable(path, error, RESTORE) from None
    return mapped.numpy()
