"""RATT, for two classes: a bound by how badly randomly labelled images are fitted.

    R <= E_S + 1 - 2 E_R + (sqrt(2) E_R + 2 + m / (2n)) sqrt(ln(4 / delta) / m)

E_S: error on n images with their labels. E_R: on m others, trained along with random labels, against those. It assumes
that randomly labelled images are fitted no better than held-out ones, and holds after any one epoch that is named
beforehand; the best of T epochs takes delta / T. A network that has fitted everything has the bound 1.
Source: Garg, Balakrishnan, Kolter and Lipton, "RATT: leveraging unlabeled data to guarantee generalization", ICML 2021,
Theorem 1. E_S + 1 - 2 E_R is what the authors' code computes (acmi-lab/RATT_generalization_bound, f848610), with the
network in eval mode and all randomly labelled images in E_R. The last term is in no code of theirs and has not been
compared with the paper. With k classes it is too large to say anything: 0.2 at m = 25,000 and k = 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .measurement import Measurement, judged, timed
from .network import logits_of
from .training import Trainer

EPOCHS, DELTA = 10, 0.1


def slack(e_s: float, e_r: float) -> float:
    """Return E_S + 1 - 2 E_R: E_S itself where random labels are not fitted at all."""
    return e_s + 1 - 2 * e_r


def term(e_r: float, n: int, m: int, delta: float) -> float:
    """Return the deviation term."""
    return (math.sqrt(2) * e_r + 2 + m / (2 * n)) * math.sqrt(math.log(4 / delta) / m)


@timed
def ratt(
    trainer: Trainer,
    positions: Tensor,
    labels: Tensor,
    inputs: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    epochs: int = EPOCHS,
) -> Measurement:
    """Return the best bound of the first epochs. Every third image gets a random label.

    trainer: trains a network, see training.Trainer.
    positions: int64 [n], ascending, of the training samples to be taken.
    labels: int64 [n], 0 or 1.
    inputs: float [n, ...], what the network takes of them.
    test: network inputs and labels, 0 or 1, of test images.
    epochs: to train.
    """
    random = torch.arange(len(labels)) % 3 == 2
    signs = torch.randint(0, 2, (len(labels),), generator=torch.Generator().manual_seed(0))
    given = torch.where(random, signs, labels)
    n, m = int((~random).sum()), int(random.sum())
    rows: list[dict[str, float]] = []

    def watch(epoch: int, model: nn.Module) -> None:
        wrong = logits_of(model, inputs).argmax(1) != given
        e_s, e_r = wrong[~random].double().mean().item(), wrong[random].double().mean().item()
        tested = (logits_of(model, test[0]).argmax(1) != test[1]).double().mean().item()
        found = slack(e_s, e_r) + term(e_r, n, m, DELTA / epochs)
        rows.append({"epoch": epoch, "clean": e_s, "random": e_r, "bound": found, "test": tested})

    trainer(positions, given, classes=2, epochs=epochs, watch=watch)
    best = min(rows, key=lambda row: row["bound"])
    return Measurement(
        name="ratt",
        value=best["bound"],
        meaning="bound on the test error of two classes, after the best epoch",
        bounds="test error, two classes",
        reference="Garg et al. 2021",
        bound=best["bound"],
        verdict=judged(best["bound"], 2),
        confidence=1 - DELTA,
        note=f"after epoch {best['epoch']} of {epochs}, where the test error is {best['test']:.3f}; classes are taken "
        f"by halves, and random labels are assumed to be fitted no better than held-out images",
        details={"epochs": rows, "n": n, "m": m},
    )
