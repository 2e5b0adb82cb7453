"""From a configuration and a data set to everything the engine needs: corrupted labels, loaders, network, step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from .. import rng
from ..corruptions import corrupted_mask, partially_corrupted_labels
from ..data import OWN, Dataset
from ..data.digest import digest_all
from ..data.loader import Loader
from ..defaults import ResolvedRun
from ..errors import UserError
from ..models import build_model, source_of
from .determinism import set_backends
from .distributed import SINGLE_PROCESS, Distributed
from .optim import learning_rate, make_optimizer
from .preconditioner import PreconditionedAdam
from .preprocessing import make_preprocessing, source_crops
from .step import TOP_5_ABOVE, Step
from .sync_batch_norm import convert_sync_batchnorm


@dataclass(frozen=True)
class CompileDecision:
    """Whether the step is compiled, and the reason."""

    enabled: bool
    reason: str


@dataclass(frozen=True)
class RunContext:
    """A run ready to start.

    original, labels: int64 [N] on the CPU by sample index, before and after the corruption.
    corrupted: bool [N] on the CPU, True where the label was replaced.
    ranks: the processes that share every batch.
    model_source: models.source_of the network; None for one of the package.
    """

    run: ResolvedRun
    dataset: Dataset
    device: torch.device
    model: nn.Module
    step: Step
    train: Loader
    test: Loader | None
    original: Tensor
    labels: Tensor
    corrupted: Tensor
    ranks: Distributed = SINGLE_PROCESS
    model_source: dict[str, str] | None = None

    @property
    def parameters(self) -> int:
        """Trainable parameters of the network."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def label_flip_fraction(self) -> float:
        """Fraction of the training labels that differ from the original ones."""
        index = self.dataset.train.index
        return (self.labels[index] != self.original[index]).double().mean().item()

    @cached_property
    def pixels(self) -> str:
        """A digest of the training images: of some of them as they are stored, or of all that are in memory."""
        return self.dataset.sample or digest_all(self.dataset.train)

    def learning_rate(self, epoch: int, batch: int = 0) -> float:
        """Return the learning rate of a step. epoch, batch: from 0."""
        images, batches = len(self.dataset.train.index), len(self.train)
        full_size = len(self.dataset.train.labels) if self.run.dataset == OWN else None
        return learning_rate(self.run, epoch, batch, images=images, batches=batches, full_size=full_size)

    def new_network(self) -> nn.Module:
        """Return a network like the run's, on the CPU, with first weights from torch's generator."""
        return build_model(
            self.run.model.model,
            num_classes=self.dataset.num_classes,
            channels=self.dataset.train.images.shape[2],
            size=self.train.preprocessing.size,
            dropout=self.run.model.dropout,
            aux_head=self.run.model.aux_head,
        )

    def fit_optimizer(self) -> None:
        """Fit a preconditioner to the inputs (never the labels), in the first epoch's order."""
        optimizer = self.step.optimizer
        if isinstance(optimizer, PreconditionedAdam):
            loader = self.train.unsharded()
            optimizer.fit(loader.preprocess(batch, None).inputs for batch in loader.epoch(0))
            # Its last bits depend on the processor, and must not on the rank.
            self.ranks.broadcast_(optimizer.matrix)


def build_run(
    run: ResolvedRun,
    dataset: Dataset,
    device: torch.device,
    like: RunContext | None = None,
    ranks: Distributed = SINGLE_PROCESS,
    network: Callable[..., nn.Module] = build_model,
) -> RunContext:
    """Corrupt the labels, build the network from the run's seed and the loaders, and return all of it.

    like: an earlier context that differs in the seed alone. Its network, step and compiled code are reused, and it must
        not be used any more.
    ranks: the processes that share every batch.
    network: builds the network, with the arguments of models.build_model.
    Raises UserError where the data does not fit the network.
    """
    if len(dataset.train.index) < 2:
        problem = f"{dataset.data_source} gives {len(dataset.train.index)} training image(s)"
        raise UserError(problem, "use a data set of at least 2", value=len(dataset.train.index))
    train = run.train
    set_backends(deterministic=train.deterministic)
    check_ranks(run, ranks)
    preprocessing = make_preprocessing(run, dataset, device)

    seed, probability = run.corruption.seed, run.corruption.probability
    original = dataset.train.labels
    all_samples = torch.arange(len(original))
    labels = partially_corrupted_labels(
        original, all_samples, num_classes=dataset.num_classes, probability=probability, seed=seed
    )
    corrupted = corrupted_mask(all_samples, probability=probability, seed=seed)

    torch.manual_seed(seed)
    model = network(
        run.model.model,
        num_classes=dataset.num_classes,
        channels=dataset.train.images.shape[2],
        size=preprocessing.size,
        dropout=run.model.dropout,
        aux_head=run.model.aux_head,
    )
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if like is not None:
        like.step.restart(model)
        model, step = like.model, like.step
    else:
        convert_sync_batchnorm(model, ranks)
        optimizer = make_optimizer(model, train)
        step = Step(
            model,
            optimizer,
            precision=train.precision,
            compiled=False,
            top5=dataset.num_classes > TOP_5_ABOVE,
            ranks=ranks,
        )

    batch_size = train.batch_size
    train_loader = Loader(
        dataset.train,
        labels.to(device),
        corrupted.to(device),
        preprocessing,
        batch_size=batch_size,
        crops=source_crops(run, dataset),
        share=ranks.share,
    )
    test_loader = None
    if dataset.test is not None and len(dataset.test.index):
        clean = torch.zeros(len(dataset.test.labels), dtype=torch.bool, device=device)
        test_loader = Loader(
            dataset.test,
            dataset.test.labels.to(device),
            clean,
            preprocessing,
            batch_size=batch_size,
            base=rng.TEST_INDEX,
            share=ranks.share,
        )
    return RunContext(
        *(run, dataset, device, model, step, train_loader, test_loader, original, labels, corrupted, ranks),
        model_source=source_of(run.model.model),
    )


def check_ranks(run: ResolvedRun, ranks: Distributed) -> None:
    """Raise UserError for a run whose results would depend on the number of ranks, or with more ranks than samples."""
    if run.train.batch_size < ranks.world_size:
        raise UserError(
            f"--batch-size {run.train.batch_size} is that of all ranks together and "
            f"smaller than their number, {ranks.world_size}",
            "choose a larger one, or fewer ranks",
            option="--batch-size",
            value=run.train.batch_size,
            allowed=f"at least {ranks.world_size}",
        )
    if run.model.dropout and ranks.is_distributed:
        raise UserError(
            f"--dropout {run.model.dropout} draws from one generator over the whole batch, "
            f"so that the losses would depend on the number of ranks, {ranks.world_size}",
            "omit it, or use one rank",
            option="--dropout",
            value=run.model.dropout,
            allowed="0",
        )
