"""What a network costs, counted on torch's meta device: arithmetic, parameters, and what the backward pass needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models import build_model

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Count:
    """Of one image: floating-point operations of a forward pass and of a training step (matrix products and
    convolutions alone), and the bytes kept from forward to backward. parameters: of the network."""

    forward_flops: float
    training_flops: float
    kept_bytes: float
    parameters: int


def count(model: str, *, size: int, channels: int, num_classes: int, precision: str) -> Count:
    """Build the network on the meta device and count. Raises UserError for a size that it does not take."""
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    images = 2  # batch norm has no statistics over a single value
    dtype = DTYPES[precision]
    storages: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage, storage.nbytes()
        return tensor

    with torch.device("meta"):
        network = build_model(model, num_classes=num_classes, channels=channels, size=(size, size)).to(dtype)
        inputs = torch.empty(images, channels, size, size, dtype=dtype)
        labels = torch.empty(images, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = F.cross_entropy(network(inputs).float(), labels)
        forward = counter.get_total_flops()
        loss.backward()
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept = sum(bytes_ for key, (_, bytes_) in storages.items() if key not in own)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Count(forward / images, counter.get_total_flops() / images, kept / images, parameters)
