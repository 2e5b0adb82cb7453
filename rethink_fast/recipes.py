"""Recipes: the paper's hyper-parameters, those of its authors' script, and ours that memorise in the least time.

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

AUTHORS_SCRIPT = {
    "size": 32,
    "epochs": 300,
    "target_loss": 0.0,
    "batch_size": 128,
    "optimizer": "sgd",
    "schedule": "step",
    "lr_decay": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "precision": "fp32",
}
"""The defaults of train.py and cmd_args.py in github.com/pluskid/fitting-random-labels at 972e71c, by the paper's first
author, which does not claim to reproduce the paper: whole images without augmentation, the rate divided by 10 after 150
and 225 of 300 epochs, and no early stop. Its test labels are corrupted like the training labels; ours never are.
models/README.md has what else differs.
"""

AUTHORS_LEARNING_RATE = {"wrn_28_1": 0.1, "mlp_1x512": 0.01}
"""The script's default, and that of its command for the perceptron."""

RATES: dict[str, tuple[dict[str, Any], dict[str, float], str]] = {
    "paper": (PAPER, PAPER_LEARNING_RATE, "the paper"),
    "authors-script": (AUTHORS_SCRIPT, AUTHORS_LEARNING_RATE, "the script"),
}
"""Recipes of others: the options, the learning rate of each network, and who says so."""


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
    """Return the options that a recipe sets for this network: those of training, and the size of its input.

    Raises UserError where there is none.
    """
    if name in RATES:
        options, rates, who = RATES[name]
        if model not in rates:
            raise UserError(
                f"--recipe {name} has no hyper-parameters for {model}",
                f"{who} gives them for {', '.join(rates)}",
                option="--recipe",
                value=model,
                allowed=tuple(rates),
            )
        return {**options, "lr": rates[model]}
    if model not in FAST:
        raise UserError(
            f"--recipe fast has no entry for {model}",
            f"choose one of {', '.join(FAST)}, or --recipe paper",
            option="--recipe",
            value=model,
            allowed=tuple(FAST),
        )
    return FAST[model].options
