"""Recipes: the paper's hyper-parameters, and ours that memorise the same thing in the least time.

The rules of the fast recipe. Allowed: batch size, learning rate and its schedule, optimizer, precision, how often the
whole set is evaluated. Not allowed: another network or initialisation, other images, whitening or labels, leaving
samples out, knowing the labels in any way but through the gradient of the loss, or solving for the weights. Its claim
is about full passes over the training set in eval mode, and is the mean over at least five seeds (README).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import UserError


@dataclass(frozen=True)
class FastRecipe:
    """A fast recipe.

    images: how many images of CIFAR-10 its claim is about.
    options: by their names in config.Train.
    """

    images: int
    options: dict[str, Any]


PAPER = {
    "batch_size": 128,
    "optimizer": "sgd",
    "schedule": "exponential",
    "lr_decay": 0.95,
    "momentum": 0.9,
    "weight_decay": 0.0,
}
"""Appendix A. The batch size is that of the spacing of Figure 1a's points; weight decay is off in the main runs."""

PAPER_LEARNING_RATE = {
    "inception_small": 0.1,
    "inception_small_no_bn": 0.1,
    "alexnet_small": 0.01,
    "mlp_1x512": 0.01,
    "mlp_3x512": 0.01,
}
"""Appendix A. inception_small_no_bn does not memorise at this rate with our initialisation; 0.01 is its usual one here.
"""


def _fast(images: int, *, batch_size: int, optimizer: str, lr: float, epochs: int) -> FastRecipe:
    options = {
        **{"batch_size": batch_size, "optimizer": optimizer, "lr": lr, "momentum": 0.9, "weight_decay": 0.0},
        **{"schedule": "linear", "epochs": epochs, "eval_interval": 10**6, "precision": "bf16"},
    }
    return FastRecipe(images, options)


FAST: dict[str, FastRecipe] = {
    "mlp_1x512": _fast(50_000, batch_size=1000, optimizer="preconditioned-adam", lr=0.005, epochs=20),
    "alexnet_small": _fast(1_000, batch_size=25, optimizer="adam", lr=0.0005, epochs=20),
    "inception_small": _fast(1_000, batch_size=20, optimizer="adam", lr=0.0003, epochs=16),
}
"""By network. Evaluated only near the goal and at the end: the interval is longer than any run."""


def recipe(name: str, model: str) -> dict[str, Any]:
    """Return the training options that a recipe sets for this network. Raises UserError where there is none."""
    if name == "paper":
        if model not in PAPER_LEARNING_RATE:
            raise UserError(
                f"--recipe paper has no hyper-parameters for {model}",
                f"the paper gives them for {', '.join(PAPER_LEARNING_RATE)}",
                option="--recipe",
                value=model,
                allowed=tuple(PAPER_LEARNING_RATE),
            )
        return {**PAPER, "lr": PAPER_LEARNING_RATE[model]}
    if model not in FAST:
        raise UserError(
            f"--recipe fast has no entry for {model}",
            f"choose one of {', '.join(FAST)}, or --recipe paper",
            option="--recipe",
            value=model,
            allowed=tuple(FAST),
        )
    return FAST[model].options
