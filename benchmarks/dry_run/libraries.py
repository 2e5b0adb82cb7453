"""One build for every torch: csrc/ built against each of two versions, and each build loaded into both."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

from .environments import ROOT

LIBRARIES = ("_native", "_native_cuda")

LOAD = """
import hashlib, torch
from rethink_fast.kernels import native
for name in ("_native", "_native_cuda"):
    if not native.load(name).usable:
        raise OSError(native.load(name).why)
images, index = torch.zeros(2, 9, 9, 3, dtype=torch.uint8), torch.tensor([3, 2**62])
made = torch.ops.rethink_fast.random_pixels(images, index, 5)
has = torch._C._dispatch_has_kernel_for_dispatch_key("rethink_fast::moved_pixels", "CUDA")
print(hashlib.sha256(made.numpy().tobytes()).hexdigest()[:12], has)
"""
"""Loads both libraries, computes something with the first, and looks for what the second registers."""


def build(python: Path, folder: Path) -> str:
    """Build both libraries against the torch of an environment, into a package in `folder`. Return why not, if so."""
    command = [str(python), "setup.py", "build_ext", "--build-lib", str(folder), "--build-temp", str(folder / "temp")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    absent = [name for name in LIBRARIES if not path(folder, name).exists()]
    if not absent:
        package = ROOT / "rethink_fast"
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("*.so"), dirs_exist_ok=True)
        return ""
    return f"{', '.join(absent)} not built: {(done.stderr or done.stdout).strip()}"


def path(folder: Path, name: str) -> Path:
    """Return where `build` puts a library."""
    return folder / "rethink_fast" / f"{name}.so"


def load(python: Path, folder: Path) -> tuple[str, str]:
    """Load a build into an environment's torch. Return a digest of what it computed, and why it failed, if it did."""
    done = subprocess.run([str(python), "-c", LOAD], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return "", next(line for line in done.stderr.splitlines() if re.match(r"\w+Error: ", line))
    digest, registered = done.stdout.split()
    return digest, "" if registered == "True" else "moved_pixels is not registered for CUDA"


def crosswise(pythons: dict[str, Path], folder: Path) -> list[str]:
    """Build against every torch and load every build into every torch. Return one line for each failure.

    pythons: version -> the Python of its environment.
    """
    builds = {version: folder / f"build-{version}" for version in pythons}
    failures = [
        f"torch {version}: {why}" for version, python in pythons.items() if (why := build(python, builds[version]))
    ]
    if failures:
        return failures
    digests = set()
    for built, version in itertools.product(builds, pythons):
        digest, why = load(pythons[version], builds[built])
        digests.add(digest)
        if why:
            failures.append(f"built against torch {built}, loaded into {version}: {why}")
    if not failures and len(digests) > 1:
        failures.append(f"the builds compute different values: {', '.join(sorted(digests))}")
    return failures
