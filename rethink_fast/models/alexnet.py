"""Small Alexnet: two (convolution 5x5 -> max-pool 3x3 -> local-response-normalization) modules, then two fully
connected layers of 384 and 192 units and the linear classifier (Zhang et al. 2017, appendix A).

The paper does not give channels, strides, padding and the constants. 64 channels, SAME padding and stride 2 in the
pooling are what its parameter count implies; the constants are those of TensorFlow's CIFAR-10 tutorial.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import initialise, pad_for_stride_2


class _Module(nn.Module):
    """Convolution 5x5, ReLU, max-pool 3x3 of stride 2, then normalization: [B, C, H, W] -> [B, out, ~H/2, ~W/2]."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 5, padding=2)
        self.pool = nn.MaxPool2d(3, 2)
        # TensorFlow's depth_radius 4 and alpha 0.001 / 9: PyTorch counts 2 r + 1 channels and divides alpha by them.
        self.norm = nn.LocalResponseNorm(size=9, alpha=0.001, beta=0.75, k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(pad_for_stride_2(self.conv(x).relu())))


class AlexNetSmall(nn.Module):
    """The small Alexnet: 1,387,786 parameters on 28x28x3 and 10 classes.

    float [B, channels, *size] -> [B, num_classes].

    dropout: after each fully connected layer of 384 and 192 units.
    """

    def __init__(self, *, num_classes: int, channels: int, size: tuple[int, int], dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(_Module(channels, 64), _Module(64, 64))
        height, width = (-(-side // 4) for side in size)
        last = nn.Linear(192, num_classes)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * height * width, 384),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(384, 192),
            nn.ReLU(),
            nn.Dropout(dropout),
            last,
        )
        initialise(self, last)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
