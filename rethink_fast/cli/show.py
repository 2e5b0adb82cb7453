"""`rethink-fast show`: some training samples under every corruption, by the very way of the data that a run takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from cyclopts import Parameter
from rich.console import Console
from torch import Tensor

from ..bench.console import ConsoleProgress
from ..config import (
    DEFAULTS,
    AugmentName,
    Corruption,
    CorruptionName,
    Data,
    DatasetName,
    ResolvedRun,
    Run,
    Train,
    resolve,
)
from ..corruptions import KINDS, alias_of, corrupted_mask, partially_corrupted_labels
from ..data import DataOptions, Dataset, load_dataset, subset
from ..data.loader import Batch, Loader
from ..errors import UserError, in_range
from ..train.setup import preparation, source_crops, wants_windows
from . import show_view

ShownName = Literal["all"] | CorruptionName
SHOWN = Parameter(converter=lambda _, tokens: tuple(alias_of(token.value, "all") for token in tokens))
MOST_SAMPLES = 12
PROBABILITY = 0.5
"""Of partially corrupted labels, where none is named."""

OPENED = 500
"""So many images are opened at most: gaussian takes its mean and standard deviation from them."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class SheetRow:
    """The samples under one corruption.

    kind: in the paper's words. inputs, augmented: uint8 [n, H, W, C] as the network sees them, the second with the
    augmentation of epoch 0 (None where there is none); before, after: the n class names.
    """

    kind: str
    probability: float
    inputs: np.ndarray
    augmented: np.ndarray | None
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Samples by corruption. index: sample index of each column; source: where the images came from."""

    dataset: str
    source: str
    seed: int
    augment: tuple[str, ...]
    index: tuple[int, ...]
    rows: tuple[SheetRow, ...]


def kinds(corruption: Sequence[ShownName], probability: float | None) -> list[CorruptionName]:
    """The corruptions asked for, each once, in the paper's order. Raises UserError for a useless --probability."""
    names: list[CorruptionName] = [name for name in KINDS if "all" in corruption or name in corruption]  # type: ignore[misc]
    if probability is not None and "partial" not in names:
        raise UserError(f"--probability {probability} has no effect without --corruption partial: leave it out.")
    return names


def sheet(
    dataset: DatasetName,
    corruption: Sequence[ShownName],
    samples: int,
    data: str,
    size: int | None,
    augment: tuple[AugmentName, ...],
    seed: int,
    probability: float | None,
    screen: ConsoleProgress,
) -> Sheet:
    """Read the samples and make every row. Raises UserError."""
    in_range("-n", samples, 1, MOST_SAMPLES)
    names = kinds(corruption, probability)
    base = Run(dataset, Data(data, size=size or DEFAULTS[dataset].size), train=Train(augment=augment))
    runs = [resolve(replace(base, corruption=_named(name, seed, probability)), on_gpu=False, cores=1) for name in names]
    options = DataOptions(
        path=data,
        size=runs[0].data.size,
        max_samples=OPENED,
        on_decode_error="skip",
        crop_margin="crop" in augment,
        random_windows=any(wants_windows(run) for run in runs),
        progress=screen.on_load,
    )
    opened = load_dataset(dataset, options)
    for note in opened.notes:
        screen.note(note)
    index = opened.train.index
    shown = index[torch.isin(index, subset(len(opened.train.labels), samples))]
    rows = tuple(_row(run, opened, shown) for run in runs)
    return Sheet(dataset, opened.data_source, seed, augment, tuple(shown.tolist()), rows)


def _named(name: CorruptionName, seed: int, probability: float | None) -> Corruption:
    chance = probability if probability is not None else PROBABILITY
    return Corruption(name, chance if name == "partial" else None, seed)


def _row(run: ResolvedRun, dataset: Dataset, index: Tensor) -> SheetRow:
    # Whitening cannot be undone from its output: what is to be looked at is scaled, and nothing else is different.
    how = replace(preparation(run, dataset, CPU), normalisation="unit_range", dtype=torch.float32)
    chance, seed = run.corruption.probability, run.corruption.seed
    original, everyone = dataset.train.labels, torch.arange(len(dataset.train.labels))
    labels = partially_corrupted_labels(
        original, everyone, num_classes=dataset.num_classes, probability=chance, seed=seed
    )
    loader = Loader(
        replace(dataset.train, index=index),
        labels,
        corrupted_mask(everyone, probability=chance, seed=seed),
        how,
        batch_size=len(index),
        crops=source_crops(run, dataset),
    )

    def pixels(batch: Batch, epoch: int | None) -> np.ndarray:
        inputs = loader.prepared(batch, epoch).inputs[batch.index.argsort()]
        return ((inputs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def names(which: Tensor) -> tuple[str, ...]:
        found = (dataset.classes[label] for label in which[index].tolist())
        return tuple(f"class {name}" if name.isdecimal() else name for name in found)

    plain, augmented = next(loader.eval_batches()), next(loader.epoch(0)) if run.train.augment else None
    return SheetRow(
        KINDS[run.corruption.corruption],
        chance,
        pixels(plain, None),
        None if augmented is None else pixels(augmented, 0),
        names(original),
        names(labels),
    )


def run_show(
    dataset: DatasetName,
    corruption: Sequence[ShownName],
    samples: int,
    out: Path,
    data: str,
    size: int | None,
    augment: tuple[AugmentName, ...],
    seed: int,
    probability: float | None,
    console: Console,
) -> None:
    """Make the sheet and draw it into a PNG, written under another name and moved into place. Raises UserError."""
    show_view.check_name(out)
    with ConsoleProgress(console) as screen:
        made = sheet(dataset, corruption, samples, data, size, augment, seed, probability, screen)
    width, height = show_view.save(made, out)
    shown = ", ".join(str(index) for index in made.index)
    console.print(f"{out}: samples {shown} of {made.source}, {width} x {height} pixels", soft_wrap=True)
