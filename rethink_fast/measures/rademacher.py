"""Rademacher complexity, from below, by training on random signs.

    R_S(H) = E_sigma sup_h (1/n) sum_i sigma_i h(x_i),   v_k = (1/n) sum_i sigma_i sign f_k(x_i)
    R_S >= mean v - sqrt(2 ln(2 / delta) / (K n))    with probability 1 - delta

f_k is trained on the k-th of K draws of signs. v_k is at most the supremum, whatever training finds; one sign changes
the supremum by at most 2 / n, hence the second line (McDiarmid). For two classes the bound on the error,
R_n + R_S + 3 sqrt(ln(2 / delta) / (2n)), is then at least what is given here, for every network of this kind.
Source: Zhang et al. 2017, equation 1; Bartlett and Mendelson, "Rademacher and Gaussian complexities", JMLR 3 (2002).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .measurement import DELTA, Measurement, hoeffding, judged, timed
from .network import logits_of
from .training import Trainer

DRAWS = 3


def mcdiarmid(draws: int, n: int, delta: float = DELTA) -> float:
    """Return sqrt(2 ln(2 / delta) / (K n))."""
    return math.sqrt(2 * math.log(2 / delta) / (draws * n))


@timed
def rademacher(trainer: Trainer, positions: Tensor, inputs: Tensor, *, draws: int = DRAWS) -> Measurement:
    """Return the correlation with random signs that training reaches, a mean over draws.

    trainer: trains a network, see training.Trainer.
    positions: int64 [n], ascending, of the training samples to be taken.
    inputs: float [n, ...], what the network takes of them.
    draws: of signs.
    """
    n = len(positions)
    values = []
    for draw in range(draws):
        signs = torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(draw))
        right = logits_of(trainer(positions, signs, classes=2), inputs).argmax(1) == signs
        values.append(2 * right.double().mean().item() - 1)
    mean, term = sum(values) / draws, mcdiarmid(draws, n)
    least = mean - term + hoeffding(n)
    return Measurement(
        name="rademacher",
        value=mean,
        meaning="Rademacher complexity, from below",
        bounds="test error, two classes",
        reference="Zhang et al. 2017, eq. 1",
        bound=least,
        verdict="vacuous" if judged(least, 2) == "vacuous" else None,
        error=term,
        confidence=1 - DELTA,
        note=f"± is McDiarmid's term, at {1 - DELTA:.0%}; one-sided: the complexity is at least the value less it, and "
        "the bound at least the one given",
        details={"draws": values, "n": n},
    )
