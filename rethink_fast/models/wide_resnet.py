"""Wide residual network 28-1, of the script that the paper's first author published with it.

    block(C, S)   batch norm -> ReLU -> convolution 3x3 of stride S to C channels -> batch norm -> ReLU -> dropout ->
                  convolution 3x3, plus the input; where C or S changes the input, plus a convolution 1x1 of it
    28-1          convolution 3x3 to 16, four blocks of 16, four of 32 and four of 64, the first of the latter two of
                  stride 2, batch norm -> ReLU -> mean over the positions -> linear

Source: model_wideresnet.py in github.com/pluskid/fitting-random-labels at 972e71c. The paper has no such network. The
script pools over 8x8 positions, which are all of them at its 32 pixels. Its dropout comes before the second batch norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import BatchNorm2d

WIDTHS, BLOCKS = (16, 32, 64), 4


class WideBlock(nn.Module):
    """Two convolutions and what goes past them: float [B, inputs, H, W] -> [B, width, H / stride, W / stride]."""

    def __init__(self, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = BatchNorm2d(inputs), BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if inputs != width else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu()
        out = self.dropout(self.conv1(active))
        out = self.conv2(self.norm2(out).relu())
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-28-1, 369,498 parameters for 10 classes: float [B, channels, *size] -> [B, num_classes].

    dropout: between the convolutions of each block.
    """

    def __init__(self, *, num_classes: int, channels: int, size: tuple[int, int], dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        blocks, inputs = [], WIDTHS[0]
        for width in WIDTHS:
            for _ in range(BLOCKS):
                blocks.append(WideBlock(inputs, width, 1 if inputs == width else 2, dropout))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.conv(x))
        return self.classifier(self.norm(x).relu().mean(dim=(2, 3)))
