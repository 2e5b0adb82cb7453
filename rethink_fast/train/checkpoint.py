"""Checkpoints: everything that the next step depends on, in a file that is whole or is not used.

A checkpoint is written under another name, flushed to the disk and moved into place; the one before it is kept. Its
head has the SHA-256 of what follows, so that a torn or flipped byte is noticed, and the one before it serves.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from ..config import affecting
from ..errors import UserError
from ..rng import CONTRACT_VERSION
from .outcome import Outcome
from .setup import Setup

MAGIC = b"rethink_fast checkpoint 1\n"
NEWEST, PREVIOUS, PARTIAL = "checkpoint.pt", "checkpoint-previous.pt", ".checkpoint.partial"


def identity(setup: Setup) -> dict[str, Any]:
    """What must be the same for a run to go on: options, the data's labels and shape, and the contract's version."""
    run, dataset = setup.run, setup.dataset
    kept: dict[str, Any] = {"dataset": run.dataset} | affecting(run, "results")
    if run.train.schedule == "linear":
        kept["epochs"] = run.train.epochs
    index = dataset.train.index
    labels = hashlib.sha256(index.numpy().tobytes() + dataset.train.labels[index].numpy().tobytes())
    return kept | {
        "images": [len(index), *dataset.train.images.shape],
        "true labels": labels.hexdigest()[:12],
        "contract version": CONTRACT_VERSION,
    }


def shared_facts(setup: Setup) -> dict[str, Any]:
    """What must be the same on all ranks of a run: its identity, and what decides when they do what."""
    train = setup.run.train
    kept = {name: getattr(train, name) for name in ("epochs", "until", "eval_every", "compile")}
    return identity(setup) | kept | {"kind of device": setup.device.type}


class Checkpoints:
    """The checkpoints in the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, setup: Setup, outcome: Outcome) -> None:
        """Write one; the newest and the one before it stay. Raises OSError, and leaves those that are there."""
        content = io.BytesIO()
        torch.save({"identity": identity(setup), "outcome": outcome.as_dict(), "state": setup.step.state()}, content)
        payload = content.getbuffer()
        partial = self.folder / PARTIAL
        try:
            with partial.open("wb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest())
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        newest = self.folder / NEWEST
        if newest.exists():
            os.replace(newest, self.folder / PREVIOUS)
        os.replace(partial, newest)

    def remove(self) -> None:
        """Delete them all."""
        for name in (NEWEST, PREVIOUS, PARTIAL):
            (self.folder / name).unlink(missing_ok=True)

    def load(self, setup: Setup) -> tuple[Outcome, str | None]:
        """Put the network back to where the newest whole checkpoint left it, which rank 0 reads for all.

        Returns the outcome until then, and a line about a damaged one that was passed over. Raises UserError if there
        is none, or if it is of another run, naming the difference.
        """
        content, note = setup.ranks.from_first(lambda: self._newest(setup))
        setup.step.load_state(content["state"])
        return Outcome.from_dict(content["outcome"]), note

    def exist(self) -> bool:
        """Whether there is one to try."""
        return any((self.folder / name).exists() for name in (NEWEST, PREVIOUS))

    def _newest(self, setup: Setup) -> tuple[dict[str, Any], str | None]:
        problems = []
        for name in (NEWEST, PREVIOUS):
            path = self.folder / name
            try:
                content = _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                problems.append(f"{path} cannot be used ({error})")
                continue
            _compare(content["identity"], identity(setup), self.folder)
            steps = content["outcome"]["steps"]
            note = f"{'; '.join(problems)}: going on from {path}, step {steps}" if problems else None
            return content, note
        if problems:
            raise UserError(f"{'; '.join(problems)}: start the run anew, with another --out.")
        raise UserError(f"--resume {self.folder} holds no checkpoint: start the run anew, without --resume.")


def _read(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    head = len(MAGIC)
    if not data.startswith(MAGIC):
        raise ValueError("it is no checkpoint of this version")
    if hashlib.sha256(memoryview(data)[head + 32 :]).digest() != data[head : head + 32]:
        raise ValueError("it is damaged: its checksum does not agree")
    content: dict[str, Any] = torch.load(io.BytesIO(data[head + 32 :]), map_location="cpu", weights_only=True)
    return content


def _compare(theirs: dict[str, Any], ours: dict[str, Any], folder: Path) -> None:
    differing = [
        f"{name.replace('_', ' ')} {theirs.get(name)} there, {ours.get(name)} here"
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise UserError(
            f"--resume {folder} is another run ({'; '.join(differing)}): give the options it was started with, or "
            f"start anew with another --out."
        )
