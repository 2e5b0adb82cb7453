"""`rethink-fast show`: some training samples under every corruption, read and prepared as in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from cyclopts import Parameter
from torch import Tensor

from ..bench.console import ConsoleProgress
from ..bench.run import with_size
from ..config import DATA, PATH, AugmentName, Corruption, CorruptionName, Data, Run, RunDatasetName, Train
from ..corruptions import KINDS, alias_of, corrupted_mask, partially_corrupted_labels
from ..data import OWN, DataOptions, Dataset, load_dataset, subset
from ..data.loader import Batch, Loader
from ..defaults import DEFAULTS, ResolvedRun, resolve
from ..errors import UserError, in_range
from ..files import check_writable
from ..terminal import Terminal
from ..train.preprocessing import make_preprocessing, source_crops, wants_windows
from . import show_view
from .show_view import Sheet, SheetRow

ShownName = Literal["all"] | CorruptionName
SHOWN = Parameter(converter=lambda _, tokens: tuple(alias_of(token.value, "all") for token in tokens))
MOST_SAMPLES = 12
PROBABILITY = 0.5
"""Of partially corrupted labels, where none is given."""

OPENED = 500
"""So many images are opened at most: gaussian takes its mean and standard deviation from them."""


def show(
    dataset: RunDatasetName,
    /,
    *,
    corruption: Annotated[tuple[ShownName, ...], SHOWN] = ("all",),
    samples: Annotated[int, Parameter(name=("--samples", "-n"))] = 4,
    out: Annotated[Path, PATH] = Path("sheet.png"),
    data: Annotated[str, DATA] = "auto",
    size: int | None = None,
    augment: tuple[AugmentName, ...] = (),
    seed: int = 0,
    probability: float | None = None,
) -> int:
    """Draw some training samples under the corruptions, as the network sees them, with their labels before and after.

    Parameters
    ----------
    dataset:
        The data set; own is a pack of your own, with --data.
    corruption:
        The randomization, a row; all of them by default. May be given several times.
    samples:
        How many samples, a column each.
    out:
        The picture, a PNG.
    data:
        A path, auto or synthetic, as in bench.
    size:
        Height and width of the network's input, in pixels.
    augment:
        Show each sample with this random augmentation as well. May be given several times.
    seed:
        Seed of the corruption and the augmentation.
    probability:
        With partial: the probability that a label is redrawn. Default: 0.5.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out} is not a PNG", "choose a name that ends in .png", option="--out", value=out)
    check_writable(out, show_view.FIX, option="--out")
    in_range("-n", samples, 1, MOST_SAMPLES)
    usual = None if dataset == OWN else DEFAULTS[dataset].size
    run = Run(dataset, Data(data, size=size or usual), Corruption(seed=seed), train=Train(augment=augment))
    run = with_size(run, None)
    with ConsoleProgress(Terminal()) as screen:
        sheet = make_sheet(run, corruptions(corruption, probability), samples, screen)
    width, height = show_view.save(sheet, out)
    index = ", ".join(str(number) for number in sheet.index)
    screen.print(f"{out}: samples {index} of {sheet.source}, {width} x {height} pixels")
    return 0


def corruptions(names: tuple[ShownName, ...], probability: float | None) -> list[Corruption]:
    """Return the corruptions asked for, each once, in the paper's order. Raises UserError for a useless probability."""
    chosen: list[CorruptionName] = [name for name in KINDS if "all" in names or name in names]  # type: ignore[misc]
    if probability is not None and "partial" not in chosen:
        problem = f"--probability {probability} has no effect without --corruption partial"
        raise UserError(problem, "omit it", option="--probability", value=probability)
    chance = PROBABILITY if probability is None else probability
    return [Corruption(name, chance if name == "partial" else None) for name in chosen]


def make_sheet(run: Run, corruptions: list[Corruption], samples: int, screen: ConsoleProgress) -> Sheet:
    """Read samples and return them under each corruption.

    run: the data, its size, the augmentation and the seed.
    corruptions: the rows of the sheet.
    samples: how many; a fixed choice, to which larger numbers add.
    Raises UserError.
    """
    seed, augment = run.corruption.seed, run.train.augment
    runs = [resolve(replace(run, corruption=replace(each, seed=seed)), on_gpu=False, cores=1) for each in corruptions]
    options = DataOptions(
        path=run.data.data,
        size=runs[0].data.size,
        max_samples=OPENED,
        on_decode_error="skip",
        crop_margin="crop" in augment,
        random_windows=any(wants_windows(each) for each in runs),
        progress=screen.on_load,
    )
    opened = load_dataset(run.dataset, options)
    for note in opened.notes:
        screen.print(note)
    index = opened.train.index
    index = index[torch.isin(index, subset(len(opened.train.labels), samples))]
    rows = tuple(_row(each, opened, index) for each in runs)
    return Sheet(run.dataset, opened.data_source, seed, augment, tuple(index.tolist()), rows)


def _row(run: ResolvedRun, dataset: Dataset, index: Tensor) -> SheetRow:
    # Whitening cannot be undone from its output: here images are only scaled, and all else is as in the run.
    preprocessing = replace(
        make_preprocessing(run, dataset, torch.device("cpu")), normalisation="unit_range", dtype=torch.float32
    )
    chance, seed = run.corruption.probability, run.corruption.seed
    original = dataset.train.labels
    all_indices = torch.arange(len(original))
    labels = partially_corrupted_labels(
        original, all_indices, num_classes=dataset.num_classes, probability=chance, seed=seed
    )
    loader = Loader(
        replace(dataset.train, index=index),
        labels,
        corrupted_mask(all_indices, probability=chance, seed=seed),
        preprocessing,
        batch_size=len(index),
        crops=source_crops(run, dataset),
    )

    def pixels(batch: Batch, epoch: int | None) -> np.ndarray:
        inputs = loader.preprocess(batch, epoch).inputs[batch.index.argsort()]
        return ((inputs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def class_names(classes: Tensor) -> tuple[str, ...]:
        names = (dataset.classes[label] for label in classes[index].tolist())
        return tuple(f"class {name}" if name.isdecimal() else name for name in names)

    return SheetRow(
        KINDS[run.corruption.corruption],
        chance,
        pixels(next(loader.eval_batches()), None),
        pixels(next(loader.epoch(0)), 0) if run.train.augment else None,
        class_names(original),
        class_names(labels),
    )
