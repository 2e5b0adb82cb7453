"""The record of a run, result.json: its keys, how they are filled in, and how a file is checked that is read."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..contention import Contention
from ..corruptions import KINDS
from ..env import environment, peak_memory
from ..rng import CONTRACT_VERSION
from ..schema import Each, Maybe, Number
from ..train.setup import RunContext
from ..train.state import TrainState, utc_now

SCHEMA_VERSION = 1

SCHEMA: dict[str, tuple[str, str]] = {
    "schema": ("int", "version of this table"),
    "dataset": ("str", "name of the data set; own for one given in Python"),
    "data_source": (
        "str",
        "where the images came from; synthetic where made up; python and the class of what was given in Python",
    ),
    "n_train": ("int", "training images that took part"),
    "n_test": ("int", "test images; 0 where there is no test set"),
    "n_undecodable": ("int", "images skipped because they cannot be decoded"),
    "num_classes": ("int", "classes"),
    "image_size": ("int", "height and width of the network's input"),
    "corruption": (
        "dict",
        "kind in the paper's words, probability, seed, label_flip_fraction (fraction), contract_version",
    ),
    "model": ("str", "architecture"),
    "model_source": ("dict?", "of a network of your own: file, sha256 (with timm, its version); null otherwise"),
    "parameters": ("int", "trainable parameters"),
    "precision": ("str", "fp32 or bf16 (mixed)"),
    "device": ("str", "cpu or cuda:N"),
    "world_size": ("int", "processes that shared every batch, in the last session"),
    "batch_size": ("int", "images in a step, over all ranks"),
    "recipe": (
        "dict",
        "name (paper, fast, authors-script or null) and overrides: options given that differ from it, in words",
    ),
    "eval_interval": ("int", "epochs between evaluations: milestones are seen at their ends alone"),
    "compile": (
        "dict",
        "enabled (bool), the reason, and steps_per_graph: training steps in one CUDA graph; 0 where there is none",
    ),
    "backend": ("dict", "by operator of the data path: C++ (instruction set), triton, cuda C++, DALI or torch"),
    "deterministic": ("bool", "whether deterministic algorithms alone were used"),
    "n_sessions": ("int", "processes that worked on the run: above 1 if it was resumed"),
    "started_at": ("str", "UTC time at which the first session began, ISO 8601"),
    "ended_at": ("str", "UTC time of the end, or of the last epoch's end while it runs"),
    "epochs": ("int", "epochs completed"),
    "steps": ("int", "updates made"),
    "train_accuracy": (
        "float?",
        "fraction right in the last full pass over the training set: eval mode, un-augmented, batch norm statistics "
        "of the training set estimated right before",
    ),
    "train_top5_accuracy": ("float?", "fraction with the label among the five most likely; with more than 10 classes"),
    "train_loss": ("float?", "mean cross entropy in that pass"),
    "test_accuracy": ("float?", "fraction right on the test set, whose labels are never corrupted"),
    "test_top5_accuracy": ("float?", "fraction of it with the label among the five most likely"),
    "best_test_accuracy": ("float?", "highest of any evaluation: what early stopping could give at most"),
    "best_test_epoch": ("int?", "epoch at whose end it was first reached"),
    "best_test_top5_accuracy": ("float?", "highest test_top5_accuracy of any evaluation"),
    "memorized": ("bool", "whether every training label was reproduced: train_accuracy of 1"),
    "stop_reason": ("str", "target_reached, max_epochs, interrupted or non_finite_loss"),
    "first_non_finite_step": ("int?", "first step whose loss was not finite"),
    "time_to_memorize": ("dict", "for each level of accuracy and for loss<=0.05: seconds, epochs, steps; or null"),
    "images_per_second": ("float?", "training images a second, over train_seconds"),
    "train_seconds": ("float", "training alone: without data set-up, compilation and evaluation"),
    "data_wait_fraction": ("float", "share of train_seconds spent waiting for the source"),
    "compile_seconds": ("float", "torch.compile, before the training clock starts"),
    "eval_seconds": ("float", "evaluation passes"),
    "checkpoint_seconds": ("float", "writing checkpoints"),
    "peak_memory_bytes": ("int", "most memory held: of the GPU, or of the process on a CPU"),
    "profile": ("dict?", "with --profile, once the run has ended: stages of the wall time, rates, arithmetic, epochs"),
    "interrupted": ("bool", "whether the run was stopped from outside; true too while it runs"),
    "environment": ("dict", "versions, processor, threads, GPU, git state, contention (whether the machine was busy)"),
}
"""Every key of result.json: its type (a question mark where it may be null) and what it means."""

SCORES = ("train_accuracy", "train_top5_accuracy", "train_loss", "test_accuracy", "test_top5_accuracy")
"""Keys of the record that are those of the last full pass."""

COUNT, AMOUNT, FRACTION = Number(0, 2**63, whole=True), Number(0, 1e30), Number(0, 1)
SHAPES = {"int": COUNT, "float": AMOUNT, "str": str, "bool": bool, "dict": Each()}

ENVIRONMENT_SHAPE = {
    "processor": str,
    "cores": COUNT,
    "threads": COUNT,
    "packages": Each(Maybe(str)),
    "gpu": Maybe({"name": str, "driver": Maybe(str)}),
    "cuda": Maybe(str),
}

_NARROWER: dict[str, Any] = {
    "batch_size": Number(1, 2**31, whole=True),
    "corruption": {"kind": str, "probability": FRACTION, "seed": COUNT, "label_flip_fraction": Maybe(FRACTION)},
    "recipe": {"name": Maybe(str), "overrides": [str]},
    "compile": {"enabled": Maybe(bool), "reason": Maybe(str), "steps_per_graph": Maybe(COUNT)},
    **{
        f"{which}_accuracy": Maybe(FRACTION)
        for which in ("train", "train_top5", "test", "test_top5", "best_test", "best_test_top5")
    },
    "stop_reason": frozenset(("target_reached", "max_epochs", "interrupted", "non_finite_loss")),
    "time_to_memorize": Each(Maybe({"seconds": AMOUNT, "epochs": COUNT, "steps": COUNT})),
    "profile": Maybe(
        {
            "rates": dict.fromkeys(("model", "loader", "combined"), Maybe(AMOUNT)),
            "arithmetic": {
                "matrix_flops_per_second": Maybe(AMOUNT),
                "training_share_of_matrix_rate": Maybe(AMOUNT),
                "model_share_of_matrix_rate": Maybe(AMOUNT),
            },
            "gpu": Maybe({"mean_watts": Maybe(AMOUNT)}),
        }
    ),
    "environment": ENVIRONMENT_SHAPE,
}

_NEEDED = (
    *("schema", "dataset", "data_source", "n_train", "n_test", "image_size", "corruption", "model", "parameters"),
    *("precision", "batch_size", "device", "epochs", "memorized", "stop_reason", "time_to_memorize", "interrupted"),
    "environment",
)
"""Keys that are in the records of every version."""

RUN_SHAPE = {
    key: shape if key in _NEEDED else Maybe(shape)
    for key, shape in (
        (key, _NARROWER.get(key, Maybe(SHAPES[kind[:-1]]) if kind.endswith("?") else SHAPES[kind]))
        for key, (kind, _) in SCHEMA.items()
    )
}
"""The shape of a result.json of one run, as schema.read takes it."""


def result(
    setup: RunContext,
    outcome: TrainState,
    *,
    interrupted: bool,
    profile: dict[str, Any] | None = None,
    contention: Contention | None = None,
) -> dict[str, Any]:
    """Return the record of a run as plain values, with the keys of SCHEMA in order.

    setup: the run.
    outcome: how far it has come.
    interrupted: whether it was stopped from outside, or goes on.
    profile: what --profile measured; None without.
    contention: how busy the machine was; None on ranks that do not record it.
    """
    run, dataset = setup.run, setup.dataset
    last, best, best_top5 = outcome.evaluated, outcome.best("test_accuracy"), outcome.best("test_top5_accuracy")
    damaged = len(dataset.train.damaged) + (len(dataset.test.damaged) if dataset.test else 0)
    seconds = outcome.train_seconds
    return {
        "schema": SCHEMA_VERSION,
        "dataset": dataset.name,
        "data_source": dataset.data_source,
        "n_train": len(dataset.train.index),
        "n_test": len(dataset.test.index) if dataset.test else 0,
        "n_undecodable": damaged,
        "num_classes": dataset.num_classes,
        "image_size": run.data.size,
        "corruption": {
            "kind": KINDS[run.corruption.corruption],
            "probability": run.corruption.probability,
            "seed": run.corruption.seed,
            "label_flip_fraction": setup.label_flip_fraction,
            "contract_version": CONTRACT_VERSION,
        },
        "model": run.model.model,
        "model_source": setup.model_source,
        "parameters": setup.parameters,
        "precision": run.train.precision,
        "device": str(setup.device),
        "world_size": setup.ranks.world_size,
        "batch_size": run.train.batch_size,
        "recipe": {"name": run.train.recipe, "overrides": list(run.recipe_overrides)},
        "eval_interval": run.train.eval_interval,
        "compile": {**outcome.compile, "steps_per_graph": setup.step.steps_per_graph},
        "backend": kernels.data_path(setup.device, distorts=setup.train.preprocessing.distorts),
        "deterministic": run.train.deterministic,
        "n_sessions": outcome.sessions,
        "started_at": outcome.started_at,
        "ended_at": utc_now(),
        "epochs": len(outcome.rows),
        "steps": outcome.steps,
        **{name: getattr(last, name, None) for name in SCORES},
        "best_test_accuracy": best.test_accuracy if best else None,
        "best_test_epoch": best.epoch if best else None,
        "best_test_top5_accuracy": best_top5.test_top5_accuracy if best_top5 else None,
        "memorized": last is not None and last.train_accuracy == 1.0,
        "stop_reason": "interrupted" if interrupted else outcome.stop_reason,
        "first_non_finite_step": outcome.first_non_finite_step,
        "time_to_memorize": outcome.milestones.as_dict(),
        "images_per_second": outcome.images / seconds if seconds else None,
        "train_seconds": seconds,
        "data_wait_fraction": outcome.wait_seconds / seconds if seconds else 0.0,
        "compile_seconds": outcome.compile_seconds,
        "eval_seconds": outcome.eval_seconds,
        "checkpoint_seconds": outcome.checkpoint_seconds,
        "peak_memory_bytes": peak_memory(setup.device),
        "profile": profile,
        "interrupted": interrupted,
        "environment": {**environment(), "contention": _contention(contention, outcome)},
    }


def _contention(contention: Contention | None, outcome: TrainState) -> dict[str, Any] | None:
    """Return the contention of this session; busy if any session was, since the times add up over all."""
    if contention is None:
        return None
    facts = contention.as_dict()
    return {**facts, "busy": True if outcome.busy else facts["busy"]}
