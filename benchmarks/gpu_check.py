"""`make gpu-check`: are the kernels right on this GPU, and how fast. Under nine minutes; needs a CUDA device.

Each op is compared with the reference eagerly, under torch.compile and in a CUDA graph, then timed with a cold cache as
a share of the copy bandwidth. Then the engine memorises random labels by each recipe (gpu_engine), and Inception V3 is
fed from files and packs (gpu_imagenet). Prints tables and writes benchmarks/results/<gpu>-<date>.json. Exit status: 0
when every value is right, 1 when one is not, 2 without a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def build() -> None:
    """Compile csrc/ in place where a library is missing; without nvcc only Triton's kernels are checked."""
    wanted = ["_native.so"] + (["_native_cuda.so"] if shutil.which("nvcc") else [])
    if all((ROOT / "rethink_fast" / name).exists() for name in wanted):
        return
    print("building csrc/ ...", flush=True)
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=ROOT, check=True)


def facts() -> dict[str, Any]:
    """What was measured, where and when."""
    import triton

    from rethink_fast import rng

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "gpu": torch.cuda.get_device_name(),
        "date": datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S"),
        "commit": commit.stdout.strip() or "unknown",
        "contract": rng.CONTRACT_VERSION,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton.__version__},
    }


def engine(device: torch.device, matrix_rate: float) -> dict[str, Any]:
    """Both recipes to 99.9 %, shown and for the record."""
    from . import gpu_engine
    from .reference_loop import open_cifar10

    # the real set where the usual places have it, else the synthetic one of its shape
    dataset = open_cifar10("auto", device)
    print("\n".join((f"cifar10 from {dataset.data_source}", *dataset.notes)), flush=True)
    runs = []
    for case in gpu_engine.CASES:
        print(f"  {case.name}", flush=True)
        runs.append(gpu_engine.run_case(case, dataset, device, matrix_rate))
    print(gpu_engine.table(runs), flush=True)
    return {"data_source": dataset.data_source, "runs": [asdict(run) for run in runs]}


def imagenet(device: torch.device, matrix_rate: float) -> dict[str, Any]:
    """Inception V3 from every kind of source, shown and for the record; or why not."""
    from rethink_fast.errors import UserError

    from . import gpu_imagenet

    try:
        found = gpu_imagenet.measure(gpu_imagenet.FULL, device, matrix_rate)
    except UserError as error:  # there is no DALI
        print(f"imagenet is left out: {error}")
        return {"left_out": str(error)}
    print(gpu_imagenet.table(found), flush=True)
    return {"sources": [asdict(result) for result in found]}


def main() -> int:
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device, and torch sees none here: run it on a machine with an NVIDIA GPU.")
        return 2
    build()
    from rethink_fast.train.limits import matrix_rate
    from rethink_fast.train.power import condition

    from . import gpu_report
    from .gpu_cases import cases
    from .gpu_measure import copy_bandwidth, measure

    device = torch.device("cuda", torch.cuda.current_device())
    before = condition(device)
    copy, matrix = copy_bandwidth(), matrix_rate(device, torch.bfloat16) / 1e12
    print(f"{torch.cuda.get_device_name()}: copies {copy:.0f} GB/s, multiplies {matrix:.0f} TFLOP/s in bfloat16")
    rows = []
    for case in cases():
        print(f"  {case.name}", flush=True)
        rows.append(measure(case))
    print(gpu_report.table(rows, copy))
    noted = {
        **facts(),
        "condition_before": before,
        "condition_after": condition(device),
        "engine": engine(device, matrix * 1e12),
        "imagenet": imagenet(device, matrix * 1e12),
    }
    print(f"written to {gpu_report.write(gpu_report.record(rows, copy, matrix, noted), ROOT / 'benchmarks/results')}")
    return 1 if any(row.wrong and "build" not in row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
