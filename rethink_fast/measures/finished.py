"""A finished run, opened again: its network, its first weights, and its data as the network sees it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..bench.record import RUN_SHAPE
from ..bench.record_folder import CONFIG_SHAPE, read_curve
from ..bench.run import own_data
from ..data import DataOptions, Dataset, load_dataset, subset
from ..data.own import OwnData, load_own
from ..data.preprocess import preprocess
from ..data.source import Progress, Split
from ..defaults import ResolvedCorruption, ResolvedData, ResolvedModel, ResolvedRun, ResolvedTrain
from ..env import cores
from ..errors import UserError
from ..files import read_bytes, user_path
from ..rng import TEST_INDEX
from ..schema import read
from ..train.preprocessing import wants_windows
from ..train.restore import build
from ..train.setup import RunContext, build_run
from ..train.weights import MODEL, load_model

CPU = torch.device("cpu")
ADVICE = "restore it, or run again"
MAX_LABELS_BYTES = 2**30
READ = 500
SLACK = 0.005
"""How far an accuracy in float32 may be from one that was measured in bfloat16, beside the error of a sample."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended.

    record: its result.json.
    curve: rows of metrics.csv.
    weights: SHA-256 of model.pt.
    model: its network, on the CPU, in eval mode.
    setup: the run as it was before its first step; setup.model has the first weights.
    """

    folder: Path
    record: dict[str, Any]
    curve: tuple[dict[str, float | None], ...]
    weights: str
    model: nn.Module
    setup: RunContext

    @property
    def initial(self) -> nn.Module:
        """The network before training, in eval mode."""
        return self.setup.model.eval()

    @property
    def classes(self) -> int:
        return self.setup.dataset.num_classes

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.setup.dataset.train.index)

    def train_sample(self, most: int) -> tuple[Tensor, Tensor]:
        """Return network inputs and (corrupted) labels of at most so many training images, a fixed choice."""
        index = self.setup.dataset.train.index
        index = index[subset(len(index), most)]
        return self.inputs(self.setup.dataset.train, index), self.setup.labels[index]

    def test_sample(self, most: int) -> tuple[Tensor, Tensor]:
        """Return network inputs and labels of at most so many test images, a fixed choice."""
        split = cast(Split, self.setup.dataset.test)
        index = split.index[subset(len(split.index), most)]
        return self.inputs(split, index, base=TEST_INDEX), split.labels[index]

    def inputs(self, split: Split, index: Tensor, base: int = 0) -> Tensor:
        """Return what the network takes of these samples in evaluation: float32 [n, C, h, w]."""
        parts, how = index.split(READ), replace(self.setup.train.preprocessing, dtype=torch.float32)
        read = zip(split.images.read(iter(parts)), parts, strict=True)
        return torch.cat([preprocess(images, rows, part + base, how, epoch=None) for (images, rows), part in read])


def open_run(
    folder: str | Path, progress: Progress | None = None, *, data: Any = None, test: Any = None
) -> FinishedRun:
    """Open a run by its folder. Its data is opened by the run's own settings, and checked against what it recorded.

    progress: called while the data is opened.
    data, test: of a run of Run("own"), the data sets that were given to it.
    Raises UserError, in one line, for a folder without a network, of a run that has not ended, of another version,
    without a test set, or whose data is not what it was.
    """
    folder = user_path(str(folder))
    model = load_model(folder)
    record = read(folder / "result.json", RUN_SHAPE, ADVICE)
    if record["interrupted"]:
        raise UserError(f"{folder} is a run that has not ended: go on with it by --resume {folder} first.")
    if not record["n_test"] or record.get("test_accuracy") is None or record.get("train_accuracy") is None:
        raise UserError(f"{folder} is a run without a test set: it has no gap to measure; name a run that has one.")
    run = _run_of(folder)
    dataset = _opened(run, progress, own_data(run, data, test))
    setup = build_run(run, dataset, CPU)
    if [each.shape for each in model.parameters()] != [each.shape for each in setup.model.parameters()]:
        raise UserError(f"{folder / 'config.json'} has another network than {folder / MODEL}: {ADVICE}.")
    _check_labels(folder, setup)
    try:
        curve = read_curve(folder / "metrics.csv")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'metrics.csv'} cannot be read ({error}): {ADVICE}.") from None
    weights = read(folder / MODEL, {"sha256": str}, ADVICE)["sha256"]
    return FinishedRun(folder, record, curve, weights, model, setup)


def _run_of(folder: Path) -> ResolvedRun:
    config = read(folder / "config.json", CONFIG_SHAPE, ADVICE)
    train = {**config["train"], "augment": tuple(config["train"].get("augment", ()))}
    try:
        return ResolvedRun(
            config["dataset"],
            build(ResolvedData, config["data"]),
            build(ResolvedCorruption, config["corruption"]),
            build(ResolvedModel, config["model"]),
            build(ResolvedTrain, train),
        )
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'} {error}: use the version of rethink_fast that wrote it.") from None


def _opened(run: ResolvedRun, progress: Progress | None, own: OwnData | None) -> Dataset:
    options = DataOptions(
        path=run.data.data,
        size=run.data.size,
        max_samples=run.data.max_samples,
        on_decode_error=run.data.on_decode_error,
        workers=cores(),
        crop_margin="crop" in run.train.augment,
        random_windows=wants_windows(run),
        progress=progress,
    )
    return load_dataset(run.dataset, options) if own is None else load_own(own, options)


def _check_labels(folder: Path, setup: RunContext) -> None:
    """Raise UserError where samples or labels, before and after the corruption, are not those of the run."""
    path, index = folder / "labels.npz", setup.dataset.train.index
    ours = {"index": index, "original": setup.original[index], "label": setup.labels[index]}
    try:
        with np.load(io.BytesIO(read_bytes(path, limit=MAX_LABELS_BYTES)), allow_pickle=False) as theirs:
            same = all(np.array_equal(theirs[name], value.numpy()) for name, value in ours.items())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}): {ADVICE}.") from None
    if not same:
        raise UserError(
            f"{folder} was trained on other samples or labels than {setup.dataset.data_source} has now: bring its data "
            f"back to where it was ({setup.run.data.data})."
        )


def check_accuracy(run: FinishedRun, right: Tensor) -> None:
    """Raise UserError where the network is not as good on its training images as its record says: other pixels.

    right: bool [m], of a sample. The tolerance is four standard errors of a sample, none for the whole set, and SLACK.
    """
    recorded, found, m = run.record["train_accuracy"], right.double().mean().item(), len(right)
    missing = 1 - m / run.n
    if abs(found - recorded) > 4 * math.sqrt(recorded * (1 - recorded) * missing / m) + SLACK:
        raise UserError(
            f"{run.folder} has a train accuracy of {recorded:.4f} by its record, and of {found:.4f} on "
            f"{run.setup.dataset.data_source}: the images are not those it was trained on; bring its data back."
        )
