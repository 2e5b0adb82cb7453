"""Reading photographs: from class folders and from packs, whole and in windows, and the parts of decoding them.

A call reads every photograph once, in one thread. Baselines have no worker processes: their processor time would not be
counted.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from rethink_fast.data import DataOptions, dali, layout, load_dataset
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.data.preprocess import Preprocessing, preprocess
from rethink_fast.data.source import Images
from rethink_fast.data.tree import FolderTree
from rethink_fast.pack import write

from ..timing import PreparedCase
from . import Case

SIZE, BATCH = 299, 64
IMAGES, RAW_IMAGES = 192, 1600
"""Photographs of a call; of the raw pack more, 429 MB, which no cache holds."""
OPTIONS = DataOptions(size=SIZE, workers=1, cache_images="none")
Read = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Reads every image once; gives images and rows as source.Images.read does."""
Way = Callable[[Path], Read]
"""A way of reading the photographs of a folder."""


@functools.cache
def place() -> tempfile.TemporaryDirectory:
    """Where links and packs are, until the process ends."""
    return tempfile.TemporaryDirectory(prefix="rethink_fast-photographs-")


@functools.cache
def linked(folder: Path, count: int) -> ImageFiles:
    """Links to so many photographs, from the first to the last of the folder, repeated where there are fewer."""
    at, files, _ = layout.find(FolderTree(folder)).train
    root = Path(tempfile.mkdtemp(dir=place().name))
    for k in range(count):
        file = Path(files[k * (len(files) - 1) // (count - 1)])
        link = root / file.parent / f"{k:05}-{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((folder / at / file).absolute())
    return ImageFiles(root, layout.find(FolderTree(root)).train[1])


def opened(path: Path) -> Images:
    """As a run opens it."""
    return load_dataset("imagenet", replace(OPTIONS, path=str(path))).train.images


@functools.cache
def packed(folder: Path, form: str, size: int | None, count: int) -> Images:
    """The photographs in a pack."""
    root = linked(folder, count).root
    plan = write.plan(root, root.with_name(f"{root.name}-{form}-{size}"), format=form, size=size)
    return opened(write.write(plan, workers=1, progress=None).path)


def batches(count: int = IMAGES) -> list[Tensor]:
    """Samples in another order than the files have."""
    return list(torch.randperm(count, generator=torch.Generator().manual_seed(0)).split(BATCH))


def in_order(images: Callable[[Tensor], Tensor]) -> Read:
    """images: gives those of a batch of samples."""
    return lambda: ((images(index), torch.arange(len(index))) for index in batches())


def from_folder(folder: Path, count: int = IMAGES) -> Read:
    return partial(opened(linked(folder, count).root).read, batches(count))


def from_pack(folder: Path, size: int | None) -> Read:
    return partial(packed(folder, "jpeg", size, IMAGES).read, batches())


def by_pil(folder: Path) -> Read:
    """The same crop and filter by PIL, one by one."""
    files = linked(folder, IMAGES)

    def image(sample: int) -> Tensor:
        with Image.open(files.name(sample)) as photograph:
            width, height = photograph.size
            left, top = (1 - dali.CROP) / 2 * width, (1 - dali.CROP) / 2 * height
            box = (left, top, width - left, height - top)
            resized = photograph.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
        return torch.from_numpy(np.array(resized))

    return in_order(lambda index: torch.stack([*map(image, index.tolist())]))


def centres_of_whole(folder: Path) -> Read:
    """All of an image is decoded, and then cut to its centre."""
    images = JpegImages(linked(folder, IMAGES), OPTIONS)
    images._decoder = dali.Decoder(dali.whole_then_centre, threads=1)
    return partial(images.read, batches())


def windows(folder: Path) -> Read:
    """Random windows, and nothing around them is decoded."""
    return partial(JpegImages(linked(folder, IMAGES), OPTIONS).read_crops, batches(), seed=0, epoch=0)


def windows_of_whole(folder: Path) -> Read:
    """All of an image is decoded, and then cut to the same window."""
    from nvidia.dali import fn

    def graph(encoded: Any, start: Any, shape: Any) -> Any:
        return fn.slice(dali.whole(encoded), start=start, shape=shape, axis_names="HW")

    images = JpegImages(linked(folder, IMAGES), OPTIONS)
    images._crop_decoder = dali.Decoder(graph, threads=1, windows=True)
    return partial(images.read_crops, batches(), seed=0, epoch=0)


def decoded_jpegs(folder: Path) -> Read:
    """The JPEGs of a pack at the size, decoded from memory."""
    images = packed(folder, "jpeg", SIZE, IMAGES)
    assert isinstance(images, JpegImages)
    return in_order(lambda index: torch.stack([*next(dali.decode(images.encoded(index), workers=1))]))


def part(folder: Path, graph: Callable[[Any], Any]) -> Read:
    """DALI alone, the files in memory. graph: gives an array of one size for all images."""
    files, decoder = linked(folder, IMAGES), dali.Decoder(graph, threads=1)
    encoded = [files.read(k) for k in range(IMAGES)]

    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for output, index in decoder.run(([encoded[k] for k in samples], samples.numpy()) for samples in batches()):
            yield from_dlpack(output.as_tensor()), torch.arange(len(index))

    return read


def first_bytes(folder: Path) -> Read:
    files = linked(folder, IMAGES)
    return in_order(lambda index: torch.from_numpy(np.stack([files.read(k)[:1] for k in index.tolist()])))


def mapped(folder: Path) -> Read:
    """A raw pack, in the file's memory."""
    return partial(packed(folder, "npy", SIZE, RAW_IMAGES).read, batches(RAW_IMAGES))


def held(folder: Path) -> Read:
    """The same images in memory, in the order in which they are read."""
    everything = [images[rows] for images, rows in mapped(folder)()]
    return lambda: ((images, torch.arange(len(images))) for images in everything)


def gathered(folder: Path, way: Way) -> Read:
    """Every batch is copied into the same place."""
    target, read = np.zeros((BATCH, SIZE, SIZE, 3), np.uint8), way(folder)

    def copies() -> Iterator[tuple[Tensor, Tensor]]:
        for images, rows in read():
            np.take(images.numpy(), rows.numpy(), axis=0, out=target[: len(rows)], mode="clip")
            yield torch.from_numpy(target), torch.arange(len(rows))

    return copies


def copied(folder: Path) -> Read:
    """As gathered, of images that need no gathering."""
    target, read = torch.zeros(BATCH, SIZE, SIZE, 3, dtype=torch.uint8), held(folder)
    return lambda: ((target[: len(rows)].copy_(images), rows) for images, rows in read())


def prepared(folder: Path, way: Way) -> Read:
    """Every batch is prepared for the network."""
    read, stages = way(folder), Preprocessing((0, 0, SIZE, SIZE), "", 0, (SIZE, SIZE), normalisation="unit_range")
    return lambda: (
        (preprocess(images, rows, rows, stages, epoch=None), torch.arange(len(rows))) for images, rows in read()
    )


def make(folder: Path, ours: Way, baseline: Way, name: str, reference: Way | None) -> PreparedCase:
    """reference: gives the pixels that ours must give, bit for bit; None: the baseline does."""
    read, other = ours(folder), baseline(folder)
    expected = reference(folder) if reference is not None else other

    def wrong() -> str:
        for (images, rows), (right, places) in zip(read(), expected(), strict=True):
            if not torch.equal(images[rows], right[places]):
                return "other values than the reference gives"
        return ""

    return PreparedCase(partial(drain, read), wrong, partial(drain, other), name)


def drain(read: Read) -> None:
    for _ in read():
        pass


def cases(folder: Path) -> list[Case]:
    """The last three are parts of the first, whose speed over it says how much of its time they take."""
    whole_shape = partial(part, graph=lambda data: dali.whole(data).shape())
    centre_shape = partial(part, graph=lambda data: dali.decoding(None, crop=True)(data).shape())
    feed, header = partial(part, graph=lambda data: data[0:1]), partial(part, graph=dali.shape_of)
    whole_centre_shape = partial(part, graph=lambda data: dali.whole_then_centre(data).shape())
    raw = partial(from_folder, count=RAW_IMAGES)
    rows: list[tuple[str, Way, Way, str, Way | None]] = [
        ("folder", from_folder, by_pil, "PIL, one by one", centres_of_whole),
        ("centres", from_folder, centres_of_whole, "whole, then cut", None),
        ("windows", windows, windows_of_whole, "whole, then cut", None),
        ("windows", windows, from_folder, "centres", windows_of_whole),
        ("pack of originals", partial(from_pack, size=None), from_folder, "folder", None),
        ("pack at the size", partial(from_pack, size=SIZE), from_folder, "folder", decoded_jpegs),
        ("raw pack, gathered", partial(gathered, way=mapped), copied, "copy", raw),
        ("raw pack, prepared", partial(prepared, way=mapped), partial(prepared, way=held), "from memory", None),
        ("feeding DALI", feed, from_folder, "folder", first_bytes),
        ("feeding and decoding whole", whole_shape, from_folder, "folder", header),
        ("feeding and decoding centres", centre_shape, from_folder, "folder", whole_centre_shape),
    ]
    return [
        Case(f"photographs: {name} / {rival}", "loader", partial(make, folder, ours, baseline, rival, reference))
        for name, ours, baseline, rival, reference in rows
    ]
