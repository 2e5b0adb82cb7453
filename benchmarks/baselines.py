"""`make baselines`: this package and what one would pick instead, interleaved in one process, whatever is installed.

`python -m benchmarks.baselines [--data PATH] [--rounds N] [--seconds S] [--markdown FILE]`

Loading: CIFAR-10 from memory to shuffled batches of 128 for a network, cropped to 28 x 28, flipped at random, float32,
each image whitened (or, where a baseline cannot, scaled by fixed numbers, which is less work). It is given in images a
second of processor time, all threads added up and no worker processes, because those multiply every loader alike, by
the cores that are free. Training: images a second on the clock, with a network behind it.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from rethink_fast.compare.statistics import Estimate, estimate, log_ratios
from rethink_fast.config import Data, Model, Run, Train
from rethink_fast.data import Dataset as Source
from rethink_fast.defaults import resolve
from rethink_fast.env import cores, processor, version_of
from rethink_fast.errors import UserError
from rethink_fast.files import user_path, write_atomic
from rethink_fast.train.setup import RunContext, build_run

from .engine import Engine, make_setup
from .reference_loop import (
    BATCH,
    SIZE,
    ImageDataset,
    ReferenceLoop,
    best_workers,
    endless,
    open_cifar10,
    random_labels,
    rate,
    training_images,
)

CPU = torch.device("cpu")
OURS = "rethink_fast"
Batches = Iterator[int]
"""Gives the number of images of each batch once it is there."""


@dataclass(frozen=True)
class LoaderBaseline:
    """package: what must be installed, by its distribution's name; "" for what comes with torch. start: its batches."""

    name: str
    package: str
    start: Callable[[np.ndarray, np.ndarray], Batches]


