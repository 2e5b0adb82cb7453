"""Scores of single runs, from the logits that training computes anyway: a sample's as it is presented in each epoch.

AUM               mean over epochs of the logit of its label less the largest other logit (Pleiss et al. 2020)
EL2N              distance of the softmax from the one-hot label, in epoch 3 (Paul et al. 2021)
first learned     the epoch from which on it is right in every epoch
forgetting        how often it goes from right to wrong; the number of epochs where it is never right (Toneva 2019)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EL2N_EPOCH = 3
SCORES = ("aum", "el2n", "first_learned", "forgetting")
FALLS = ("aum",)
"""Scores that are lower where a sample is harder."""


class Presentations:
    """What each of K models gave for each of n samples, as it was presented to it."""

    def __init__(self, included: Tensor) -> None:
        """included: bool [K, n], the samples of each model by place; others are not counted."""
        self.included = included
        k, n = included.shape
        device = included.device
        self._margins = torch.zeros(k, n, device=device)
        self._el2n = torch.zeros(k, n, device=device)
        self._right, self._ever = (torch.zeros(k, n, dtype=torch.bool, device=device) for _ in range(2))
        self._last_wrong, self._forgotten = (torch.zeros(k, n, dtype=torch.int32, device=device) for _ in range(2))
        self._epochs = torch.zeros(k, dtype=torch.int32, device=device)

    def add(self, epoch: int, models: Tensor, places: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch. epoch: from 1. models: int64 [k]. places: int64 [B], of its samples. logits: [k, B, classes]."""
        where = models[:, None], places[None]
        logits = logits.float()
        named = labels.expand(len(models), -1)[..., None]
        own = logits.gather(2, named)
        others = logits.scatter(2, named, -torch.inf).amax(2)
        self._margins[where] += own[..., 0] - others
        if epoch <= EL2N_EPOCH:
            self._el2n[where] = (logits.softmax(2) - F.one_hot(labels, logits.shape[2])).norm(dim=2)
        right = logits.argmax(2) == labels
        self._forgotten[where] += (self._right[where] & ~right).to(torch.int32)
        self._last_wrong[where] = torch.where(right, self._last_wrong[where], epoch)
        self._right[where] = right
        self._ever[where] |= right
        self._epochs[models] = epoch

    def online_accuracy(self, models: Tensor) -> Tensor:
        """Return the share of each model's samples that were right when last presented: float64 [k]."""
        mine = self.included[models]
        return (self._right[models] & mine).sum(1).double() / mine.sum(1)

    def finite(self, models: Tensor) -> Tensor:
        """Return whether all that a model gave was finite: bool [k]."""
        return self._margins[models].isfinite().all(1)

    def scores(self) -> dict[str, Tensor]:
        """Return each score of SCORES: float32 [K, n], of no meaning where a sample is not the model's."""
        epochs = self._epochs[:, None]
        return {
            "aum": self._margins / epochs,
            "el2n": self._el2n,
            "first_learned": (self._last_wrong + 1).float(),
            "forgetting": torch.where(self._ever, self._forgotten, epochs).float(),
        }
