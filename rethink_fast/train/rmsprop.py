"""RMSprop with momentum, whose update torch.compile makes into kernels that read and write each value once.

torch.optim.RMSprop has no fused form: for Inception V3 its operations are 43 launches and 2.29 GB on a GPU, compiled 16
and 0.67 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .inductor import compile_function

Group = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], float]
"""Parameters, gradients, means of squared gradients, momenta; weight decay."""


class RMSprop(torch.optim.Optimizer):
    """torch.optim.RMSprop with momentum, not centered. One learning rate, `alpha`, `eps` and momentum for all groups.

    lr: a number, or float32 [] on the device.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float | Tensor, alpha: float, eps: float, momentum: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum})
        device = groups[0]["params"][0].device
        self._compiled: Callable[..., None] = compile_function(_update_, device, fullgraph=True)

    def step(self, closure: None = None, *, compiled: bool = False) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient.

        compiled: by torch.compile; a learning rate that changes must then be a tensor.
        """
        groups: list[Group] = []
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                if not self.state[parameter]:
                    for name in ("square_avg", "momentum_buffer"):
                        self.state[parameter][name] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            squares, momenta = ([self.state[p][n] for p in parameters] for n in ("square_avg", "momentum_buffer"))
            groups.append((parameters, gradients, squares, momenta, group["weight_decay"]))
        first = self.param_groups[0]
        update_ = self._compiled if compiled else _update_
        update_(groups, first["lr"], first["alpha"], first["eps"], first["momentum"])


@torch.no_grad()
def _update_(groups: list[Group], lr: float | Tensor, alpha: float, eps: float, momentum: float) -> None:
    for parameters, gradients, squares, momenta, weight_decay in groups:
        if weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=weight_decay))
        torch._foreach_mul_(squares, alpha)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - alpha)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, eps)
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_addcdiv_(momenta, gradients, scales)
        torch._foreach_add_(parameters, list(torch._foreach_mul(momenta, -lr)))
