"""MLPs: one or three hidden layers of 512 units on all pixels, ReLU everywhere (Zhang et al. 2017, appendix A)."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import initialise


class MLP(nn.Sequential):
    """A perceptron on all pixels: 1,209,866 parameters for 1x512 and 1,735,178 for 3x512 on 28x28x3 and 10 classes.

    float [B, channels, *size] -> [B, num_classes].

    hidden: units of each hidden layer.
    dropout: before the last layer.
    """

    def __init__(
        self, *, num_classes: int, channels: int, size: tuple[int, int], hidden: tuple[int, ...], dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = channels * size[0] * size[1]
        self.append(nn.Flatten())
        for units in hidden:
            self.extend((nn.Linear(width, units), nn.ReLU()))
            width = units
        last = nn.Linear(width, num_classes)
        self.extend((nn.Dropout(dropout), last))
        initialise(self, last)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)
