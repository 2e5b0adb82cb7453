"""Distance from initialization, for two layers.

    |V|_F (|U - U0|_F |X| + |U0 X|) / (gamma n)

for first layer U, U0 at first, second layer V, and the n inputs X; without the theorem's constants, so that it bounds
nothing by itself. It falls as the network gets wider.
Source: Neyshabur, Li, Bhojanapalli, LeCun and Srebro, "The role of over-parametrization in generalization of neural
networks", ICLR 2019; compared with the authors' code (bneyshabur/over-parametrization), which has the same terms, takes
the outputs of the first ReLU where U0 X stands here, which are no larger, and adds 1 to each factor.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from .measurement import Measurement, Unreadable, timed
from .norms import chain_of, perceptron


@timed
def neyshabur(
    model: nn.Module, initial: nn.Module, inputs: Tensor, labels: Tensor, *, n: int | None = None
) -> Measurement:
    """Return the complexity of a network of two layers.

    model: the trained network.
    initial: the same network before training.
    inputs: float [m, ...], network inputs of a sample of the training set.
    labels: int64 [m], their labels in training.
    n: images in the whole training set. Default: m.
    Raises Unreadable for any other network.
    """
    n = len(inputs) if n is None else n
    chain = chain_of(model, initial, inputs, labels)
    weights = perceptron(chain)
    if len(weights) != 2:
        raise Unreadable(f"it is for two layers, and this network has {len(weights)}")
    (u, u0), (v, _) = weights
    at_first = (inputs.flatten(1).double() @ u0.T).square().sum().div(len(inputs)).sqrt().item()
    distance = (u - u0).norm().item()
    value = v.norm().item() * (distance * chain.norm + at_first) / (chain.gamma * math.sqrt(n))
    return Measurement(
        name="neyshabur",
        value=value,
        meaning="the bound without its constants",
        bounds="correlate",
        reference="Neyshabur et al. 2019",
        note=chain.note,
        details={"distance": distance, "gamma": chain.gamma},
    )
