"""Recipes: the paper's hyper-parameters, those of its authors' script, and ours that memorise in the least time.

The rules of the fast recipe. Allowed: batch size, learning rate and its schedule, optimizer, precision, how often the
whole set is evaluated. Not allowed: another network or initialisation, other images, whitening or labels, leaving
samples out, knowing the labels in any way but through the gradient of the loss, or solving for the weights. Its claim
is about full passes over the training set in eval mode, and is the mean over at least five seeds (README). The recipes
of large batches, for a GPU, have no claim yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import UserError


@dataclass(frozen=True)
class FastRecipe:
    """A fast recipe.

    images: how many images it was found on, of CIFAR-10 or, for Inception V3, of ImageNet.
    options: by their names in config.Train.
    least: how many images it takes for it to be chosen.
    """

    images: int
    options: dict[str, Any]
    least: int = 0


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
    "inception_small_quarter": 0.1,
    "alexnet_small": 0.01,
    "mlp_1x512": 0.01,
    "mlp_3x512": 0.01,
}
"""Appendix A. inception_small_no_bn does not memorise at this rate with our initialisation; 0.01 is its usual one here.
inception_small_quarter, which is not the paper's, has the rate of Inception."""

PAPER_IMAGENET = {
    "batch_size": 32,
    "optimizer": "rmsprop",
    "lr": 0.045,
    "schedule": "exponential",
    "lr_decay": 0.94**0.5,
    "momentum": 0.9,
    "weight_decay": 0.0,
}
"""Inception V3 on ImageNet: the TensorFlow Inception package, whose setup the paper says it reuses. Each of the paper's
50 asynchronous workers updated the weights by batches of the package's 32. There the rate falls to 0.94 times after two
epochs, here by the square root of that after each. The paper calls its optimizer SGD; with eps = 1 the package's is
close to that while the gradients are small."""

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

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        **{model: {**PAPER, "lr": lr} for model, lr in PAPER_LEARNING_RATE.items()},
        "inception_v3": PAPER_IMAGENET,
    },
    "authors-script": {model: {**AUTHORS_SCRIPT, "lr": lr} for model, lr in AUTHORS_LEARNING_RATE.items()},
}
"""Recipes of others: the options of each network."""
WHO = {"paper": "the paper", "authors-script": "the script"}


_SPEED = {"eval_interval": 10**6, "precision": "bf16"}


def _fast(images: int, *, batch_size: int, optimizer: str, lr: float, epochs: int, least: int = 0) -> FastRecipe:
    options = {
        **{"batch_size": batch_size, "optimizer": optimizer, "lr": lr, "momentum": 0.9, "weight_decay": 0.0},
        **{"schedule": "linear", "epochs": epochs, **_SPEED},
    }
    return FastRecipe(images, options, least)


FAST: dict[str, tuple[FastRecipe, ...]] = {
    "mlp_1x512": (_fast(50_000, batch_size=1000, optimizer="preconditioned-adam", lr=0.005, epochs=20),),
    "alexnet_small": (
        _fast(1_000, batch_size=25, optimizer="adam", lr=0.0005, epochs=20),
        _fast(10_000, batch_size=256, optimizer="adam", lr=0.001, epochs=32, least=3_000),
        _fast(50_000, batch_size=512, optimizer="adam", lr=0.001, epochs=64, least=20_000),
    ),
    "inception_small": (
        _fast(1_000, batch_size=20, optimizer="adam", lr=0.0003, epochs=16),
        _fast(5_000, batch_size=256, optimizer="adam", lr=0.002, epochs=30, least=3_000),
        FastRecipe(50_000, {**RECIPES["paper"]["inception_small"], "epochs": 51, **_SPEED}, least=20_000),
    ),
    "inception_v3": (_fast(200, batch_size=32, optimizer="adam", lr=0.001, epochs=40),),
}
"""By network, those of more images last. Evaluated only near the goal and at the end: the interval is longer than any
run. models/README.md has what each was found by. inception_small's of all of CIFAR-10 is the paper's own."""


def recipe(name: str, model: str, images: int) -> dict[str, Any]:
    """Return the options that a recipe sets for this network: those of training, and the size of its input.

    images: of the training set; among several fast recipes it decides.
    Raises UserError where there is none.
    """
    if name in RECIPES:
        entries = RECIPES[name]
        if model not in entries:
            raise UserError(
                f"--recipe {name} has no hyper-parameters for {model}",
                f"{WHO[name]} gives them for {', '.join(entries)}",
                option="--recipe",
                value=model,
                allowed=tuple(entries),
            )
        return entries[model]
    return fast_recipe(model, images).options


def fast_recipe(model: str, images: int) -> FastRecipe:
    """Return the fast recipe of a network for so many images. Raises UserError where there is none."""
    if model not in FAST:
        raise UserError(
            f"--recipe fast has no entry for {model}",
            f"choose one of {', '.join(FAST)}, or --recipe paper",
            option="--recipe",
            value=model,
            allowed=tuple(FAST),
        )
    return next(each for each in reversed(FAST[model]) if images >= each.least)
