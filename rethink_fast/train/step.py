"""The step: preprocessing, forward, loss, backward, update and the counters, with nothing read back from the device.

On a GPU each of the two functions below runs as one CUDA graph, replayed by the host:

    train   Batch -> ModelInput -> loss -> gradients -> weights; counters of the epoch
    score   Batch -> ModelInput -> loss and hits, added to the scores

Where a step is short, one graph holds several of them, unrolled, so that the host keeps ahead of the device.

With several ranks each has its share of the batch, gradients and counters are those of the whole, and nothing is
captured: DistributedDataParallel in a graph needs warm-ups and its own streams, and is not tried here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..data.loader import Batch, Loader
from ..stages import is_profiling, stage
from .cuda_graph import CudaGraphCall
from .device import LossPoll
from .distributed import SINGLE_PROCESS, Distributed
from .forward import count_step_, counted, make_loss, make_score
from .inductor import compile_function
from .optim import init_optimizer_state, learning_rate_from, optimizer_state, update
from .precise_batch_norm import BatchNormStatistics
from .process_group import wrap_ddp

LEAD = 4
"""Steps that the host may be ahead of a GPU: enough to keep it busy, and few enough that no batches pile up on it."""

COUNTERS = ("epoch", "steps", "first_non_finite_step", "loss_sum", "right", "score_loss", "score_counts")

TOP_5_ABOVE = 10
"""Top-5 accuracy is measured where there are more classes than these: the paper has it for ImageNet alone."""


class Step:
    """One network, its optimizer, and counters that live on the device.

    precision: "fp32", or "bf16" for autocast with the weights, the loss and batch norm's statistics in float32.
    compiled: whether torch.compile makes the forward pass, its gradient and the update; may be changed between steps.
    top5: whether the scores count hits among the five most likely classes.
    ranks: the processes that share every batch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str,
        compiled: bool,
        top5: bool = False,
        ranks: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.model = model
        self.ranks = ranks
        self.optimizer = optimizer
        self.compiled = compiled
        self.autocast = precision == "bf16"
        self.top5 = top5
        self.device = next(model.parameters()).device
        self.seen = 0
        self.steps_per_graph = 0
        """Training steps in one CUDA graph; 0 where there is none, or before compile.warm_up."""
        self._one = torch.ones((), device=self.device)  # the gradient of the loss: backward would make one each time
        self._rates = torch.zeros(0, device=self.device)
        self._rates_set: list[float] = []
        self._graphs: dict[tuple[str, int, int, int], CudaGraphCall] = {}
        self._lead: list[torch.cuda.Event] = []
        self._loss_poll = LossPoll()

        def counter(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self.epoch = counter(torch.int64)
        self.steps = counter(torch.int64)
        self.first_non_finite_step = counter(torch.int64) - 1
        self.loss_sum = counter(torch.float64)
        self.right = counter(torch.int64)
        self.score_loss = counter(torch.float64)
        self.score_counts = counter(torch.int64, 5 if top5 else 4)
        self.statistics = BatchNormStatistics(model)
        init_optimizer_state(optimizer)
        network = wrap_ddp(model, ranks)
        loss_of = make_loss(network, self.device.type, self.autocast, "sum" if ranks.is_distributed else "mean")
        # torch.compile takes a float64 without dimensions for a number of Python's, and loses what is written to it.
        self._counters = self.steps, self.first_non_finite_step, self.loss_sum[None], self.right
        self._loss_of = loss_of if ranks.is_distributed else counted(loss_of, self._counters)
        self._score_of = make_score(model, self.device.type, self.autocast, top5)
        # DistributedDataParallel cannot be one graph.
        self._compiled_loss = compile_function(self._loss_of, self.device, fullgraph=not ranks.is_distributed)
        self._compiled_score = compile_function(self._score_of, self.device, fullgraph=True)

    def restart(self, model: nn.Module) -> None:
        """Take the weights of `model`, a network of the same kind, and reset everything else."""
        self.reset_graphs()
        self.model.load_state_dict(model.state_dict())
        for value in optimizer_state(self.optimizer).values():
            value.zero_()
        self.steps.zero_()
        self.first_non_finite_step.fill_(-1)
        self._loss_poll = LossPoll()

    def begin_epoch(self, epoch: int) -> None:
        """Reset the counters for an epoch. epoch: keys its random augmentation."""
        self.epoch.fill_(epoch)
        self.loss_sum.zero_()
        self.right.zero_()
        self.seen = 0

    def begin_scores(self) -> None:
        """Reset the scores for an evaluation."""
        self.score_loss.zero_()
        self.score_counts.zero_()

    def train(self, loader: Loader, batch: Batch) -> None:
        """Update the weights. The first step whose loss is not finite is kept in `first_non_finite_step`."""
        if not self.model.training:
            self.model.train()
        self.seen += len(batch)
        self._run("train", self._train, loader, batch)

    def train_several(self, loader: Loader, batch: Batch, rates: list[float]) -> None:
        """Make all steps of a batch, as `train` makes each. rates: their learning rates."""
        if rates != self._rates_set:
            if len(rates) != len(self._rates):
                self._rates = self._rates.new_zeros(len(rates))
            host = torch.tensor(rates)
            self._rates.copy_(host.pin_memory() if self.device.type == "cuda" else host, non_blocking=True)
            self._rates_set = rates
        self.train(loader, batch)

    def observe(self, loader: Loader, batch: Batch) -> None:
        """Add a batch, un-augmented, to the batch norm statistics. Eager, so that they do not depend on --compile."""
        if self.model.training:
            self.model.eval()
        self._run("observe", self._observe, loader, batch)

    def score(self, loader: Loader, batch: Batch) -> None:
        """Add a batch to the scores, in eval mode.

        score_loss: float64 [], the sum of the losses.
        score_counts: int64 [4 or 5], right, right among the corrupted, corrupted, all; with top5 also those whose label
            is among the five most likely.
        """
        if self.model.training:
            self.model.eval()
        if len(batch.index):
            self._run("score", self._score, loader, batch)

    def _run(self, name: str, function: Callable[[Loader, Batch], None], loader: Loader, batch: Batch) -> None:
        if self.ranks.is_distributed or self.device.type != "cuda":
            return function(loader, batch)
        self._wait_for_lead()
        key = (name, id(loader), len(batch.index), batch.steps)
        if key not in self._graphs:
            state, sums, resident = self.state(), self.statistics.state(), loader.split.images.resident

            def restore() -> None:
                self.load_state(state)
                self.statistics.load_state(sums)

            self.optimizer.zero_grad(set_to_none=True)
            self._graphs[key] = CudaGraphCall(
                lambda images, rows, index: function(loader, Batch(images, rows, index, steps=batch.steps)),
                batch.tensors(),
                fixed=(resident, False, False),
                restore=restore,
                by_stage=is_profiling() and name == "train",
            )
        self._graphs[key](*batch.tensors())
        self._lead[-1].record()

    def _wait_for_lead(self) -> None:
        """Wait for the step LEAD steps ago; the last event of the list is then free, and is this step's."""
        if len(self._lead) < LEAD:
            self._lead.append(torch.cuda.Event())
        else:
            self._lead.append(self._lead.pop(0))
            self._lead[-1].synchronize()

    def repeatable(self, inputs: Tensor, labels: Tensor) -> Callable[[], None]:
        """Return the update on this batch as a run makes it, on a GPU as a CUDA graph; it changes nothing until called.

        inputs: [B, C, h, w].
        labels: int64 [B].
        """
        if self.device.type != "cuda" or self.ranks.is_distributed:
            return lambda: self.update(inputs, labels)
        state = self.state()
        self.optimizer.zero_grad(set_to_none=True)
        graph = CudaGraphCall(self.update, (inputs, labels), fixed=(True, True), restore=lambda: self.load_state(state))
        return lambda: graph(inputs, labels)

    def reset_graphs(self) -> None:
        """Drop the captured graphs, for loaders that are replaced."""
        self._graphs.clear()
        self.steps_per_graph = 0

    def _train(self, loader: Loader, batch: Batch) -> None:
        if batch.steps > 1:
            for one, rate in zip(batch.by_step(), self._rates, strict=True):
                with learning_rate_from(self.optimizer, rate):  # read by the update's kernels: a view costs no copy
                    self._train(loader, one)
            return
        with stage("corruption and augmentation"):
            inputs, labels = loader.preprocess(batch, self.epoch)
        self.update(inputs, labels, batch.total)

    def update(self, inputs: Tensor, labels: Tensor, total: int | None = None) -> None:
        """Make the network's part of a training step.

        inputs: [B, C, h, w].
        labels: int64 [B].
        total: the samples of the batch over all ranks, where there are several. The loss is then a sum over the share,
            and the gradient the mean over the batch: the average over the ranks of (ranks / total) times their sums.
        """
        ranks = self.ranks
        # What runs compiled must do so everywhere, so that all ranks communicate in one order; empty shares cannot.
        compiled = self.compiled and not (ranks.is_distributed and total is not None and total < ranks.world_size)
        with stage("forward"):
            loss, right = (self._compiled_loss if compiled else self._loss_of)(inputs, labels)
        with stage("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            (loss if total is None else loss * (ranks.world_size / total)).backward(self._one)
        with stage("update"):
            update(self.optimizer, compiled=compiled)
            if ranks.is_distributed:
                loss_sum = loss.detach().double()
                ranks.all_reduce_sum_(loss_sum, right)
                count_step_(self._counters, loss_sum, right)

    @torch.no_grad()
    def _observe(self, loader: Loader, batch: Batch) -> None:
        inputs = loader.preprocess(batch, None).inputs
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False)
        with self.statistics.adding(len(batch)), half:
            self.model(inputs)

    @torch.no_grad()
    def _score(self, loader: Loader, batch: Batch) -> None:
        inputs, labels = loader.preprocess(batch, None)
        corrupted = loader.corrupted[batch.index]
        losses, right, *top5 = (self._compiled_score if self.compiled else self._score_of)(inputs, labels)
        counted = (right, corrupted & right, corrupted, torch.ones_like(right), *top5)
        self.score_loss += losses.double().sum()
        self.score_counts += torch.stack([each.sum() for each in counted])

    def online(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy over the batches of this epoch so far, as they were in training."""
        seen = max(1, self.seen)
        return self.loss_sum.item() / seen, self.right.item() / seen

    def poll_loss(self) -> tuple[float | None, bool]:
        """Return the mean loss of this epoch and whether one was not finite, without waiting for the device.

        On a GPU they are as old as the call before this one; at first they are None and False.
        """
        if self.device.type != "cuda":
            return self.online()[0], self.first_non_finite_step.item() >= 0
        return self._loss_poll(self.loss_sum, self.first_non_finite_step, max(1, self.seen))

    def _named(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        named = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        named |= optimizer_state(self.optimizer)
        for name in COUNTERS:
            named[f"counter.{name}"] = getattr(self, name)
        return named

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all that the next step depends on: weights, statistics, optimizer, counters, generators."""
        state = {name: value.detach().clone() for name, value in self._named().items()}
        state["counter.seen"] = torch.tensor(self.seen)
        state["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a copy, in place, so that captured graphs stay valid. Raises KeyError if it is of another network."""
        for name, value in self._named().items():
            value.copy_(state[name])
        self.seen = int(state["counter.seen"])
        self._loss_poll = LossPoll()
        torch.set_rng_state(state["generator.cpu"].cpu())
        if self.device.type == "cuda" and "generator.cuda" in state:  # not in what a CPU left
            torch.cuda.set_rng_state(state["generator.cuda"].cpu(), self.device)
