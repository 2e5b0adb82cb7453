"""PAC-Bayes: how much noise the weights bear, and the bound on the noisy network.

    Q = N(w, s^2 I),  P = N(w0, s^2 I),  KL = |w - w0|^2 / (2 s^2),  c = (KL + ln(2 sqrt n K / delta)) / n
    kl(error of Q on the sample || true error of Q) <= c,  and so  true - sample error <= sqrt(c / 2)

s: the largest of K values 2^(1 - j/8) at which the train accuracy falls by at most 0.1 on average; the union bound over
them is the factor K. w0, the weights before training, know nothing of the data. The magnitude-aware s' is that of noise
s' sqrt(w^2 + 0.001^2) on each weight.
Source: McAllester, "PAC-Bayesian model averaging", COLT 1999; Maurer, "A note on the PAC Bayesian theorem", 2004, for
ln(2 sqrt n / delta); Jiang, Neyshabur, Mobahi, Krishnan and Bengio, "Fantastic generalization measures and where to
find them", ICLR 2020, for s and s'. Ours is the deviation of the noise: their published code passes its square for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .measurement import DELTA, Measurement, judged, kl_inverse, timed
from .network import frozen, logits_of

DROP = 0.1
DRAWS = 10
GRID = [2 ** (1 - j / 8) for j in range(128)]
EPSILON = 1e-3


class Noise:
    """A network with noise on its weights, the same draws for every size of it."""

    def __init__(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
        self._model = frozen(model, inputs[:2])
        self._inputs, self._labels = inputs, labels
        self._weights = [p.detach().clone() for p in self._model.parameters()]

    def accuracies(self, size: float, *, by_magnitude: bool = False) -> Tensor:
        """Return the accuracy of each draw: float64 [DRAWS]."""
        generator = torch.Generator(self._inputs.device).manual_seed(0)
        found = []
        for _ in range(DRAWS):
            for p, w in zip(self._model.parameters(), self._weights, strict=True):
                noise = torch.randn(w.shape, generator=generator, device=w.device)
                scale = (w.square() + EPSILON**2).sqrt() if by_magnitude else 1.0
                p.data = w + size * scale * noise
            found.append((logits_of(self._model, self._inputs).argmax(1) == self._labels).double().mean())
        return torch.stack(found)

    def clean(self) -> float:
        """Return the accuracy without noise."""
        for p, w in zip(self._model.parameters(), self._weights, strict=True):
            p.data = w
        return (logits_of(self._model, self._inputs).argmax(1) == self._labels).double().mean().item()


def largest(grid: list[float], holds: Callable[[float], bool]) -> float:
    """Return the largest value of a falling grid that fits, by bisection; the least where none does."""
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(grid[middle]) else (middle + 1, high)
    return grid[low]


@timed
def pac_bayes(
    model: nn.Module,
    initial: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    n: int | None = None,
    classes: int | None = None,
) -> Measurement:
    """Return the PAC-Bayes bound on the gap of the network with noise on its weights, and how much noise they bear.

    model: the trained network.
    initial: the same network before training.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    n: images in the whole training set. Default: m.
    classes: of the task. Default: the largest label and 1.
    """
    n = len(inputs) if n is None else n
    noise = Noise(model, inputs, labels)
    least = noise.clean() - DROP
    sigma = largest(GRID, lambda size: noise.accuracies(size).mean().item() >= least)
    by_magnitude = largest(GRID, lambda size: noise.accuracies(size, by_magnitude=True).mean().item() >= least)
    now, before = frozen(model, inputs[:2]), frozen(initial, inputs[:2])
    pairs = zip(now.parameters(), before.parameters(), strict=True)
    distance = math.sqrt(sum((p - q).detach().double().square().sum().item() for p, q in pairs))
    divergence = distance**2 / (2 * sigma**2)
    c = (divergence + math.log(2 * math.sqrt(n) * len(GRID) / DELTA)) / n
    errors = 1 - noise.accuracies(sigma)
    bound = kl_inverse(errors.mean().item(), c)
    return Measurement(
        name="pac_bayes",
        value=math.sqrt(c / 2),
        meaning="gap of the network with noise on its weights, from above",
        bounds="error with noise",
        reference="McAllester 1999",
        bound=bound,
        verdict=judged(bound, classes or int(labels.max()) + 1),
        confidence=1 - DELTA,
        note=f"the error under noise is a mean of {DRAWS} draws, whose own error is not in the bound",
        details={
            "sigma": sigma,
            "sigma_by_magnitude": by_magnitude,
            "distance": distance,
            "kl_per_image": divergence / n,
            "error_with_noise": errors.mean().item(),
            "error_with_noise_se": (errors.std() / math.sqrt(DRAWS)).item(),
        },
    )
