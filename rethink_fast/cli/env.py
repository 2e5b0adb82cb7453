"""`rethink-fast env`: versions, and which backends are usable, or why not."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table

from ..env import choose_device, dali_package, environment, first_sentence, version_of, why_no_gpu
from ..errors import UserError
from ..kernels import native
from ..output import print_json
from ..terminal import Terminal


@dataclass(frozen=True)
class Backend:
    """One way to do part of the work.

    usable: whether it can be used here.
    why: its version, or why it cannot be used.
    do: what to do about that.
    """

    name: str
    usable: bool
    why: str
    do: str = ""


def env(*, json: bool = False) -> int:
    """Show versions, processor and GPU, and which backends are usable; for each that is not, why and what to do.

    Parameters
    ----------
    json:
        Print it as JSON.
    """
    facts = environment()
    available = backends()
    if json:
        return print_json({**facts, "backends": [asdict(backend) for backend in available]})
    console = Terminal()
    console.print(_versions(facts))
    table = Table("backend", "usable", "why", "what to do", header_style="bold")
    for backend in available:
        table.add_row(backend.name, "yes" if backend.usable else "no", backend.why, backend.do)
    console.print(table)
    return 0


def _versions(facts: dict[str, Any]) -> Table:
    gpu, git = facts["gpu"], facts["git"]
    lines = {
        "rethink-fast": facts["rethink_fast"],
        "python": facts["python"],
        **facts["packages"],
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "GPU": f"{gpu['name']}, driver {gpu['driver'] or 'unknown'}" if gpu else "none",
        "git": f"{git['revision']}{', with local changes' if git['dirty'] else ''}" if git["revision"] else "-",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        table.add_row(name, str(value or "not installed"))
    return table


def _compiled_kernels() -> list[Backend]:
    names = {"C++ kernels": "_native", "CUDA C++ kernels": "_native_cuda"}
    loaded = {name: native.load(library) for name, library in names.items()}
    return [Backend(name, status.usable, status.why, status.do) for name, status in loaded.items()]


def backends() -> list[Backend]:
    """Return what the machine and its packages offer, usable or not, with the reason and the fix."""
    return [_torch_cpu(), _cuda(), _dali(), _triton(), _nvml(), _cxx(), _nvcc(), *_compiled_kernels()]


def _torch_cpu() -> Backend:
    return Backend("torch on the CPU", True, f"torch {torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Backend:
    why = why_no_gpu()
    if why is None:
        try:
            choose_device("cuda")
        except UserError as error:
            return Backend("CUDA", False, error.problem, error.fix)
        return Backend("CUDA", True, torch.cuda.get_device_name())
    if torch.version.cuda is None:
        return Backend("CUDA", False, why, "install a CUDA build of torch; the CPU works without")
    do = f"nvidia-smi must show a GPU, and a driver for CUDA {torch.version.cuda}; the CPU works without"
    return Backend("CUDA", False, why, do)


def _installed(name: str, package: str, note: str, need: str = "") -> Backend:
    version = version_of(package)
    if version is None:
        return Backend(name, False, f"{package} is not installed", f"{sys.executable} -m pip install {package}{need}")
    return Backend(name, True, f"{package} {version}{note}")


def _dali() -> Backend:
    note = ", decoding on the CPU and the GPU" if torch.cuda.is_available() else ", decoding on the CPU"
    return _installed("DALI", dali_package(), note, "; only encoded images, such as ImageNet's JPEGs, need it")


def _triton() -> Backend:
    triton = _installed("Triton", "triton", "")
    if triton.usable and not torch.cuda.is_available():
        return Backend("Triton", False, "needs a GPU", "run on a machine with a CUDA GPU")
    return triton


def _nvml() -> Backend:
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except ImportError as error:
        return Backend("NVML", False, str(error), f"{sys.executable} -m pip install nvidia-ml-py")
    except Exception as error:
        forbidden = type(error).__name__ == "NVMLError_NoPermission"
        do = "ask for access to the GPU's counters" if forbidden else "install the NVIDIA driver"
        return Backend("NVML", False, first_sentence(error), f"{do}; only clocks and power are not recorded")
    return Backend("NVML", True, f"{count} GPU(s)")


def _tool(name: str, commands: tuple[str, ...], purpose: str, do: str) -> Backend:
    for command in commands:
        path = shutil.which(command)
        if path:
            return Backend(name, True, path)
    return Backend(name, False, f"no {' or '.join(commands)} on PATH ({purpose})", do)


def _cxx() -> Backend:
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    return _tool("C++ compiler", compilers, "torch.compile needs one on a CPU", "install g++ (Debian: apt install g++)")


def _nvcc() -> Backend:
    return _tool("nvcc", ("nvcc",), "builds the CUDA sources", "install the CUDA toolkit, 13.0 or newer")
