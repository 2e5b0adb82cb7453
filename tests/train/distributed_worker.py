"""What one rank of a run reads, feeds and computes, saved for tests/train/test_distributed.py: OUT/MODEL-RANK.pt.

torchrun --nproc-per-node N tests/train/distributed_worker.py OUT
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, Images, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.train.compile import choose, warm_up
from rethink_fast.train.distributed import Distributed
from rethink_fast.train.evaluate import evaluate
from rethink_fast.train.process_group import init_process_group, make_device_group
from rethink_fast.train.setup import build_run

CPU = torch.device("cpu")
MODELS = ("mlp_1x512", "inception_small", "alexnet_small")
LIMIT, BATCH = 23, 10
"""Batches of 10, 10 and 3: the shares of four ranks are 3, 3, 2, 2, and 1, 1, 1, 0."""
EPOCHS = 2


class Watched:
    """Images that remember which samples were asked for."""

    def __init__(self, images: Images) -> None:
        self.shape, self.resident, self._images = images.shape, images.resident, images
        self.asked: list[Tensor] = []

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        def is_profiling() -> Iterator[Tensor]:
            for batch in batches:
                self.asked.append(batch.clone())
                yield batch

        return self._images.read(is_profiling())


def work(model: str, ranks: Distributed) -> dict[str, Any]:
    """A short run: what was read and fed in its first epoch, loss by step, scores, weights and statistics.

    The network computes in float64, so that what differs by more than rounding shows.
    """
    train = Train(batch_size=BATCH, lr=0.01, augment=("flip",), epochs=EPOCHS)
    run = resolve(
        Run("cifar10", Data(max_samples=LIMIT), Corruption("random-pixels"), Model(model), train),
        on_gpu=False,
        cores=1,
    )
    dataset = load_dataset("cifar10", DataOptions("synthetic", max_samples=LIMIT, workers=1))
    images = Watched(dataset.train.images)
    dataset = replace(dataset, train=replace(dataset.train, images=images))
    torch.set_default_dtype(torch.float64)
    setup = build_run(run, dataset, CPU, ranks=ranks)
    torch.set_default_dtype(torch.float32)
    setup.model.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    step, loader = setup.step, setup.train
    fed = [(batch.index, *loader.preprocess(batch, 0)) for batch in loader.epoch(0)]
    asked = list(images.asked)
    losses, before = [], 0.0
    for epoch in range(EPOCHS):
        step.begin_epoch(epoch)
        before = 0.0
        for batch in loader.epoch(epoch):
            step.train(loader, batch)
            losses.append((step.loss_sum.item() - before) / len(batch))
            before = step.loss_sum.item()
    scores = evaluate(step, loader, lambda: None)
    return {
        "asked": asked,
        "fed": fed,
        "losses": losses,
        "online": step.online(),
        "scores": (scores.loss, scores.accuracy),
        "state": setup.model.state_dict(),
    }


def resumed_is_unbroken(ranks: Distributed) -> bool:
    """Whether a session that starts from another's state makes the same next steps, to the bit."""
    run = resolve(
        Run("cifar10", Data(max_samples=400), Corruption("random"), Model("mlp_1x512"), Train(batch_size=100)),
        on_gpu=False,
        cores=1,
    )
    dataset = load_dataset("cifar10", DataOptions("synthetic", max_samples=400, workers=1))

    def session(epochs: range, state: dict[str, Tensor] | None) -> dict[str, Tensor]:
        setup = build_run(run, dataset, CPU, ranks=ranks)
        if state is not None:
            setup.step.load_state(state)
        choose(setup)
        warm_up(setup)
        for epoch in epochs:
            setup.step.begin_epoch(epoch)
            for batch in setup.train.epoch(epoch):
                setup.step.train(setup.train, batch)
        return setup.step.state()

    unbroken, resumed = session(range(3), None), session(range(2, 3), session(range(2), None))
    return all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    ranks = Distributed.from_environment()
    with init_process_group(ranks):
        ranks = make_device_group(ranks, CPU)
        for model in MODELS:
            torch.save(work(model, ranks), out / f"{model}-{ranks.rank}.pt")
        (out / f"resumed-{ranks.rank}").write_text(str(resumed_is_unbroken(ranks)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
