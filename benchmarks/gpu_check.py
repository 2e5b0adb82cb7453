"""`python -m benchmarks.gpu_check [PART...]`: is everything right on this GPU, and how fast. For scarce time.

Needs torch with CUDA, Triton and NumPy, from a checkout: nothing is installed, and the network, DALI and the command
line's packages may be absent. Each task of gpu_tasks runs in a separate process with a time limit, in the order of
its worth, those that time nothing side by side; after each a line is added to OUT/gpu-check.jsonl, and at the end the
record and its tables are made of those lines. With --resume what is there for this GPU and commit is not done again.
Compile caches are kept in OUT/caches.

Exit status: 0 where everything that ran is right, 1 where something is wrong or failed, 2 without a usable GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import gpu_report
from .gpu_tasks import PARTS, ROOT, Task, tasks

OUT = ROOT / "build" / "gpu-check"
RESULTS = ROOT / "benchmarks" / "results"
MINUTES = 30.0
LEAST_CAPABILITY = (8, 0)
CHILD = (sys.executable, "-m", "benchmarks.gpu_tasks")
TAIL = 12
"""Lines that are kept of what a failed task printed."""


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


def unsuitable() -> str:
    """Why nothing can be measured on this machine; empty where it can."""
    try:
        import torch
    except ImportError as error:
        return f"gpu-check needs torch: {error}"
    if not torch.cuda.is_available():
        return "gpu-check needs a CUDA device, and torch sees none here: run it on a machine with an NVIDIA GPU."
    found = torch.cuda.get_device_capability()
    if found < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name()
        return f"gpu-check needs a GPU of compute capability 8.0 or more, and {name} has {found[0]}.{found[1]}."
    return ""


def facts() -> dict[str, Any]:
    """What was measured, where and when. gpu: torch's name of the device, which tells an H100 from an H200."""
    import torch
    import triton

    from rethink_fast import rng
    from rethink_fast.train.gpu_monitor import gpu_state

    commit = "unknown"
    with suppress(OSError):  # git may be absent
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        commit = done.stdout.strip() or commit
    device = torch.device("cuda", torch.cuda.current_device())
    return {
        "gpu": torch.cuda.get_device_name(),
        "gpu_bytes": torch.cuda.get_device_properties(device).total_memory,
        "date": datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S"),
        "commit": commit,
        "contract": rng.CONTRACT_VERSION,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton.__version__},
        "condition_before": gpu_state(device),
    }


def carry_out(task: Task, seconds: float, folder: Path) -> dict[str, Any]:
    """Run a task in a separate process. Return its status ("done", "failed", "out of time") and what it found."""
    from rethink_fast.env import cores

    caches = folder / "caches"
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"), "TRITON_CACHE_DIR": str(caches / "triton")}
    if not task.timed:
        kept |= {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores() // 2)), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        result, log = Path(scratch) / "result.json", Path(scratch) / "log"
        command = [*CHILD, task.name, str(result)]
        with log.open("wb") as file:
            child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **kept}, stdout=file, stderr=file)
            try:
                code: int | None = child.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                child.kill()
                child.wait()
        line: dict[str, Any] = {"task": task.name, "seconds": round(time.monotonic() - start, 1)}
        if code == 0:
            return line | {"status": "done", "found": json.loads(result.read_text())}
        tail = log.read_text(errors="replace").splitlines()[-TAIL:]
        why = f"not done within {seconds:.0f} s" if code is None else f"exit status {code}"
        return line | {"status": "out of time" if code is None else "failed", "why": why, "output": tail}


def outcomes(chosen: list[Task], end: float, folder: Path) -> Iterator[tuple[Task, dict[str, Any] | None]]:
    """Carry out the tasks, and give each with its line as it ends; with None where there was no time for it.

    Those that time nothing come first, as many at once as there are cores, those that take longest first.

    end: by time.monotonic.
    """
    from rethink_fast.env import cores

    def attempt(task: Task) -> dict[str, Any] | None:
        left = end - time.monotonic()
        if left < 30 * task.minutes:  # half of what it may take
            print(f"{task.name}: left for a later call, {left / 60:.1f} minutes are not enough", flush=True)
            return None
        if task.timed:
            print(f"{task.name} ...", flush=True)
        return carry_out(task, min(60 * task.minutes, left), folder)

    untimed = sorted((task for task in chosen if not task.timed), key=lambda task: -task.minutes)
    pool = ThreadPoolExecutor(cores())
    try:
        futures = {pool.submit(attempt, task): task for task in untimed}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
    for task in chosen:
        if task.timed:
            yield task, attempt(task)


def read_lines(path: Path, same: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of finished tasks for which `same` holds. A last line that was cut off is passed over."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):
            line = json.loads(text)
            if line["status"] == "done" and all(line.get(key) == value for key, value in same.items()):
                found.append(line)
    return found


def announce(chosen: list[Task], done: set[str], minutes: float) -> None:
    """Print what will be done, with the most that each part may take."""
    for part, what in PARTS.items():
        left = [task for task in chosen if task.part == part and task.name not in done]
        if left:
            most = sum(task.minutes for task in left)
            print(f"{part:10} {len(left):2} task(s), at most {most:4.0f} min   {what}")
    print(f"{len(done)} task(s) are done already; ends by itself within {minutes:.0f} minutes", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description="Check and time everything on this GPU.")
    about = "; ".join(f"{part}: {what}" for part, what in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{about}. Default: all, in this order")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="end by itself within so many (default: 30)")
    parser.add_argument("--resume", action="store_true", help="do not do again what OUT has for this GPU and commit")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for lines and compile caches")
    parser.add_argument("--plan", action="store_true", help="print what would be done, and end")
    given = parser.parse_args(arguments)
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"part {unknown[0]!r} is unknown: choose of {', '.join(PARTS)}")
    chosen = [task for task in tasks() if not given.parts or task.part in given.parts]
    end = time.monotonic() + 60 * given.minutes
    if given.plan:
        announce(chosen, set(), given.minutes)
        return 0
    if why := unsuitable():
        print(why)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    path, noted = given.out / "gpu-check.jsonl", facts()
    same = {key: noted[key] for key in ("gpu", "commit", "versions")}
    lines = read_lines(path, same) if given.resume else []
    if not given.resume:
        path.unlink(missing_ok=True)
    noted["failures"] = build()
    done = {line["task"] for line in lines}
    announce(chosen, done, given.minutes)
    for task, line in outcomes([task for task in chosen if task.name not in done], end, given.out):
        if line is None:
            noted["failures"].append(f"{task.name}: there was no time for it")
            continue
        lines.append(line | same)
        with path.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"{task.name}\n{gpu_report.said(line)}", flush=True)
    noted["failures"] += [f"{line['task']}: {gpu_report.fault(line)}" for line in lines if gpu_report.fault(line)]
    record = gpu_report.assemble(lines, noted)
    print(gpu_report.tables(record))
    print(f"written to {gpu_report.write(record, RESULTS)}")
    for failure in noted["failures"]:
        print(f"failed: {failure}")
    return 1 if noted["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
