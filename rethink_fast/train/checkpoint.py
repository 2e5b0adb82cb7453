"""Checkpoints: everything that the next step depends on, in a file that is whole or is not used.

A checkpoint is a sealed file of torch.save (torch_file.py). A new one is moved into place once it is on the disk, and
the one before it is kept: it serves where the newest cannot be used.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..defaults import affecting
from ..errors import UserError
from ..files import write_atomic
from ..rng import CONTRACT_VERSION
from ..schema import Each, check, shown
from ..text import printable
from .restore import build
from .setup import CompileDecision, RunContext
from .state import TrainState
from .torch_file import describe_misfit, sealed, unsealed

NEWEST, PREVIOUS, PARTIAL = "checkpoint.pt", "checkpoint-previous.pt", ".checkpoint.partial"
FORMAT = 2
ROOM = 2**28
"""Bytes that a checkpoint may take besides the step's state: its outcome has a row for each epoch."""


def identity(setup: RunContext) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed: options, labels, pixels and the contract's version."""
    run, dataset = setup.run, setup.dataset
    kept: dict[str, Any] = {"dataset": run.dataset} | affecting(run, "results")
    if run.train.schedule != "exponential":
        kept["epochs"] = run.train.epochs
    if setup.model_source is not None:
        kept["model source"] = setup.model_source["sha256"][:12]
    index = dataset.train.index
    labels = hashlib.sha256(index.numpy().tobytes() + dataset.train.labels[index].numpy().tobytes())
    return kept | {
        "images": [len(index), *dataset.train.images.shape],
        "true labels": labels.hexdigest()[:12],
        "training pixels": setup.pixels[:12],
        "contract version": CONTRACT_VERSION,
    }


def shared_facts(setup: RunContext) -> dict[str, Any]:
    """Return what must be the same on all ranks of a run: its identity, and what decides when they do what."""
    return identity(setup) | affecting(setup.run, "length") | {"kind of device": setup.device.type}


