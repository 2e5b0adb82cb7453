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
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..data.loader import BatchShard
from ..env import choose_device
from ..errors import Interrupted, UserError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for another that is alive but does nothing; one that died is noticed at once."""

PEER_LOST_MESSAGES = (
    "gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "pair closure",
    "NCCL",
    "Timed out",
)
"""What the messages of torch's communication say when another rank is gone."""


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
        theirs = self.on_rank0(lambda: facts)
        with self.raise_together():
            differing = [
                f"{name} {theirs[name]} on rank 0, {facts[name]} here" for name in facts if facts[name] != theirs[name]
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


def device_for_rank(ranks: Distributed, name: str) -> torch.device:
    """Return the device of this rank for --device `name`: each rank of a machine has one GPU. Raises UserError."""
    if not ranks.is_distributed:
        return choose_device(name)
    if ":" in name:
        problem = f"--device {name} cannot serve {ranks.world_size} ranks"
        fix = "use cuda, and each rank takes its own GPU"
        raise UserError(problem, fix, option="--device", value=name, allowed=("cpu", "cuda"))
    device = choose_device(name)
    if device.type == "cpu":
        return device
    if ranks.local_world_size > torch.cuda.device_count():
        raise UserError(
            f"{ranks.local_world_size} ranks on a machine with {torch.cuda.device_count()} GPU(s)",
            f"give torchrun --nproc-per-node {torch.cuda.device_count()}, or use --device cpu",
            option="--nproc-per-node",
            value=ranks.local_world_size,
            allowed=f"at most {torch.cuda.device_count()}",
        )
    return torch.device("cuda", ranks.local_rank)


@contextmanager
def init_process_group(ranks: Distributed) -> Iterator[None]:
    """Connect the ranks for this block, which ends when all ranks have reached its end."""
    if not ranks.is_distributed:
        yield
        return
    store, rank, world_size = next(rendezvous("env://", timeout=TIMEOUT))
    # The launcher's store outlives a restart, and holds the addresses of the processes before it.
    store = PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    yield
    # The launcher ends all ranks once one of them has failed: rank 0 may still be writing.
    dist.barrier()
    dist.destroy_process_group()


def make_device_group(ranks: Distributed, device: torch.device) -> Distributed:
    """Return `ranks` with the process group for tensors on this kind of device: Gloo on a CPU, NCCL on a GPU."""
    if not ranks.is_distributed:
        return ranks
    if device.type == "cpu":
        return replace(ranks, group=dist.group.WORLD)
    torch.cuda.set_device(device)
    return replace(ranks, group=dist.new_group(backend="nccl", timeout=TIMEOUT))


def wrap_ddp(model: nn.Module, ranks: Distributed) -> nn.Module:
    """Return what is called in training: with several ranks, DistributedDataParallel, which averages the gradients."""
    if not ranks.is_distributed:
        return model
    network = DistributedDataParallel(model, process_group=ranks.group)
    # Batch norm's statistics are the same everywhere already (train/sync_batch_norm.py).
    network.broadcast_buffers = False
    return network


@contextmanager
def exit_on_lost_rank(ranks: Distributed) -> Iterator[None]:
    """Exit with code 1 and one line where another rank is gone: torch's threads may keep the process alive."""
    try:
        yield
    except RuntimeError as error:
        if not ranks.is_distributed or not any(word in str(error) for word in PEER_LOST_MESSAGES):
            raise
        # torch puts the place in its sources before the reason, and advice after it
        reason = re.sub(r"^\[.*?\] ", "", str(error).strip().splitlines()[0]).split(". ")[0]
        line = f"rethink-fast: rank {ranks.rank} lost another rank and stops ({reason}): what was written is kept"
        print(line, file=sys.stderr, flush=True)
        os._exit(1)
