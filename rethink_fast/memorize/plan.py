"""How many models a population needs, and which are still to be trained, in which groups."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import UserError
from ..rng import included
from ..train.setup import RunContext

LIMIT = 10_000
"""Models up to which it is looked for how many would do."""
AT_ONCE = 10
HOPELESS = 20
"""Samples that LIMIT models are expected to leave: above it nothing is drawn."""
LEAST_SAMPLES = 2
"""Of a training set."""


def check_covered(setup: RunContext, models: int, ratio: float, check: Callable[[], None]) -> None:
    """Raise UserError unless each sample is in the training set of one of the models, and not in that of another.

    The error says how many models would do.
    """
    seed, index = setup.run.corruption.seed, setup.dataset.train.index
    n = len(index)
    ever = torch.zeros(2, n, dtype=torch.bool)  # with it, without it
    hopeless = n * max(ratio, 1 - ratio) ** LIMIT > HOPELESS
    for first in range(0, 0 if hopeless else LIMIT, AT_ONCE):
        check()
        some = torch.arange(first, first + AT_ONCE)
        for model, mine in zip(some.tolist(), included(seed, some[:, None], index, ratio), strict=True):
            ever |= torch.stack((mine, ~mine))
            if bool(ever.all()):
                if model < models:
                    return
                raise _too_few(models, n, f"give at least {model + 1:,}", f"at least {model + 1}")
    raise _too_few(models, n, f"{LIMIT:,} would be too; choose a --ratio nearer to 0.5", f"above {LIMIT}")


def _too_few(models: int, n: int, fix: str, allowed: str) -> UserError:
    problem = f"--models {models} are too few for one with and one without each of {n:,} samples"
    return UserError(problem, fix, option="--models", value=models, allowed=allowed)


def check_samples(included: torch.Tensor, models: range, ratio: float) -> None:
    """Raise UserError for a model with hardly a sample. included: bool [K, n]."""
    counts = included.sum(1).tolist()
    for model, count in zip(models, counts, strict=True):
        if count < LEAST_SAMPLES:
            raise UserError(
                f"model {model} has {count} of {included.shape[1]} samples at --ratio {ratio}",
                "use more images, or a larger ratio",
                option="--ratio",
                value=ratio,
            )


def missing(there: list[range], models: int, most: int) -> list[range]:
    """Return the models below `models` that have no file, in groups of at most `most`.

    Groups end at multiples of `most`, so that a command that is given again makes the same groups, and the same bits.
    """
    have = {model for group in there for model in group}
    groups: list[range] = []
    for model in range(models):
        if model in have:
            continue
        if groups and groups[-1].stop == model and model % most:
            groups[-1] = range(groups[-1].start, model + 1)
        else:
            groups.append(range(model, model + 1))
    return groups
