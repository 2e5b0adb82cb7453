"""What this machine has: processor cores, memory, devices, versions, git state."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import resource
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from . import __version__, cgroup
from .errors import UserError
from .rng import CONTRACT_VERSION

DALI = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")
PACKAGES = ("torch", "triton", "numpy", "nvidia-ml-py")


def cores() -> int:
    """Return the processor cores that this process may use, at least 1.

    That is the least of what its affinity mask and the quotas of its control groups allow, a quota rounded up. The
    variables of batch systems (SLURM_CPUS_PER_TASK and others) are not read: where the system enforces them they show
    in the mask or in a quota.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup.cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def limit_threads(processes: int = 1) -> None:
    """Limit torch to the cores of this process, shared by so many processes; by itself it uses those of the machine.

    It never raises the number: OMP_NUM_THREADS may ask for fewer. Sums on a CPU have the same last bits only for the
    same number of threads, which is why every record has it (environment.threads).
    """
    share = max(1, cores() // processes)
    if torch.get_num_threads() > share:
        torch.set_num_threads(share)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(share))


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be had on a device, or None where the system does not say.

    On a GPU as the driver says. On a CPU the least of what the machine has left, what the control groups of this
    process may still take, and what its own limit on address space (ulimit -v, as set by batch systems) leaves.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [cgroup.memory_left(), _address_space_left()]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    return min((left for left in free if left is not None), default=None)


def _address_space_left() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    with suppress(OSError, ValueError):
        limit -= int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return max(0, limit)


def require_memory(needed: int, n: int, device: torch.device) -> None:
    """Raise UserError if a device has less memory left than a kernel matrix needs.

    needed: bytes.
    n: images of the matrix.
    """
    free = free_memory(device)
    if free is not None and needed > free:
        fits = int(n * (free / needed) ** 0.5 * 0.95)
        raise UserError(
            f"the kernel matrix of {n:,} images needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on "
            f"{device}",
            f"use at most {fits:,} images",
            value=n,
            allowed=f"[1, {fits}]",
        )


LEAST_CAPABILITY = (8, 0)
"""Compute capability of the oldest GPU that the kernels are compiled for."""
ABSENT = ("this torch was built without CUDA", "no GPU was found", "Found no NVIDIA driver")
"""How `why_no_gpu` begins where no GPU need be there."""
DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
"""Where one exists there is a driver of NVIDIA's; the last is WSL's."""


def why_no_gpu() -> str | None:
    """Return why torch cannot use a GPU, in the words of torch and the driver; None where it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what is returned here
        if torch.cuda.is_available():
            return None
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return first_sentence(error)
    return "no GPU was found"


def first_sentence(error: Exception) -> str:
    """Return what a library's error says up to the first full stop or end of a line; its type where it says nothing."""
    return re.split(r"\.\s|\n", str(error).strip())[0].rstrip(".") or type(error).__name__


def unused_gpu(name: str) -> str | None:
    """Return the line that says why the CPU is used where there is a GPU or its driver; None where there is none.

    name: what --device is. Only `auto` turns to the CPU without being asked to, where no GPU can be used.
    """
    why = _why_cpu() if name == "auto" and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1") else None
    if why is None or (why.startswith(ABSENT) and not any(Path(path).exists() for path in DRIVER_FILES)):
        return None
    return f"the GPU is not used (--device auto): {why}"


def _why_cpu() -> str | None:
    """Why --device auto is the CPU; None where it is a GPU."""
    why = why_no_gpu()
    if why is None:
        with suppress(RuntimeError):  # a GPU that is busy is refused, as one that was asked for
            return _too_old(torch.device("cuda"))
    return why


def _too_old(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability >= LEAST_CAPABILITY:
        return None
    found, least = (".".join(map(str, each)) for each in (capability, LEAST_CAPABILITY))
    return f"compute capability {found}, and the kernels are compiled for {least} and newer"


def choose_device(name: str) -> torch.device:
    """Return the torch device for --device. Raises UserError for one that does not exist or cannot be used."""
    if name == "auto":
        name = "cuda" if _why_cpu() is None else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise _no_device(name, f"--device {name!r} is unknown", "choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        why = why_no_gpu()
        if why is not None:
            raise _no_device(name, f"--device {name} needs a GPU that torch can use: {why}", "use --device cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise _no_device(
                name, f"--device {name} does not exist", f"choose one of {torch.cuda.device_count()} GPU(s)"
            )
        _use_gpu(name, device)
    return device


def _use_gpu(name: str, device: torch.device) -> None:
    """Raise UserError for a GPU that is too old, or that the driver does not give to this process."""
    others = f"choose another of {torch.cuda.device_count()} GPUs, or " if torch.cuda.device_count() > 1 else ""
    try:
        too_old = _too_old(device)
        if device.index is not None:
            torch.cuda.set_device(device)  # graphs are captured and Triton launches on the current device
        torch.cuda.mem_get_info(device)  # the first call that needs a context
    except RuntimeError as error:
        raise _no_device(
            name, f"--device {name} cannot be used: {first_sentence(error)}", f"{others}use --device cpu"
        ) from error
    if too_old is not None:
        raise _no_device(name, f"--device {name} has {too_old}", f"{others}use --device cpu")


def _no_device(name: str, problem: str, fix: str) -> UserError:
    return UserError(problem, fix, option="--device", value=name, allowed="auto, cpu, cuda or cuda:N")


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: by torch on the GPU, or by this process for the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def version_of(package: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def has_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16; without them torch emulates it.

    On 2 cores of an AMD EPYC without them a training step of inception_small at half its channels takes 10 times as
    long in bf16 as in fp32.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True  # not known: nothing to warn of
    return not flags.isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))


def processor() -> str:
    """Return the processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state() -> dict[str, Any]:
    """Return revision and dirty flag of the checkout the package runs from; both None where it is not a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or not (Path(top) / "rethink_fast" / "__init__.py").exists():
        return {"revision": None, "dirty": None}
    return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def gpu() -> dict[str, Any] | None:
    """Return name, memory, capability and driver of the current GPU, or None."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    facts: dict[str, Any] = {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": None,
    }
    with suppress(Exception):  # the package, the driver or the right to ask is missing
        import pynvml

        pynvml.nvmlInit()
        facts["driver"] = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    return facts


def environment() -> dict[str, Any]:
    """Return what a number depends on besides its configuration, for every record."""
    return {
        "rethink_fast": __version__,
        "contract_version": CONTRACT_VERSION,
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in (*PACKAGES, dali_package())},
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": gpu(),
        "git": git_state(),
    }


def dali_package() -> str:
    """Return the name of the DALI that is installed, or of the one to install."""
    return next((name for name in DALI if version_of(name)), DALI[0])
