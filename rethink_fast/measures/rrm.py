"""Robustness, rationality and memorization: three parts of the gap, by one more network with a few random labels.

    gap = Train - Test <= [Train - Train(eta)]+ + [Train(eta) - NTrain(eta)]+ + [NTrain(eta) - Test]+
                          robustness              memorization                 rationality

Train, Test: accuracy of the network on the labels it is given, and on test images. Train(eta): that of one trained with
wrong labels, each with probability eta, on the original labels; NTrain(eta) on the images with a wrong label alone. The
inequality holds by arithmetic: what it shows is which part is large.
Source: Bansal, Kaplun and Barak, "For self-supervised learning, rationality implies generalization, provably", ICLR
2021; compared with the authors' code and its table of 44 results (ICLR2021-rep-gen/Rationality-Generalization): in all
of them the parts, by these names, add up to their bound, and to the gap where none is cut off at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .measurement import Measurement, Unreadable, timed
from .network import logits_of
from .training import Trainer

ETA = 0.05


@timed
def rrm(
    trainer: Trainer,
    positions: Tensor,
    labels: Tensor,
    inputs: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    classes: int,
    eta: float = ETA,
) -> Measurement:
    """Return the sum of the three parts.

    trainer: trains a network, see training.Trainer.
    positions: int64 [n], ascending, of the training samples to be taken.
    labels: int64 [n], their labels.
    inputs: float [n, ...], what the network takes of them.
    test: network inputs and labels of test images.
    classes: of the task.
    eta: probability of a wrong label, drawn from the other classes.
    Raises Unreadable where no label is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=generator) < eta
    others = (labels + torch.randint(1, classes, (len(labels),), generator=generator)) % classes
    noisy = torch.where(wrong, others, labels)
    if not bool(wrong.any()):
        raise Unreadable(f"it needs a wrong label, and with probability {eta:g} none of {len(labels)} is")
    clean = trainer(positions, labels, classes=classes)
    right = logits_of(trainer(positions, noisy, classes=classes), inputs).argmax(1) == labels
    train = (logits_of(clean, inputs).argmax(1) == labels).double().mean().item()
    tested = (logits_of(clean, test[0]).argmax(1) == test[1]).double().mean().item()
    train_eta, changed_eta = right.double().mean().item(), right[wrong].double().mean().item()
    parts = {
        "robustness": max(train - train_eta, 0.0),
        "memorization": max(train_eta - changed_eta, 0.0),
        "rationality": max(changed_eta - tested, 0.0),
    }
    total = sum(parts.values())
    return Measurement(
        name="rrm",
        value=total,
        meaning="sum of the three parts",
        bounds="gap, by arithmetic",
        reference="Bansal et al. 2021",
        note=", ".join(f"{name} {value:.3f}" for name, value in parts.items()) + f"; gap {train - tested:.3f}",
        details={
            **parts,
            "gap": train - tested,
            "train": train,
            "test": tested,
            "train_eta": train_eta,
            "changed_train_eta": changed_eta,
            "changed": int(wrong.sum()),
            "n": len(labels),
        },
    )
