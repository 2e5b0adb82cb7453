"""What a network costs: parameters, FLOPs and memory, counted without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import build_model


@dataclass(frozen=True)
class NetworkCost:
    """What one image costs.

    forward_flops, training_flops: FLOPs of matmuls and convolutions in a forward pass, and in a training step.
    kept_bytes: bytes kept from the forward to the backward pass.
    parameters: trainable parameters of the network.
    """

    forward_flops: float
    training_flops: float
    kept_bytes: float
    parameters: int


def cost_of(model: str, *, size: int, channels: int, num_classes: int, precision: str) -> NetworkCost:
    """Return the cost of a network, which is built on the meta device and counted.

    model: its name in `MODELS`.
    size: height and width of the input, in pixels.
    precision: fp32, or bf16 for all of weights and activations.
    Raises UserError for a size that the network does not take.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    images = 2  # batch norm has no statistics over a single value
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
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
    kept = sum(nbytes for key, (_, nbytes) in storages.items() if key not in own)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return NetworkCost(forward / images, counter.get_total_flops() / images, kept / images, parameters)
