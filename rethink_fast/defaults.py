"""A run with every default filled in: `resolve` takes a `Run` and returns a `ResolvedRun`, which has no gaps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from .config import (
    OPTIONS,
    Affects,
    Corruption,
    Data,
    Model,
    OptimizerName,
    PrecisionName,
    Run,
    RunDatasetName,
    ScheduleName,
    Train,
    check_ranges,
)
from .data import OWN
from .data.registry import REGISTRY
from .errors import UserError
from .models import model_entry
from .recipes import recipe


@dataclass(frozen=True, kw_only=True)
class ResolvedData(Data):
    """`Data` with its defaults."""

    size: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class ResolvedCorruption(Corruption):
    """`Corruption` with its defaults.

    probability: that a label is replaced; 0 where none is.
    """

    probability: float


@dataclass(frozen=True, kw_only=True)
class ResolvedModel(Model):
    """`Model` with its defaults."""

    model: str


@dataclass(frozen=True, kw_only=True)
class ResolvedTrain(Train):
    """`Train` with its defaults. recipe and target_loss may still be None: no recipe, no goal for the loss."""

    epochs: int
    eval_interval: int
    batch_size: int
    optimizer: OptimizerName
    lr: float
    schedule: ScheduleName
    lr_decay: float
    momentum: float
    weight_decay: float
    precision: PrecisionName


@dataclass(frozen=True)
class ResolvedRun:
    """One run, complete.

    recipe_overrides: options given next to a recipe that differ from it, in words.
    """

    dataset: RunDatasetName
    data: ResolvedData
    corruption: ResolvedCorruption
    model: ResolvedModel
    train: ResolvedTrain
    recipe_overrides: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain values, for config.json."""
        return asdict(self)


@dataclass(frozen=True)
class Defaults:
    """What depends on the data set.

    lr: None for the network's own.
    full_size: images in the official training set.
    """

    model: str
    size: int
    batch_size: int
    full_size: int
    normalisation: Literal["whiten", "unit_range"]
    lr: float | None = None


MODEL = {"cifar": "inception_small", "mat": "inception_small", "idx": "mlp_1x512"}
"""By the reader of the data set."""

DEFAULTS: dict[str, Defaults] = {
    "imagenet": Defaults("inception_v3", 299, 128, 1_281_167, "unit_range"),
    **{row.name: Defaults(MODEL[row.reader], 28, 128, row.train, "whiten") for row in REGISTRY},
}
"""Batch 128 and the 28 x 28 crop are the paper's for CIFAR-10 (appendix A; the batch from the spacing of Figure 1a)."""

IMAGENET_ON_CPU = replace(DEFAULTS["imagenet"], size=75, batch_size=32, lr=0.003)
"""Small enough for a few cores. At 75 pixels the last feature map is a single position: nothing averages its 2048
features, whose squared norm near 1000 makes the last layer diverge at the usual rates (seen at 0.01 and 0.045)."""


def defaults(dataset: str, *, on_gpu: bool) -> Defaults:
    """Return the defaults of a data set on this kind of device.

    Those of a data set given in Python are cifar10's, but for its size, which `bench.run` fills in before, and its
    number of images.
    """
    if dataset == "imagenet" and not on_gpu:
        return IMAGENET_ON_CPU
    return DEFAULTS["cifar10" if dataset == OWN else dataset]


def resolve(run: Run, *, on_gpu: bool, cores: int) -> ResolvedRun:
    """Return a run with every default filled in: a given option wins over the recipe, and the recipe over the default.

    run: as asked for.
    on_gpu: whether it trains on a GPU.
    cores: processor cores, for `workers`.
    Raises UserError for a value out of range, or an option that would have no effect.
    """
    for section in (run.data, run.corruption, run.model, run.train):
        check_ranges(section)
    default = defaults(run.dataset, on_gpu=on_gpu)
    model = str(run.model.model or default.model)
    if run.model.aux_head and model != "inception_v3":
        raise UserError(
            f"--aux-head has no effect with --model {model}",
            "use inception_v3",
            option="--aux-head",
            value=model,
            allowed="inception_v3",
        )
    if {"crop", "random-resized-crop"} <= set(run.train.augment):
        raise UserError(
            "--augment crop and --augment random-resized-crop both cut a window",
            "omit one",
            option="--augment",
            value=run.train.augment,
        )
    usual: dict[str, Any] = {
        "epochs": 100,
        "eval_interval": 1,
        "batch_size": default.batch_size,
        "optimizer": "sgd",
        "lr": default.lr or model_entry(model).learning_rate,
        "schedule": "exponential",
        "lr_decay": 0.1 if run.train.schedule == "step" else 0.95,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "precision": "bf16" if on_gpu else "fp32",
        "target_loss": None,
        "size": default.size,
    }
    images = min(run.data.max_samples or default.full_size, default.full_size)
    ordered = recipe(run.train.recipe, model, images) if run.train.recipe else {}
    given = {**_values(run.train), "size": run.data.size}
    chosen = {name: given[name] for name in usual if given[name] is not None}
    changed = {name: value for name, value in ordered.items() if chosen.get(name, value) != value}
    changes = tuple(f"{name} {chosen[name]} in place of {value}" for name, value in changed.items())
    complete = {**_values(run.train), **usual, **ordered, **chosen}
    size = complete.pop("size")
    return ResolvedRun(
        run.dataset,
        ResolvedData(**{**_values(run.data), "size": size, "workers": run.data.workers or cores}),
        ResolvedCorruption(**{**_values(run.corruption), "probability": _probability(run.corruption)}),
        ResolvedModel(**{**_values(run.model), "model": model}),
        ResolvedTrain(**complete),
        changes,
    )


def _values(section: Any) -> dict[str, Any]:
    return {option.name: getattr(section, option.name) for option in fields(section)}


def _probability(corruption: Corruption) -> float:
    """Return the probability that a label is replaced. Raises UserError."""
    if corruption.corruption == "partial":
        if corruption.probability is None:
            raise UserError(
                "--corruption partial needs a probability",
                "add --probability P, with P in [0, 1]",
                option="--probability",
                allowed="[0, 1]",
            )
        return corruption.probability
    if corruption.probability is not None:
        raise UserError(
            f"--probability has no effect with --corruption {corruption.corruption}",
            "omit it, or use partial",
            option="--probability",
            value=corruption.probability,
        )
    return 1.0 if corruption.corruption == "random" else 0.0


def affecting(run: Run | ResolvedRun, *kinds: Affects) -> dict[str, Any]:
    """Return the options of a run that affect one of these, by name, as plain values."""
    return {
        option.name: list(value) if isinstance(value := getattr(section, option.name), tuple) else value
        for section in (run.data, run.corruption, run.model, run.train)
        for option in fields(section)
        if OPTIONS[option.name].metadata["affects"] in kinds
    }
