"""Connecting the ranks of a run: the device of each, the process groups, and what happens where one is lost."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..env import choose_device
from ..errors import UserError
from .distributed import Distributed

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
