"""One run on several processes, its ranks, which torchrun starts: who they are, and how they communicate.

    every rank   the same network, optimizer and counters; a share of every batch (data.loader.BatchShard)
    rank 0       writes the record, the checkpoints and the screen, and decides what a clock has a part in
    Gloo         between the processes: objects, decisions and whether to stop; on a CPU the tensors too
    NCCL         between the GPUs: gradients, batch norm's statistics, losses

Decisions that all ranks must take alike come from reduced values, or from rank 0: two ranks that disagree wait for each
other for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..data.loader import BatchShard
from ..errors import Interrupted, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """This process among those of a run.

    local_rank, local_world_size: among the ranks of this machine.
    restarted: whether the launcher has started all ranks again after a failure.
    may_restart: whether it would.
    group: the process group of the tensors; None before `make_device_group`, and for a single process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    restarted: bool = False
    may_restart: bool = False
    group: Any = None

    @classmethod
    def from_environment(cls) -> Distributed:
        """Return what torchrun says in the environment; without it, a single process."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()

        def number(name: str) -> int:
            return int(os.environ[name])

        return cls(
            rank=number("RANK"),
            world_size=number("WORLD_SIZE"),
            local_rank=number("LOCAL_RANK"),
            local_world_size=number("LOCAL_WORLD_SIZE"),
            restarted=number("TORCHELASTIC_RESTART_COUNT") > 0,
            may_restart=number("TORCHELASTIC_MAX_RESTARTS") > 0,
        )

    @property
    def is_rank0(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other ranks."""
        return self.world_size > 1

    @property
    def share(self) -> BatchShard:
        """The part of every batch that this rank loads."""
        return BatchShard(self.rank, self.world_size)

    def all_reduce_sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by the sum over all ranks, without waiting for a GPU."""
        if self.is_distributed:
            for tensor in tensors:
                dist.all_reduce(tensor, group=self.group)

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        if self.is_distributed:
            dist.broadcast(tensor, src=0, group=self.group)

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """Stop all ranks in this block, which all must enter, where one raises UserError or Interrupted.

        Rank 0 raises the error of the lowest rank that has one, to be shown once; the other ranks exit with its code.
        """
        if not self.is_distributed:
            yield
            return
        raised: UserError | Interrupted | None = None
        try:
            yield
        except (UserError, Interrupted) as error:
            raised = error
        errors: list[UserError | Interrupted | None] = [None] * self.world_size
        dist.all_gather_object(errors, raised)
        for rank, first in enumerate(errors):
            if isinstance(first, Interrupted):
                raise first
            if first is not None:
                if not self.is_rank0:
                    raise SystemExit(2)
                if rank:
                    first.args = (f"rank {rank}: {first}",)  # its fields stay
                raise first

    def on_rank0(self, make: Callable[[], T]) -> T:
        """Return on every rank what `make` returns on rank 0, which alone calls it; its UserError stops all ranks."""
        values: list[Any] = [None]
        with self.raise_together():
            if self.is_rank0:
                values[0] = make()
        if self.is_distributed:
            dist.broadcast_object_list(values, src=0)
        value: T = values[0]
        return value

    def assert_same(self, facts: dict[str, Any]) -> None:
        """Raise UserError where a rank's facts differ from those of rank 0, naming the difference."""
        of_rank0 = self.on_rank0(lambda: facts)
        with self.raise_together():
            differing = [
                f"{name} {of_rank0[name]} on rank 0, {facts[name]} here"
                for name in facts
                if facts[name] != of_rank0[name]
            ]
            if differing:
                raise UserError(
                    f"the ranks differ ({'; '.join(differing)})", "give all of them the same options and data"
                )


SINGLE_PROCESS = Distributed()


class DelayedMax:
    """The largest of the values that the ranks passed at the call before, so that no call waits for another rank."""

    def __init__(self) -> None:
        self._values = torch.zeros(1, dtype=torch.int64)
        self._work: Any = None

    def __call__(self, value: int) -> int:
        """Return the largest value that a rank passed at the call before; 0 at first, and after one above 0."""
        largest = 0
        if self._work is not None:
            self._work.wait()
            self._work, largest = None, int(self._values)
        if not largest:
            self._values = torch.tensor([value])
            self._work = dist.all_reduce(self._values, dist.ReduceOp.MAX, async_op=True)
        return largest
