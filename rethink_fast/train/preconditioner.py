"""Adam for perceptrons on images, whose first layer learns at the same rate along every direction of its input.

Images vary thousands of times more along their smooth directions than along the others, and so does the gradient of the
first layer. With C the second moments of the inputs, e its eigenvalues and m their mean, the gradient is multiplied by

    Q diag((e / (0.001 m) + 1)^(-1/2)) Q^T,    C = Q diag(e) Q^T

before Adam sees it. This is the input half of K-FAC (Martens and Grosse 2015) to the power one half; the inputs of a
first layer do not change, so that it is computed once. Labels do not come into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

DAMPING = 0.001
SAMPLES = 10_000


class PreconditionedAdam(torch.optim.Adam):
    """Adam, with the gradient of the first linear layer multiplied by `matrix`, which `fit` computes.

    dtype: of the product and of the matrix.
    Raises UserError for a network that does not begin with a linear
    layer on all pixels.
    """

    def __init__(self, model: nn.Module, groups: list[dict[str, Any]], *, dtype: torch.dtype, **options: Any) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        if not isinstance(layers[0], nn.Linear):
            problem = "--optimizer preconditioned-adam is for networks whose first layer is linear"
            fix = "choose adam or sgd, or --model mlp_1x512 or mlp_3x512"
            raise UserError(problem, fix, option="--optimizer", value="preconditioned-adam")
        super().__init__(groups, **options)
        self._first = layers[0].weight
        width = self._first.shape[1]
        self.matrix = torch.zeros(width, width, dtype=dtype, device=self._first.device)

    @torch.no_grad()
    def fit(self, batches: Iterator[Tensor]) -> None:
        """Compute the matrix from the first 10,000 samples. batches: of inputs [B, C, h, w]."""
        moments = torch.zeros(self.matrix.shape, device=self.matrix.device)
        seen = 0
        for inputs in batches:
            flat = inputs.flatten(1).float()[: SAMPLES - seen]
            moments.addmm_(flat.T, flat)
            seen += len(flat)
            if seen == SAMPLES:
                break
        moments /= seen
        mean = moments.diagonal().mean()
        values, vectors = torch.linalg.eigh(moments)
        gains = (values.clamp_min(0) / (DAMPING * mean) + 1).rsqrt()
        self.matrix.copy_((vectors * gains) @ vectors.T)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters, as torch.optim.Adam.step."""
        gradient = self._first.grad
        if gradient is not None:
            self._first.grad = (gradient.to(self.matrix.dtype) @ self.matrix).to(gradient.dtype)
        super().step()
