"""ImageNet's part of gpu-check: Inception V3 at 299 px in bfloat16, from memory, from a .npy, from files and packs.

Images in the device's memory and decoded ones in a .npy need no decoder; files and packs need DALI.

The images of files are made up, in the sizes that are the most frequent among ImageNet's photographs and, like those,
of about 0.59 bytes a pixel as JPEG. Of each source stand the loader's rate alone, the model's on one prepared batch,
and both together; targets are 4,900 images/s on an H100 and 5,800 on an H200, a loader at least twice the model, and
98 % of it together.
"""

from __future__ import annotations

import io
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, Dataset, InMemoryImages, Split, load_dataset
from rethink_fast.data.npy_images import open_mapped
from rethink_fast.defaults import resolve
from rethink_fast.env import cores
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.throughput import loader_rate, model_rate, training_flops

from .engine import Engine

SIZES = ((500, 375),) * 8 + ((500, 333),) * 3 + ((375, 500),) * 2 + ((333, 500),)
"""Width and height: 102 of 200 photographs have one of these four, in about these shares."""
CLASSES, GRID, NOISE, QUALITY = 1000, 24, 22.0, 90
SECONDS = 8.0
EPOCH = 40_000
"""Samples of an epoch at least, each image several times: between two epochs the decoder runs empty, and the share of
that time in an epoch of few batches is more than the target leaves."""


@dataclass(frozen=True)
class Scale:
    """How many images of which size, and samples of an epoch at least: the paper's on a GPU; on a CPU, which only tries
    the code, far less."""

    images: int
    size: int
    batch_size: int
    epoch: int = 0


FULL = Scale(4096, 299, 128, EPOCH)


@dataclass(frozen=True)
class Result:
    """Rates in images a second of training; share_of_matrix: of the FLOP/s of a large product in bfloat16."""

    source: str
    loader: float
    model: float
    combined: float
    share_of_matrix: float


def photograph(number: int) -> bytes:
    """A JPEG of smooth colours and grain, a function of its number."""
    from PIL import Image  # which a machine with torch alone may lack

    generator = np.random.default_rng(number)
    width, height = SIZES[number % len(SIZES)]
    smooth = Image.fromarray(generator.integers(0, 256, (GRID, GRID, 3), np.uint8)).resize((width, height))
    grain = generator.normal(0.0, NOISE, (height, width, 3))
    image = Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _write(root: str, number: int) -> None:
    folder = Path(root) / "train" / f"n{number % CLASSES:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.JPEG").write_bytes(photograph(number))


def noise(scale: Scale) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, size, size, 3] and labels int64 [N], on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shape = (scale.images, scale.size, scale.size, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images, torch.arange(scale.images) % CLASSES


def measure_resident(scale: Scale, device: torch.device, matrix_rate: float, seconds: float = SECONDS) -> list[Result]:
    """From the device's memory: a loader that only gathers and prepares."""
    return [_rates(f"resident, batches of {scale.batch_size}", resident(scale, device), matrix_rate, seconds)]


def resident(scale: Scale, device: torch.device) -> RunContext:
    """Set up the run of measure_resident."""
    return _setup(scale, in_memory(scale, device), device, None)


def in_memory(scale: Scale, device: torch.device) -> Dataset:
    """Return noise with 1,000 classes in the device's memory."""
    images, labels = noise(scale)
    return _dataset(InMemoryImages(images, device), labels, scale)


def measure_npy(scale: Scale, device: torch.device, matrix_rate: float, seconds: float = SECONDS) -> list[Result]:
    """From a .npy by memory map, as an npy pack is read."""
    images, labels = noise(scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images.numpy())
        del images
        setup = _setup(scale, _dataset(open_mapped(path, device), labels, scale), device, None)
        return [_rates(f".npy, batches of {scale.batch_size}", setup, matrix_rate, seconds)]


def _dataset(images: Any, labels: torch.Tensor, scale: Scale) -> Dataset:
    split = Split(images, labels, torch.arange(len(labels)))
    classes = tuple(str(number) for number in range(CLASSES))
    return repeated(Dataset("imagenet", "noise", classes, split, None, sample="noise"), scale.epoch)


def measure_decoded(scale: Scale, device: torch.device, matrix_rate: float, seconds: float = SECONDS) -> list[Result]:
    """From JPEG files and both forms of pack, with one network and one compiled step. Raises UserError without DALI."""
    from rethink_fast.pack import write

    found: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with ProcessPoolExecutor(cores()) as pool:
            list(pool.map(_write, [str(root / "files")] * scale.images, range(scale.images), chunksize=64))
        places = {"files": root / "files"}
        for format in ("jpeg", "npy"):
            places[f"{format} pack"] = root / format
            made = write.plan(root / "files", root / format, format=format, size=scale.size)
            write.write(made, workers=cores(), progress=None)
        setup: RunContext | None = None
        for source, place in places.items():
            setup = _setup(scale, repeated(_open(place, scale, device), scale.epoch), device, setup)
            found.append(_rates(source, setup, matrix_rate, seconds))
    return found


def _open(place: Path, scale: Scale, device: torch.device) -> Dataset:
    return load_dataset("imagenet", DataOptions(str(place), size=scale.size, cache_images="none", device=device))


def repeated(dataset: Dataset, samples: int) -> Dataset:
    """The set with each training image as often as it takes for so many samples, one after another."""
    index = dataset.train.index
    times = max(1, -(-samples // len(index)))
    return replace(dataset, train=replace(dataset.train, index=index.repeat_interleave(times)))


def _setup(scale: Scale, dataset: Dataset, device: torch.device, like: RunContext | None) -> RunContext:
    run = Run(
        "imagenet",
        Data(size=scale.size),
        Corruption("random"),
        Model("inception_v3"),
        Train(batch_size=scale.batch_size, compile="on" if device.type == "cuda" else "off"),
    )
    return build_run(resolve(run, on_gpu=device.type == "cuda", cores=cores()), dataset, device, like=like)


def _rates(source: str, setup: RunContext, matrix_rate: float, seconds: float) -> Result:
    engine = Engine(setup)
    combined = engine.slice(seconds)
    flops, images = training_flops(setup)
    return Result(
        source=source,
        loader=loader_rate(setup),
        model=model_rate(setup),
        combined=combined,
        share_of_matrix=combined * flops / images / matrix_rate,
    )


def table(found: list[Result]) -> str:
    """One line a source."""
    lines = [f"{'inception_v3, images/s':24}  {'loader':>8}  {'model':>8}  {'both':>8}  of model  of matrix"]
    for result in found:
        lines.append(
            f"{result.source:24}  {result.loader:8,.0f}  {result.model:8,.0f}  {result.combined:8,.0f}  "
            f"{result.combined / result.model:8.1%}  {result.share_of_matrix:9.1%}"
        )
    return "\n".join(lines)
