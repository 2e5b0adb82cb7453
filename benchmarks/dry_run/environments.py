"""Environments with a CUDA build of torch. Neither a GPU nor a driver is needed to install or import one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.counts import Unavailable

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "gpu-dry-run"
GIGABYTES = 7
"""Disk space of an environment; its download is about half of that."""
TOOLS = {
    "nvcc": "install the CUDA toolkit, or put its bin/ on PATH",
    "c++": "install g++ 12 or newer",
    "cc": "install a C compiler",
}


def missing_tools() -> list[str]:
    """Return one line for each program that is not on PATH."""
    return [f"{name} is not on PATH: {advice}" for name, advice in TOOLS.items() if shutil.which(name) is None]


def supported() -> tuple[str, str]:
    """Return the oldest torch that pyproject.toml allows and the newest, which constraints.txt pins."""
    oldest = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    newest = re.search(r"^torch==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert oldest
    assert newest
    return oldest[1] + ".0" * (2 - oldest[1].count(".")), newest[1]


def environment(torch: str, folder: Path = FOLDER) -> Path:
    """Return the Python of an environment with this CUDA build of torch; make it where there is none.

    Raises Unavailable, with what is missing: disk space, the network, or a build with CUDA for this platform.
    """
    path = folder / f"torch-{torch}"
    python = path / "bin" / "python"
    if cuda_version(python):
        return python
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < GIGABYTES:
        raise Unavailable(f"{GIGABYTES} GB of disk space are needed for torch {torch}, and {folder} has {free:.1f}")
    print(f"installing torch {torch} with CUDA into {path} (some GB)", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(path)], f"{path} cannot be made")
    # === takes no local version, such as +cpu, for the same.
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    why = f"torch {torch} with CUDA cannot be installed (is there a network?)"
    _run([*install, f"torch==={torch}", "numpy", "setuptools>=77", "wheel"], why)
    if not cuda_version(python):
        raise Unavailable(f"torch {torch} of this package index is not a CUDA build")
    return python


def cuda_version(python: Path) -> str | None:
    """Return the CUDA version of an environment's torch, or None where there is none."""
    if not python.exists():
        return None
    code = "import torch; print(torch.version.cuda or '')"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _run(command: list[str], why: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise Unavailable(f"{why}: {errors[-1].strip()}")
