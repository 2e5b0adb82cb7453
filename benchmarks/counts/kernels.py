"""Every Triton and CUDA kernel, compiled for a GPU that is not there: registers, spills, memory, instruction mix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rethink_fast.env import cores, version_of

from . import FOLDER, Part, Unavailable

CAPABILITIES = (80, 90, 100)
CUDA_KERNEL = "moved_pixels of CUDA C++"


def nvcc() -> str | None:
    return os.environ.get("NVCC") or shutil.which("nvcc")


def versions() -> dict[str, str | None]:
    if version_of("triton") is None:
        raise Unavailable("there is no Triton, which is for Linux only")
    found = nvcc()
    if found is None:
        raise Unavailable("there is no nvcc: install the CUDA toolkit")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"triton": version_of("triton"), "nvcc": said.splitlines()[-2].rpartition(" ")[2]}


def compiled(capability: int, cases: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What compile_kernels.py reports: case -> kernel -> resources. In a process that is not Triton's interpreter."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(FOLDER.parents[1])
    command = [sys.executable, str(FOLDER / "compile_kernels.py"), str(capability), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return found


def cuda_cubin(capability: int, folder: Path) -> Path:
    """moved_pixels.cuh, in every form, compiled by nvcc."""
    rest = "const uint8_t*, const int64_t*, const int64_t*, const uint32_t*, Key, uint32_t, uint32_t, uint32_t"
    source, cubin = folder / f"instances{capability}.cu", folder / f"instances{capability}.cubin"
    source.write_text(
        '#include "cuda/moved_pixels.cuh"\nnamespace rethink_fast {\n'
        + "".join(
            f"template __global__ void moved_pixels_kernel<{type}, {table}>({type}*, {rest});\n"
            for type in ("BFloat16", "float")
            for table in ("false", "true")
        )
        + "}\n"
    )
    command = [str(nvcc()), "-O3", "-std=c++17", f"-arch=sm_{capability}", f"-I{FOLDER.parents[1] / 'csrc'}"]
    done = subprocess.run(
        [*command, "-cubin", "-o", str(cubin), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return cubin


def one(capability: int) -> dict[str, Any]:
    """All of one capability."""
    from .resources import of_cubin

    with tempfile.TemporaryDirectory() as folder:
        cuda = of_cubin(cuda_cubin(capability, Path(folder)))
    return {**compiled(capability, []), CUDA_KERNEL: cuda}


def count() -> dict[str, Any]:
    with ThreadPoolExecutor(cores()) as pool:
        return dict(zip(map(str, CAPABILITIES), pool.map(one, CAPABILITIES), strict=True))


PART = Part(
    "kernels", "resources and instruction mix of the GPU's kernels for sm_80, sm_90 and sm_100", versions, count
)