class Plain(Dataset):
    """PIL images, as a map-style data set has them, through a transform."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Any], Any]) -> None:
        self.images, self.labels, self.transform = images, [int(label) for label in labels], transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def repeated(loader: Any) -> Batches:
    """Epoch after epoch of something that gives (inputs, labels)."""
    for inputs, _ in itertools.chain.from_iterable(itertools.repeat(loader)):
        yield len(inputs)


def pil(images: np.ndarray, labels: np.ndarray) -> Batches:
    """The data set of the reference loop; it does not flip."""
    return repeated(DataLoader(ImageDataset(images, labels), BATCH, shuffle=True))


def torchvision(images: np.ndarray, labels: np.ndarray) -> Batches:
    from torchvision.transforms import v2

    steps = [v2.ToImage(), v2.CenterCrop(SIZE), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize([0.5] * 3, [0.25] * 3)])
    return repeated(DataLoader(Plain(images, labels, transform), BATCH, shuffle=True))


def timm(images: np.ndarray, labels: np.ndarray) -> Batches:
    from timm.data import create_loader

    dataset = Plain(images, labels, lambda image: image)
    size = (3, SIZE, SIZE)
    options = {"is_training": True, "use_prefetcher": False, "no_aug": True, "hflip": 0.5, "num_workers": 0}
    return repeated(create_loader(dataset, size, BATCH, device=CPU, persistent_workers=False, **options))


def dali(images: np.ndarray, labels: np.ndarray) -> Batches:
    """DALI's own random operators in a graph."""
    library = importlib.import_module("nvidia.dali")
    fn, types = library.fn, library.types
    generator = np.random.default_rng(0)

    def source() -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        while True:
            for rows in np.array_split(generator.permutation(len(images)), len(images) // BATCH):
                yield list(images[rows[:BATCH]]), labels[rows[:BATCH]]

    def pipeline() -> Any:
        pictures, targets = fn.external_source(
            source(), num_outputs=2, dtype=[types.UINT8, types.INT64], layout=["HWC", ""]
        )
        flipped = fn.flip(fn.crop(pictures, crop=(SIZE, SIZE)), horizontal=fn.random.coin_flip())
        return fn.transpose(fn.normalize(fn.cast(flipped, dtype=types.FLOAT), axes=[0, 1, 2]), perm=[2, 0, 1]), targets

    options = {"batch_size": BATCH, "num_threads": cores(), "device_id": None, "prefetch_queue_depth": 2}
    made = library.pipeline_def(**options)(pipeline)()
    made.build()
    while True:
        inputs, _ = made.run()
        yield len(torch.from_numpy(inputs.as_array()))


def ffcv(images: np.ndarray, labels: np.ndarray) -> Batches:
    raise NotImplementedError("installed, but not timed: it wants the images in a separate file first")


BASELINES = (
    LoaderBaseline("PIL and a DataLoader", "", pil),
    LoaderBaseline("torchvision.transforms.v2 and a DataLoader", "torchvision", torchvision),
    LoaderBaseline("timm's create_loader", "timm", timm),
    LoaderBaseline("DALI's own operators", "nvidia-dali-cuda130", dali),
    LoaderBaseline("FFCV", "ffcv", ffcv),
)


def ours(setup: RunContext) -> Batches:
    """The engine's own way of the data, without the network."""
    loader = setup.train
    for epoch in itertools.count():
        for batch in loader.epoch(epoch):
            yield len(loader.preprocess(batch, epoch).inputs)


def per_core(batches: Batches, seconds: float) -> float:
    """Images a second of processor time, over so many of them."""
    images, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds or not images:
        images += next(batches)
    return images / spent


@dataclass(frozen=True)
class Row:
    """One side of a table: images a second, and how many times as fast ours is; None for ours itself."""

    name: str
    images_per_second: float
    ours_over: Estimate | None


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def interleaved(sides: dict[str, Callable[[], float]], rounds: int) -> list[Row]:
    """Each side once a round, ours first in the table; the ratios are of neighbours in time."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            found[name].append(sides[name]())
    rows = []
    for name, rates in found.items():
        logs = log_ratios([(1 / a, 1 / b) for a, b in zip(found[OURS], rates, strict=True)])
        rows.append(Row(name, median(rates), None if name == OURS else estimate(logs)))
    return rows


def loading(
    source: Source, images: np.ndarray, labels: np.ndarray, rounds: int, seconds: float
) -> tuple[list[Row], list[str]]:
    """The table of loaders, and a line for each baseline that is not in it."""
    run = Run("cifar10", Data(), model=Model("mlp_1x512"), train=Train(augment=("flip",)))
    batches = {OURS: ours(build_run(resolve(run, on_gpu=False, cores=cores()), source, CPU))}
    absent = []
    for baseline in BASELINES:
        if baseline.package and version_of(baseline.package) is None:
            absent.append(f"{baseline.name}: {baseline.package} is not installed")
            continue
        try:
            started = baseline.start(images, labels)
            next(started)
        except (ImportError, NotImplementedError, RuntimeError) as error:  # the last: built for another torch
            absent.append(f"{baseline.name}: {error}")
            continue
        package = baseline.package or "pillow"
        batches[f"{baseline.name} ({package} {version_of(package)})"] = started
    return interleaved({name: partial(per_core, each, seconds) for name, each in batches.items()}, rounds), absent


def training(source: Source, images: np.ndarray, labels: np.ndarray, rounds: int, seconds: float) -> list[Row]:
    """The engine beside the plain loop, with random labels."""
    engine = Engine(make_setup(source, "mlp_1x512", "random", CPU))
    workers = next(iter(best_workers("mlp_1x512", images, labels, seconds=seconds, device=CPU)))
    steps = endless(ReferenceLoop("mlp_1x512", images, labels, workers=workers))
    next(steps)
    name = f"the plain torch loop (benchmarks/reference_loop.py), {workers} worker(s)"
    return interleaved({OURS: partial(engine.slice, seconds), name: partial(rate, steps, seconds, CPU)}, rounds)


def cells(row: Row) -> tuple[str, str, str]:
    if row.ours_over is None:
        return row.name, f"{row.images_per_second:,.0f}", "1"
    found = row.ours_over
    return row.name, f"{row.images_per_second:,.0f}", f"{found.ratio:.1f} ({found.low:.1f} - {found.high:.1f})"


def markdown(tables: dict[str, list[Row]], notes: list[str]) -> str:
    """The tables for the README."""
    lines = []
    for title, rows in tables.items():
        lines += [f"| {title} | images/s | ours is so many times as fast |", "| --- | ---: | ---: |"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows] + [""]
    return "\n".join([*lines, *notes]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="auto", help="CIFAR-10, in any form that rethink-fast reads")
    parser.add_argument("--rounds", type=int, default=9, help="at least 8, for an interval")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each side in a round")
    parser.add_argument("--markdown", type=user_path, help="write the tables to this file")
    given = parser.parse_args()
    source = open_cifar10(given.data, CPU)
    images = training_images(source)
    labels = random_labels(len(images))
    loaders, absent = loading(source, images, labels, given.rounds, given.seconds)
    day = time.strftime("%Y-%m-%d")
    tables = {
        "loading, a second of processor time": loaders,
        "training, mlp_1x512, a second on the clock": training(source, images, labels, given.rounds, given.seconds),
    }
    where = f"{day}, {processor()}, {cores()} cores, on the CPU; torch {torch.__version__}, {len(images):,} images"
    notes = [where, *(f"absent: {line}" for line in absent)]
    console = Console(highlight=False)
    for title, rows in tables.items():
        table = Table(title, "images/s", "ours is so many times as fast", header_style="bold")
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
    for note in notes:
        console.print(note)
    if given.markdown is not None:
        write_atomic(given.markdown, markdown(tables, notes))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"baselines: {error}")