class Checkpoints:
    """The checkpoints in the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, setup: RunContext, outcome: TrainState) -> None:
        """Write a checkpoint, and keep the one before it. Raises OSError, and leaves those that are there."""
        content = {"format": FORMAT, "identity": identity(setup), "outcome": outcome.as_dict()}
        write_atomic(self.folder / PARTIAL, sealed(content | {"state": setup.step.state()}))
        newest = self.folder / NEWEST
        if newest.exists():
            os.replace(newest, self.folder / PREVIOUS)
        os.replace(self.folder / PARTIAL, newest)

    def remove(self) -> None:
        """Delete all checkpoints."""
        for name in (NEWEST, PREVIOUS, PARTIAL):
            (self.folder / name).unlink(missing_ok=True)

    def load(self, setup: RunContext) -> tuple[TrainState, str | None]:
        """Load the newest usable checkpoint into the step; rank 0 reads it for all.

        Returns the outcome until then, and a line about a checkpoint that could not be used.
        Raises UserError if there is none, if it is of another run (naming the difference), or if it has more epochs
        than the run is to have.
        """
        outcome, state, note = setup.ranks.on_rank0(lambda: self._newest(setup))
        setup.step.load_state(state)
        return outcome, note

    def exist(self) -> bool:
        """Return whether there is a checkpoint to try."""
        return any((self.folder / name).exists() for name in (NEWEST, PREVIOUS))

    def _newest(self, setup: RunContext) -> tuple[TrainState, dict[str, Tensor], str | None]:
        problems = []
        ours, state = identity(setup), setup.step.state()
        for name in (NEWEST, PREVIOUS):
            path = self.folder / name
            try:
                content = unsealed(path, limit=sum(value.nbytes for value in state.values()) + ROOM)
                theirs = _identity_in(content)
                if theirs != ours:
                    raise UserError(_difference(theirs, ours, self.folder))
                outcome = TrainState.from_dict(content["outcome"])
                _check_state(content["state"], state, setup)
                _check_place(outcome, content["state"], setup)
            except FileNotFoundError:
                continue
            except UserError:
                raise
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else f"it {str(error)[:300]}"
                problems.append(f"{path} cannot be used ({why})")
                continue
            done, epochs = outcome.epoch + (outcome.batch > 0), setup.run.train.epochs
            if done > epochs:
                problem = f"--epochs {epochs}: the run in {self.folder} is in epoch {done} already"
                raise UserError(problem, "give more", option="--epochs", value=epochs)
            note = f"{'; '.join(problems)}: going on from {path}, step {outcome.steps}" if problems else None
            return outcome, content["state"], note
        if problems:
            raise UserError("; ".join(problems), "start the run again, with another --out", value=self.folder)
        problem = f"--resume {self.folder} holds no checkpoint"
        raise UserError(problem, "start the run without --resume", option="--resume", value=self.folder)


def _identity_in(content: Any) -> dict[str, Any]:
    """What a checkpoint says about its run, as plain values. Raises ValueError."""
    check(content, {"format": int, "identity": Each(), "outcome": Each(), "state": Each()})
    if content["format"] != FORMAT:
        raise ValueError(f"is of format {shown(content['format'])}, not {FORMAT}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(content["identity"]))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("has in its identity values that are not plain") from None
    return plain


def _difference(theirs: dict[str, Any], ours: dict[str, Any], folder: Path) -> str:
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    differing = "; ".join(
        f"{printable(name.replace('_', ' '))[:60]} {shown(theirs.get(name))} there, {shown(ours.get(name))} here"
        for name in names
    )
    if names == ["epochs"]:
        return (
            f"--resume {folder} is another run ({differing}): --schedule {ours['schedule']} follows --epochs, so that "
            f"more of them make another run. Start it with another --out."
        )
    return (
        f"--resume {folder} is another run ({differing}): give the options it was started with, or start another with "
        f"another --out."
    )


def _check_place(outcome: TrainState, state: dict[str, Tensor], setup: RunContext) -> None:
    """Raise ValueError where an outcome disagrees with itself, with the network's counters or with the loader."""
    sizes = setup.train.sizes(setup.train.batch_size)
    batches, seen = len(sizes), sum(sizes[: outcome.batch])
    counters = {name: int(state[f"counter.{name}"]) for name in ("epoch", "steps", "seen")}
    build(CompileDecision, outcome.compile, "outcome.compile")
    right = {
        "batch": outcome.batch <= batches,
        "steps": outcome.steps == outcome.epoch * batches + outcome.batch,
        "images": outcome.images == outcome.epoch * sum(sizes) + seen,
        "counters": counters["steps"] == outcome.steps
        and (outcome.batch == 0 or (counters["epoch"], counters["seen"]) == (outcome.epoch, seen)),
        "rows": [(row.epoch, row.step) for row in outcome.rows]
        == [(epoch, epoch * batches) for epoch in range(1, outcome.epoch + 1)],
        "accuracies": all((row.train_loss is None) == (row.train_accuracy is None) for row in outcome.rows),
    }
    wrong = [name for name, holds in right.items() if not holds]
    if wrong:
        raise ValueError(f"has {wrong[0]} that do not fit epoch {outcome.epoch}, batch {outcome.batch} of {batches}")


def _check_state(theirs: dict[Any, Any], ours: dict[str, Tensor], setup: RunContext) -> None:
    """Raise ValueError where tensors cannot be those of this step: by name, shape, type, counter and generator."""
    needed = set(ours) - {"generator.cuda"}  # it is absent from what a CPU wrote
    odd = sorted(map(str, needed - set(theirs)))
    if odd:
        raise ValueError(f"lacks in its state {odd[0]}")
    for name in set(ours) & set(theirs):
        misfit = describe_misfit(theirs[name], ours[name])
        if misfit is not None:
            raise ValueError(f"has {name} of {misfit}")
    for name, device in (("generator.cpu", torch.device("cpu")), ("generator.cuda", setup.device)):
        if name in ours and name in theirs:
            try:
                torch.Generator(device).set_state(theirs[name])
            except RuntimeError:
                raise ValueError(f"has {name} that is no state of a random generator") from None
