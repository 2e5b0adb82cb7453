"""The stages of the loader on the CPU: the order, reading a resident set, decoding JPEG, and the whole of a batch."""

from __future__ import annotations

import functools
import tempfile
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from rethink_fast import kernels, rng
from rethink_fast.config import Corruption, CorruptionName, Data, Model, ModelName, Run
from rethink_fast.corruptions import KINDS, PIXEL_KINDS
from rethink_fast.data import DataOptions, Dataset, load_dataset
from rethink_fast.data.preprocess import preprocess_reference
from rethink_fast.data.source import InMemoryImages
from rethink_fast.defaults import resolve
from rethink_fast.train.setup import RunContext, build_run

from ..timing import PreparedCase
from . import Case

CPU = torch.device("cpu")
IMAGES, BATCH, JPEGS, SIDE = 2000, 128, 32, 256


@functools.cache
def synthetic(dataset: str = "cifar10", limit: int = IMAGES, size: int = 28) -> Dataset:
    """A synthetic data set, made once."""
    return load_dataset(dataset, DataOptions("synthetic", size=size, max_samples=limit, workers=1))


def setup_of(corruption: CorruptionName, model: ModelName = "mlp_1x512") -> RunContext:
    """A run on it, as the command line resolves it."""
    run = Run("cifar10", Data(max_samples=IMAGES), Corruption(corruption), Model(model))
    return build_run(resolve(run, on_gpu=False, cores=1), synthetic(), CPU)


def make_order() -> PreparedCase:
    """The order of an epoch of all of ImageNet: where each of 1,281,167 samples is."""
    n, few = 1_281_167, 1000
    call = partial(kernels.order, 1, 2, n)
    expected = rng.order(1, 2, n, 0, few)
    target, source = torch.empty(n, dtype=torch.int64), torch.arange(n)
    wrong = lambda: "" if torch.equal(call()[:few], expected) else "another order"  # noqa: E731
    return PreparedCase(call, wrong, partial(target.copy_, source), "copying as many numbers", bytes=8 * n)


def make_read() -> PreparedCase:
    """Reading a batch of a set that is resident: nothing is copied until the preparation gathers."""
    images = torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8)
    resident, rows = InMemoryImages(images, CPU), torch.arange(0, 10 * BATCH, 10)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        return next(iter(resident.read([rows])))

    def wrong() -> str:
        stored, places = call()
        return "" if torch.equal(stored[places], images[rows]) else "other images"

    return PreparedCase(call, wrong, partial(images.index_select, 0, rows), "index_select")


def make_batch(corruption: CorruptionName) -> PreparedCase:
    """Order, read, corrupt, whiten, and the labels: a batch as the network takes it, beside the plain reference."""
    loader = setup_of(corruption).train
    batch = next(iter(loader.epoch(0)))
    stages, stored = loader.preprocessing, batch.images

    def plain() -> torch.Tensor:
        s = stages
        moved = (stored, batch.rows, batch.index, list(s.window), s.corruption, s.seed, s.mean, s.std, list(s.size))
        return preprocess_reference(*moved, s.crop, s.flip, s.rotation, None, s.normalisation, s.dtype)

    def wrong() -> str:
        off = (loader.preprocess(batch, None).inputs - plain()).abs().max().item()
        # whitened values are below 56 and float32 sums over 2352 of them agree to 2^-17 of that
        return "" if off <= 1e-3 else f"off by {off:.1e}"

    size = stored[0].numel() * BATCH + 4 * BATCH * stages.size[0] * stages.size[1] * 3
    return PreparedCase(partial(loader.preprocess, batch, None), wrong, plain, "reference", bytes=size)


@functools.cache
def jpegs() -> tempfile.TemporaryDirectory:
    """A folder of class folders of JPEGs with structure at every scale, as photographs have."""
    from PIL import Image

    folder = tempfile.TemporaryDirectory(prefix="rethink_fast-jpegs-")
    generator = np.random.default_rng(0)
    for k in range(JPEGS):
        values = np.zeros((SIDE, SIDE, 3))
        for side in (4, 16, 64, SIDE):
            grid = generator.normal(0, 128 / side**0.5, (side, side, 3))
            values += np.kron(grid, np.ones((SIDE // side, SIDE // side, 1)))
        path = Path(folder.name) / "train" / f"class{k % 2}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((128 + values).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def make_decode() -> PreparedCase:
    """JPEG through DALI in batches of the epoch's order, beside PIL one by one, each resized to 224."""
    from PIL import Image

    root = jpegs()
    split = load_dataset("imagenet", DataOptions(root.name, size=224, cache_images="none", workers=1)).train
    assert not split.images.resident, "there would be nothing left to decode"
    order = torch.arange(JPEGS).flip(0)
    files = sorted((Path(root.name) / "train").glob("*/*.jpg"))

    def call() -> torch.Tensor:
        images, rows = next(iter(split.images.read([order])))
        return images[rows]

    def plain() -> list[np.ndarray]:
        return [np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in files]

    def wrong() -> str:
        alone = torch.cat([images[rows] for images, rows in split.images.read(list(order.split(1)))])
        return "" if torch.equal(call(), alone) else "a batch is not what its images are alone"

    return PreparedCase(call, wrong, plain, "PIL, one by one")


def cases() -> list[Case]:
    """min_speedup: half of what two cores of an AMD EPYC gave, rounded down."""
    out = [Case("order of 1,281,167 samples", "loader", make_order)]
    out.append(Case(f"read {BATCH} resident images", "loader", make_read))
    kinds = [kind for kind in get_args(CorruptionName) if kind == "true" or KINDS[kind] in PIXEL_KINDS]
    out += [Case(f"batch of {BATCH}, {kind}", "loader", partial(make_batch, kind)) for kind in kinds]
    out.append(Case(f"decode {JPEGS} JPEGs of {SIDE}x{SIDE}", "loader", make_decode))
    return out
