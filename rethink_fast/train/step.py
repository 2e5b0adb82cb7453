"""The step: forward, loss, backward, update and the counters, with nothing read back from the device."""

from __future__ import annotations

import copy
import ctypes
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AUX_WEIGHT = 0.4


class Step:
    """One network, its optimizer, and counters that live on the device.

    precision: "fp32", or "bf16" for autocast with the weights, the loss and batch norm's statistics in float32.
    compiled: whether torch.compile makes the forward pass and its gradient.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, precision: str, compiled: bool) -> None:
        self.model = model
        self.optimizer = optimizer
        self.compiled = compiled
        self.autocast = precision == "bf16"
        self.device = next(model.parameters()).device
        self._loss = torch.compile(self._loss_of, dynamic=False) if compiled else self._loss_of
        self._score = torch.compile(self._score_of, dynamic=False) if compiled else self._score_of
        self.steps = torch.zeros((), dtype=torch.int64, device=self.device)
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self.reset()

    def reset(self) -> None:
        """Start the counters of an epoch anew."""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.right = torch.zeros((), dtype=torch.int64, device=self.device)
        self.seen = 0

    def _loss_of(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            out = self.model(inputs)
        logits, aux = out if isinstance(out, tuple) else (out, None)
        loss = F.cross_entropy(logits.float(), labels)
        right = (logits.argmax(1) == labels).sum()
        if aux is not None:
            loss = loss + AUX_WEIGHT * F.cross_entropy(aux.float(), labels)
        return loss, right

    def _score_of(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits = self.model(inputs)
        return F.cross_entropy(logits.float(), labels, reduction="none"), logits.argmax(1) == labels

    def train(self, inputs: Tensor, labels: Tensor) -> None:
        """One update. The first step whose loss is not finite is kept in `bad_step`."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, right = self._loss(inputs, labels)
        loss.backward()
        self.optimizer.step()
        loss = loss.detach()
        self.steps += 1
        self.loss_sum += loss.double() * len(labels)
        self.right += right
        self.seen += len(labels)
        first = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step = torch.where(first, self.steps, self.bad_step)

    @torch.no_grad()
    def score(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each sample, and whether its class is right; in eval mode."""
        self.model.eval()
        losses, right = self._score(inputs, labels)
        return losses, right

    def online(self) -> tuple[float, float]:
        """Mean loss and accuracy over the batches of this epoch so far, as they were seen in training."""
        seen = max(1, self.seen)
        return self.loss_sum.item() / seen, self.right.item() / seen

    def warm_up(self, shape: tuple[int, int, int], dtype: torch.dtype, sizes: set[int], scored: set[int]) -> float:
        """Compile for every batch size that will come, leaving network and random state untouched.

        shape: [C, h, w] of an input. Returns the seconds it took; 0.0 if nothing is compiled.
        """
        if not self.compiled:
            return 0.0
        start = time.perf_counter()
        before = copy.deepcopy(self.model.state_dict())
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for batch in sorted(sizes | scored):
                inputs = torch.zeros(batch, *shape, dtype=dtype, device=self.device)
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                labels = torch.zeros(batch, dtype=torch.int64, device=self.device)
                if batch in sizes:
                    self.model.train()
                    self._loss(inputs, labels)[0].backward()
                if batch in scored:
                    self.score(inputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.load_state_dict(before)
        synchronize(self.device)
        return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trim_heap(device: torch.device) -> None:
    """Give back to the system the memory of batches that are freed, where torch leaves that to glibc: on a CPU.

    glibc fits new aligned blocks badly into the holes of old ones, so that they pile up: 85 epochs of MNIST with an MLP
    held 7.3 GB where 0.6 are in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if device.type == "cpu" else None
    if trim is not None:
        trim(0)
