"""How fast images come: from files, from packs, and beside a DataLoader with PIL, interleaved in one process.

`python -m benchmarks.bench_data --data FOLDER [--size 299] [--batch-size 64] [--rounds 5] [--json FILE]`

FOLDER holds class folders of photographs. Each round reads the same images by every way, one after another, from the
asking for the first batch to having the last, nothing done ahead; a ratio is that of neighbours within a round. The
ways have as many threads, or processes, as there are cores. A raw pack is not decoded but copied: it is compared with a
copy of as many bytes that are in memory, batch by batch into the same place, and over a set that no cache holds.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from rethink_fast.data import DataOptions, Split, dali, layout, pack_images
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.jpeg_images import JpegImages, resized
from rethink_fast.data.preprocess import Preprocessing, prepare
from rethink_fast.data.tree import FolderTree
from rethink_fast.env import cores, environment
from rethink_fast.errors import UserError
from rethink_fast.files import user_path, write_json
from rethink_fast.pack import write

CPU = torch.device("cpu")
IMAGES = 1200
"""Read in each turn."""
RAW_IMAGES = 1600
"""Of the raw set: 429 MB at 299 pixels."""
WARM_UP = 1

Way = Callable[[], int]
"""Read everything once and return the number of images."""


class PilImages(torch.utils.data.Dataset[np.ndarray]):
    """The same crop and filter by PIL: what a plain loader does for each sample."""

    def __init__(self, root: Path, files: Sequence[str], size: int) -> None:
        self.root, self.files, self.size = root, files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> np.ndarray:
        with Image.open(self.root / self.files[k]) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        left, top = (1 - dali.CROP) / 2 * width, (1 - dali.CROP) / 2 * height
        box = (left, top, width - left, height - top)
        return np.array(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def interleaved(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Of every way its images a second, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM_UP + rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            images = way()
            if number >= WARM_UP:
                rates[name].append(images / (time.perf_counter() - start))
    return rates


def over(one: list[float], other: list[float]) -> dict[str, float]:
    return spread([a / b for a, b in zip(one, other, strict=True)])


def order(n: int, total: int, batch_size: int) -> tuple[Tensor, ...]:
    """Batches of samples, all of them again and again, each time in another order."""
    generator = torch.Generator().manual_seed(0)
    passes = [torch.randperm(n, generator=generator) for _ in range(-(-total // n))]
    return torch.cat(passes)[:total].split(batch_size)


def reading(split: Split, batches: Sequence[Tensor]) -> int:
    return sum(len(rows) for _, rows in split.images.read(batches))


def loading(loader: DataLoader[Any]) -> int:
    return sum(len(batch) for batch in loader)


def pack(src: Path, dest: Path, form: str, size: int | None) -> Path:
    return write.write(write.plan(src, dest, format=form, size=size), workers=cores(), progress=None).path


def opened(path: Path, size: int) -> Split:
    return pack_images.load("imagenet", path, DataOptions(size=size)).train


def training_files(src: Path) -> tuple[Path, list[str]]:
    """The folder of the training images, and their files below it."""
    folder, files, _ = layout.find(FolderTree(src)).train
    return src / folder, files


def decoding(src: Path, place: Path, size: int, batch_size: int, rounds: int) -> dict[str, Any]:
    root, files = training_files(src)
    batches = order(len(files), IMAGES, batch_size)
    samplers = [batch.tolist() for batch in batches]
    loader = DataLoader(
        PilImages(root, files, size),
        batch_sampler=samplers,
        num_workers=cores(),
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    folder = JpegImages(ImageFiles(root, files), DataOptions(size=size))
    index, labels = torch.arange(len(files)), torch.zeros(len(files), dtype=torch.int64)
    originals = opened(pack(src, place / "originals", "jpeg", None), size)
    encoded = opened(pack(src, place / "encoded", "jpeg", size), size)
    ways: dict[str, Way] = {
        "PIL": functools.partial(loading, loader),
        "folder": functools.partial(reading, Split(folder, labels, index), batches),
        "originals": functools.partial(reading, originals, batches),
        "encoded": functools.partial(reading, encoded, batches),
    }
    rates = interleaved(ways, rounds)
    return {
        "images_per_second": {name: spread(each) for name, each in rates.items()},
        "folder over PIL": over(rates["folder"], rates["PIL"]),
        "pack of originals over folder": over(rates["originals"], rates["folder"]),
        "pack at the size over folder": over(rates["encoded"], rates["folder"]),
    }


def parts_of_decoding(src: Path, size: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """What the time goes into: images a second of the pipeline cut off after each of its parts."""
    root, files = training_files(src)
    encoded = [np.fromfile(root / file, np.uint8) for file in files]

    def centre(data: Any) -> Any:
        return dali._image(data, crop=True)

    graphs: dict[str, Callable[[Any], Any]] = {
        "feeding": lambda data: data[0:1],
        "and decoding the whole": lambda data: dali.whole(data).shape(),
        "or decoding the centre": lambda data: centre(data).shape(),
        "and resizing that": centre,
    }

    def run(decoder: dali.Decoder, resize: bool) -> int:
        feeds = (([encoded[k] for k in part], part.numpy()) for part in order(len(files), IMAGES, batch_size))
        done = 0
        for output, index in decoder.run(feeds):
            if resize:
                resized(output, (size, size), pool, cores())
            done += len(index)
        return done

    ways: dict[str, Way] = {}
    for name, graph in graphs.items():
        ways[name] = functools.partial(run, dali.Decoder(graph, threads=cores()), graph is centre)
    with ThreadPoolExecutor(cores()) as pool:
        return {name: spread(rates) for name, rates in interleaved(ways, rounds).items()}


def copying(src: Path, place: Path, size: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """A raw pack against memory: gathered into one place, and prepared for the network."""
    split = opened(pack(_repeated(src, place / "many"), place / "raw", "npy", size), size)
    count = len(split.index)
    batches = order(count, count, batch_size)
    held = next(iter(split.images.read([split.index])))[0].clone()
    target = torch.zeros((batch_size, size, size, 3), dtype=torch.uint8)
    how = Preprocessing((0, 0, size, size), "", 0, (size, size), normalisation="unit_range")

    def gather() -> int:
        for images, rows in split.images.read(batches):
            np.take(images.numpy(), rows.numpy(), axis=0, out=target[: len(rows)].numpy(), mode="clip")
        return count

    def copy(one: Callable[[Tensor, Tensor], object]) -> int:
        for part in held.split(batch_size):
            one(target[: len(part)], part)
        return count

    def prepared(pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> int:
        for (images, rows), index in zip(pairs(), batches, strict=True):
            prepare(images, rows, index, how, epoch=None)
        return count

    ways: dict[str, Way] = {
        "gather": gather,
        "copy by torch": functools.partial(copy, Tensor.copy_),
        "copy by numpy": functools.partial(copy, lambda into, part: np.copyto(into.numpy(), part.numpy())),
        "prepare mapped": functools.partial(prepared, lambda: split.images.read(batches)),
        "prepare held": functools.partial(prepared, lambda: iter([(held, index) for index in batches])),
    }
    rates = interleaved(ways, rounds)
    fastest = [max(pair) for pair in zip(rates["copy by torch"], rates["copy by numpy"], strict=True)]
    row = size * size * 3
    return {
        "bytes_per_second": {name: spread([row * rate for rate in each]) for name, each in rates.items()},
        "raw pack, gathered, over the faster copy": over(rates["gather"], fastest),
        "prepared from the raw pack over from memory": over(rates["prepare mapped"], rates["prepare held"]),
    }


def _repeated(src: Path, place: Path) -> Path:
    """The photographs under as many names as make RAW_IMAGES of them."""
    root, files = training_files(src)
    for k in range(RAW_IMAGES):
        file = Path(files[k % len(files)])
        link = place / file.parent / f"{k // len(files):03}-{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink((root / file).absolute(), link)
    return place


def show(found: dict[str, Any], console: Console) -> None:
    """The tables, for people."""

    def table(title: str, rows: dict[str, dict[str, float]], form: str) -> None:
        made = Table("", "median", "least", "greatest", title=title)
        for name, values in rows.items():
            made.add_row(name, *(format(value, form) for value in values.values()))
        console.print(made)

    at = f"{found['size']} px, batches of {found['batch_size']}, {found['environment']['cores']} cores"
    table(f"images/s, {at}", found["decoding"].pop("images_per_second"), ",.0f")
    table("times", found["decoding"], ".2f")
    table("images/s of the pipeline, cut off after", found["parts"], ",.0f")
    rates = {name: {k: v / 1e9 for k, v in each.items()} for name, each in found["raw"].pop("bytes_per_second").items()}
    table("GB/s of images, a raw pack", rates, ".2f")
    table("times", found["raw"], ".2f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=user_path, help="class folders of photographs")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=user_path, help="write everything measured to this file")
    arguments = parser.parse_args()
    rest = arguments.size, arguments.batch_size, arguments.rounds
    torch.set_num_threads(cores())
    found: dict[str, Any] = {"size": arguments.size, "batch_size": arguments.batch_size}
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        found["decoding"] = decoding(arguments.data, Path(place), *rest)
        found["parts"] = parts_of_decoding(arguments.data, *rest)
        found["raw"] = copying(arguments.data, Path(place), *rest)
    found["environment"] = environment()
    if arguments.json is not None:
        write_json(arguments.json, found)
    show(found, Console(highlight=False))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench_data: {error}")
