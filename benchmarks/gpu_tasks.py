"""What gpu-check does, in the order of its worth: parts of tasks, each of which runs in a separate process.

`python -m benchmarks.gpu_tasks NAME FILE` carries out one and writes what it found to FILE as JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "values": "every kernel against its reference: eager, compiled and in a CUDA graph",
    "steps": "ten training steps of each network against the CPU",
    "compile": "the steps that are timed later, compiled into the caches",
    "v3": "Inception V3 at 299 px from memory and from a .npy",
    "memorize": "time to 99.9 % on CIFAR-10 with random labels, by both recipes",
    "sweep": "batch sizes and learning rates that memorize CIFAR-10",
    "data": "Inception V3 from JPEG files and packs, which needs DALI",
    "bandwidth": "every kernel as a share of the copy bandwidth",
    "sanitizer": "compute-sanitizer on the CUDA kernel",
}
OPS = (
    "prepare",
    "preprocess_distorted",
    "random_pixels",
    "moved_pixels",
    "shuffled_pixels",
    "gaussian",
    "corrupt_labels",
    "max_pool_gradient",
)
STEP_MODELS = ("mlp_1x512", "alexnet_small", "inception_small", "inception_v3")
V3_BATCHES = (128, 256, 512)
UNTIMED = ("values", "steps", "compile")
"""Parts that time nothing: their tasks run side by side."""
SWEEP: dict[str, dict[int, tuple[float, ...]]] = {
    "inception_small": {256: (0.002, 0.001), 512: (0.002, 0.004), 1024: (0.004, 0.002)},
    "alexnet_small": {512: (0.0007, 0.001), 1024: (0.001, 0.0015)},
}
"""Learning rates by batch size. AlexNet in batches of 256 at 0.001 has 80 % after 64 epochs, and in batches of 1024 at
0.002 stays at 10 %."""
SWEEP_EPOCHS = {"inception_small": 30, "alexnet_small": 64}
SWEEP_SECONDS = 40.0
"""Of training, at most, for each learning rate."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """minutes: how long it may take. call: does it, and returns {"skipped": why} where something is absent."""

    part: str
    what: str
    minutes: float
    call: Callable[[], Found]

    @property
    def name(self) -> str:
        return f"{self.part}: {self.what}"

    @property
    def timed(self) -> bool:
        """Whether it must have the machine to itself."""
        return self.part not in UNTIMED


def tasks() -> list[Task]:
    """All of them, the most useful first."""
    return list(_tasks())


def _tasks() -> Iterator[Task]:
    for op in OPS:
        yield Task("values", op, 4, partial(values, op))
    for model in STEP_MODELS:
        for precision in ("fp32", "bf16"):
            yield Task("steps", f"{model} {precision}", 5, partial(steps, model, precision))
    for batch in V3_BATCHES[:2]:  # of 512 there is no room beside the others
        yield Task("compile", f"inception_v3, batches of {batch}", 6, partial(compile_v3, batch))
    for recipe in ("fast", "paper"):
        for model in STEP_MODELS[:3]:
            yield Task("compile", f"{model} --recipe {recipe}", 5, partial(compile_run, model, recipe))
    for batch in V3_BATCHES:
        yield Task("v3", f"resident, batches of {batch}", 8, partial(v3, "measure_resident", batch))
    yield Task("v3", ".npy, batches of 128", 8, partial(v3, "measure_npy", 128))
    for recipe in ("fast", "paper"):
        for model in STEP_MODELS[:3]:
            yield Task("memorize", f"{model} --recipe {recipe}", 4, partial(memorize, model, recipe))
    for model, batches in SWEEP.items():
        for batch in batches:
            yield Task("sweep", f"{model}, batches of {batch}", 4, partial(sweep, model, batch))
    yield Task("data", "files and packs", 9, partial(v3, "measure_decoded", 128))
    for op in OPS:
        yield Task("bandwidth", op, 3, partial(bandwidth, op))
    yield Task("sanitizer", "moved_pixels", 5, sanitizer)


def _device() -> Any:
    import torch

    return torch.device("cuda", torch.cuda.current_device())


def _cifar10() -> Any:
    from rethink_fast.data import DataOptions, load_dataset

    return load_dataset("cifar10", DataOptions("auto", device=_device()))


def _matrix_rate() -> float:
    import torch

    from rethink_fast.train.throughput import matrix_rate

    return matrix_rate(_device(), torch.bfloat16)


def values(op: str) -> Found:
    """What differs from the reference, by case and by way of running."""
    from .gpu_cases import cases, operator
    from .gpu_measure import wrong_values

    found = {}
    for case in cases():
        if case.op == op:
            absent = operator(case) is None
            found[case.name] = {"build": "this build has no such op"} if absent else wrong_values(case)
    return {"wrong": {name: wrong for name, wrong in found.items() if wrong}, "cases": list(found)}


def steps(model: Any, precision: Any) -> Found:
    """The losses of both sides, and what is wrong with them."""
    from .gpu_steps import compare

    return compare(model, precision, _device())


def compile_v3(batch: int) -> Found:
    """Compile the step that measure_resident times."""
    from . import gpu_imagenet

    return _compile(gpu_imagenet.resident(replace(gpu_imagenet.FULL, batch_size=batch), _device()))


def compile_run(model: str, recipe: str) -> Found:
    """Compile the step of `memorize`."""
    from . import gpu_engine

    dataset = _cifar10()
    return _compile(gpu_engine.setup_of(gpu_engine.case_of(model, recipe), dataset, _device()))


def _compile(setup: Any) -> Found:
    from rethink_fast.train.compile import choose, warm_up

    choose(setup)
    return {"seconds": warm_up(setup)}


def v3(function: str, batch: int) -> Found:
    """Rates of a source, in images a second."""
    from rethink_fast.errors import UserError

    from . import gpu_imagenet

    scale = replace(gpu_imagenet.FULL, batch_size=batch)
    rate = _matrix_rate()
    try:
        results = getattr(gpu_imagenet, function)(scale, _device(), rate)
    except (UserError, ImportError) as error:
        return {"skipped": str(error)}
    return {"sources": [asdict(result) for result in results], "matrix_rate": rate}


def memorize(model: str, recipe: str) -> Found:
    """One run of gpu_engine."""
    from . import gpu_engine

    dataset, rate = _cifar10(), _matrix_rate()
    run = asdict(gpu_engine.run_case(gpu_engine.case_of(model, recipe), dataset, _device(), rate))
    return {"run": run, "data_source": dataset.data_source, "notes": list(dataset.notes), "matrix_rate": rate}


def sweep(model: Any, batch: int) -> Found:
    """Seconds and epochs to 99.9 % by learning rate, Adam with a linear schedule; None where it did not get there."""
    from . import gpu_engine

    dataset = _cifar10()
    runs = gpu_engine.sweep(
        model, batch, SWEEP[model][batch], dataset, _device(), epochs=SWEEP_EPOCHS[model], seconds=SWEEP_SECONDS
    )
    return {"runs": runs, "data_source": dataset.data_source}


def bandwidth(op: str) -> Found:
    """Rows of gpu_report for the cases of an op."""
    from .gpu_cases import cases
    from .gpu_measure import copy_bandwidth, measure

    rows = [asdict(measure(case)) for case in cases() if case.op == op]
    return {"rows": rows, "copy_gb_per_s": copy_bandwidth(), "matrix_rate": _matrix_rate()}


def sanitizer() -> Found:
    """The values of the CUDA kernel once more, with every access to memory checked."""
    if shutil.which("compute-sanitizer") is None:
        return {"skipped": "compute-sanitizer is not on PATH"}
    child = [sys.executable, "-m", "benchmarks.gpu_tasks", "values: moved_pixels", "/dev/null"]
    command = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", *child]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return {"summary": last, "wrong": "" if done.returncode == 0 else f"exit status {done.returncode}: {last}"}


def main(name: str, file: str) -> None:
    (task,) = (task for task in tasks() if task.name == name)
    found = task.call()
    Path(file).write_text(json.dumps(found, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
