"""A vision transformer (Dosovitskiy et al. 2021): --model rethink_fast.models.examples.vit:vit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCH, WIDTH, DEPTH, HEADS = 4, 64, 2, 4


class ViT(nn.Module):
    """Patches of 4x4 pixels as tokens, encoder layers, and the mean of the tokens: [B, C, H, W] -> [B, num_classes]."""

    def __init__(self, num_classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        tokens = (size[0] // PATCH) * (size[1] // PATCH)
        self.patches = nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, DEPTH, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).mean(1))


def vit(num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Return a small vision transformer for images of at least 4x4 pixels."""
    return ViT(num_classes, channels, size)
