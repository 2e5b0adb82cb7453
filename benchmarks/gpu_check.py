"""`make gpu-check`: are the kernels right on this GPU, and how fast. Under nine minutes; needs a CUDA device.

Each op is compared with the reference eagerly, under torch.compile and in a CUDA graph, then timed with a cold cache as
a share of the copy bandwidth. Then the engine memorises random labels by each recipe (gpu_engine), and Inception V3 is
fed from files and packs (gpu_imagenet). Prints tables, and writes benchmarks/results/<gpu>-<date>.json after every
result. Exit status: 0 when every value is right and every part came to its end, 1 when not, 2 without a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"


def wanted() -> list[str]:
    """The libraries that can be had here; without nvcc only Triton's kernels are checked."""
    return ["_native"] + (["_native_cuda"] if shutil.which("nvcc") else [])


def unusable() -> list[str]:
    """What does not load, and why: missing, or built against another torch. Loaded in a separate process."""
    code = "import sys; from rethink_fast.kernels import native; status = native.load(sys.argv[1]); "
    code += "print('' if status.usable else status.why)"
    said = {}
    for name in wanted():
        done = subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True)
        said[name] = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()
    return [f"{name}: {why}" for name, why in said.items() if why]


def build() -> list[str]:
    """Compile csrc/ in place where a library cannot be used. Return what cannot be used all the same."""
    if not unusable():
        return []
    print("building csrc/ ...", flush=True)
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=ROOT, check=False)
    return unusable()


def facts() -> dict[str, Any]:
    """What was measured, where and when."""
    import triton

    from rethink_fast import rng

    commit = "unknown"
    with suppress(OSError):  # git may be absent
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        commit = done.stdout.strip() or commit
    return {
        "gpu": torch.cuda.get_device_name(),
        "date": datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S"),
        "commit": commit,
        "contract": rng.CONTRACT_VERSION,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton.__version__},
    }


Keep = Callable[[dict[str, Any]], None]
"""Given the state of a part's record, writes it down."""


def engine(device: torch.device, matrix_rate: float, keep: Keep) -> None:
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
        keep({"data_source": dataset.data_source, "runs": [asdict(run) for run in runs]})
    print(gpu_engine.table(runs), flush=True)


def imagenet(device: torch.device, matrix_rate: float, keep: Keep) -> None:
    """Inception V3 from every kind of source, shown and for the record; or why not."""
    from rethink_fast.errors import UserError

    from . import gpu_imagenet

    try:
        found = gpu_imagenet.measure(gpu_imagenet.FULL, device, matrix_rate)
    except UserError as error:  # there is no DALI
        print(f"imagenet is skipped: {error}")
        return keep({"skipped": str(error)})
    print(gpu_imagenet.table(found), flush=True)
    keep({"sources": [asdict(result) for result in found]})


def main() -> int:
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device, and torch sees none here: run it on a machine with an NVIDIA GPU.")
        return 2
    from rethink_fast.train.gpu_monitor import gpu_state
    from rethink_fast.train.throughput import matrix_rate

    from . import gpu_report
    from .gpu_cases import cases
    from .gpu_measure import copy_bandwidth, measure

    failures = build()
    device = torch.device("cuda", torch.cuda.current_device())
    rows: list[gpu_report.Row] = []
    noted = {**facts(), "condition_before": gpu_state(device), "failures": failures}
    copy, matrix = copy_bandwidth(), matrix_rate(device, torch.bfloat16) / 1e12

    def keep() -> Path:
        return gpu_report.write(gpu_report.record(rows, copy, matrix, noted), RESULTS)

    def attempt(name: str, part: Callable[[], object]) -> str:
        """Go on after a part that fails: what was found before is on the disk, and what comes after may still be."""
        why = ""
        try:
            part()
        except Exception as error:
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}"
            failures.append(f"{name}: {why}")
        keep()
        return why

    def keeper(name: str) -> Keep:
        def keep_part(state: dict[str, Any]) -> None:
            noted[name] = state
            keep()

        return keep_part

    print(f"{torch.cuda.get_device_name()}: copies {copy:.0f} GB/s, multiplies {matrix:.0f} TFLOP/s in bfloat16")
    for case in cases():
        print(f"  {case.name}", flush=True)
        if why := attempt(case.name, lambda case=case: rows.append(measure(case))):
            rows.append(gpu_report.Row(case.name, case.bytes, case.target, {"failed": why}))
    print(gpu_report.table(rows, copy))
    attempt("engine", lambda: engine(device, matrix * 1e12, keeper("engine")))
    attempt("imagenet", lambda: imagenet(device, matrix * 1e12, keeper("imagenet")))
    noted["condition_after"] = gpu_state(device)
    print(f"written to {keep()}")
    for failure in failures:
        print(f"failed: {failure}")
    # Without nvcc an op that only CUDA C++ has is absent; with it, the build has failed.
    absent_is_wrong = "_native_cuda" in wanted()
    wrong = any(row.wrong and (absent_is_wrong or "build" not in row.wrong) for row in rows)
    return 1 if wrong or failures else 0


if __name__ == "__main__":
    sys.exit(main())
