"""What the networks share: initial weights, and TensorFlow's SAME padding, which the paper's layer sizes imply."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAST_LAYER_STD = 0.01


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that leaves `num_batches_tracked` at 0: nothing reads it, and on a GPU it takes a kernel a layer."""

    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


def in_gpu_graph(x: Tensor) -> bool:
    """Return whether torch.compile is making code for the GPU that `x` is on."""
    return x.is_cuda and torch.compiler.is_compiling()


def relu_after_norm(x: Tensor) -> Tensor:
    """Return the ReLU of batch norm's output, in a form whose gradient reads less memory in compiled code for a GPU.

    The gradient of `relu` needs its output. That of `where` needs the sign of its input, which the kernels of batch
    norm's gradient compute again from the convolution's output, which they read in any case.
    """
    return torch.where(x <= 0, 0, x) if in_gpu_graph(x) else x.relu_()


def initialise(model: nn.Module, *last: nn.Linear) -> None:
    """Draw the weights again: He normal (fan-in) in every layer a ReLU follows, std 0.01 in the `last` ones, biases 0.

    The paper does not state its initialisation. He normal keeps the variance through ReLU layers, with or without
    batch norm; a small last layer starts the loss at ln(classes).

    last: the linear layers that return logits.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module in last:
                nn.init.normal_(module.weight, std=LAST_LAYER_STD)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def pad_for_stride_2(x: Tensor) -> Tensor:
    """Zero-pad [B, C, H, W] as SAME does for a 3x3 window of stride 2: right and bottom only where the size is even.

    PyTorch's padding=1 pads all four sides, which moves an even grid by one pixel. After a ReLU the zeros are as
    good as minus infinity for max pooling, so one padded tensor serves convolution and pooling.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))
