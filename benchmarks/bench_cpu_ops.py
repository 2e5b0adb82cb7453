"""The CPU kernels as ratios in one run: `python benchmarks/bench_cpu_ops.py [--threads N] [--rounds N]`.

Fused preparation is compared with a copy of as many bytes, read plus written; everything else with the torch reference
and with torch.randn. Each round times the two one after the other, and the median of the rounds' ratios is reported
with its quartiles, so that what else the machine does meanwhile falls on both.

There are two tables of preparations, because the cost of fresh memory is as large as the work. In the first (reused)
the allocator keeps what it is given back, and the rival is copy_ into existing memory; in the second (fresh), glibc's
default, an output above 32 MB is mapped each time, and the rival is clone(), which pays for that too where its own
output is as large (in bfloat16 at 224x224 it is not).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from benchmarks.timing import sample
from rethink_fast import env, kernels, rng
from rethink_fast.compare.revisions import KEEP_MEMORY
from rethink_fast.corruptions.gaussian import gaussian_reference
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.corruptions.random_pixels import random_pixels_reference

OPS = torch.ops.rethink_fast
BATCH = 128
SIZES = (299, 224)
KINDS = ("", "shuffled_pixels", "random_pixels", "gaussian")
IMAGENET = 1_281_167
WARM_UP = 2  # rounds, in which the allocator's memory is mapped
MEAN, STD = torch.tensor([120.0, 115.0, 100.0]), torch.tensor([70.0, 68.0, 71.0])


def compare(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> tuple[float, list[float]]:
    """Median seconds of ours, and the quartiles of rival's time over ours, round by round."""
    pairs = [(sample(ours, 1), sample(rival, 1)) for _ in range(WARM_UP + rounds)][WARM_UP:]
    each = [theirs / spent for spent, theirs in pairs]
    ratios = statistics.quantiles(each, n=4) if rounds > 1 else each * 3
    return statistics.median(spent for spent, _ in pairs), ratios


def row(name: str, spent: float, ratios: list[float], extra: str = "") -> None:
    low, middle, high = ratios
    print(f"| {name} | {spent * 1e3:.2f} | {extra} | {middle:.2f} ({low:.2f} - {high:.2f}) |", flush=True)


def prepared(images: Tensor, rows: Tensor, kind: str, normalisation: str, dtype: torch.dtype) -> Tensor:
    size = list(images.shape[1:3])
    rest = (MEAN, STD, size, False, False, False, None, normalisation, dtype)
    return OPS.prepare(images, rows, rows, [0, 0, *size], kind, 9, *rest)


def preparations(fresh: bool, rounds: int) -> None:
    title, rival_name = ("fresh", "clone()") if fresh else ("reused", "copy_")
    print(f"\n| prepare, batch {BATCH}, {title} output | ms | GB/s | bandwidth over {rival_name} |")
    print("| --- | ---: | ---: | ---: |")
    for size, dtype, kind in itertools.product(SIZES, (torch.float32, torch.bfloat16), KINDS):
        images = torch.randint(0, 256, (2 * BATCH, size, size, 3), dtype=torch.uint8)
        rows = torch.randperm(2 * BATCH)[:BATCH]
        moved = BATCH * size * size * 3 * (dtype.itemsize + (kind != "gaussian"))
        source = torch.ones(moved // 2, dtype=torch.uint8)
        target = torch.ones_like(source)
        rival = source.clone if fresh else functools.partial(target.copy_, source)
        for normalisation in ("unit_range", "whiten"):
            ours = functools.partial(prepared, images, rows, kind, normalisation, dtype)
            spent, ratios = compare(ours, rival, rounds)
            name = f"{kind or 'true pixels'}, {size}x{size}, {str(dtype)[6:]}, {normalisation}"
            row(name, spent, ratios, f"{moved / spent / 1e9:.1f}")


def versus(name: str, op: Callable[..., Tensor], reference: Callable[..., Tensor], rounds: int, *given: Any) -> None:
    spent, ratios = compare(functools.partial(op, *given), functools.partial(reference, *given), rounds)
    row(name, spent, ratios, "reference")


def against_references(rounds: int) -> None:
    print("\n| op | ms | rival | times faster |")
    print("| --- | ---: | --- | ---: |")
    labels, everyone = torch.randint(0, 1000, (IMAGENET,)), torch.arange(IMAGENET)
    given = (labels, everyone, 1000, 0.5, 1)
    versus(f"corrupt_labels, {IMAGENET:,} samples", OPS.corrupt_labels, corrupt_labels_reference, rounds, *given)
    versus(f"order, {IMAGENET:,} samples", kernels.order, rng.order, 1, 1, 2, IMAGENET)
    for size in SIZES:
        batch = 8  # the references take seconds and gigabytes
        images, index = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8), torch.arange(batch)
        name = f"{batch}x{size}x{size}x3"
        versus(f"random_pixels, {name}", OPS.random_pixels, random_pixels_reference, 3, images, index, 1)
        versus(f"gaussian, {name}", OPS.gaussian, gaussian_reference, rounds, index, size, size, MEAN, STD, 1)
        ours = functools.partial(OPS.gaussian, torch.arange(BATCH), size, size, MEAN, STD, 1)
        spent, ratios = compare(ours, functools.partial(torch.randn, BATCH, size, size, 3), 3)
        row(f"gaussian, {BATCH}x{size}x{size}x3", spent, ratios, "torch.randn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    status = kernels.native.load("_native")
    if not status.usable:
        sys.exit(f"{status.why}; {status.do}")
    torch.set_num_threads(arguments.threads)
    if all(os.environ.get(name) == value for name, value in KEEP_MEMORY.items()):
        torch.ones(1 << 29, dtype=torch.uint8)  # the memory that is then reused, mapped once
        preparations(False, arguments.rounds)
        return
    print(f"{env.processor()}, {arguments.threads} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    subprocess.run([sys.executable, *sys.argv], env={**os.environ, **KEEP_MEMORY}, check=True)
    preparations(True, arguments.rounds)
    against_references(arguments.rounds)


if __name__ == "__main__":
    main()
