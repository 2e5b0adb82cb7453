"""Instructions an image of every C++ kernel, for each instruction set that valgrind knows, counted by callgrind."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from rethink_fast.env import cores

from . import FOLDER, Part, Unavailable

ROOT = FOLDER.parents[1]
IMAGES = 4
"""kImages of instructions.cpp."""
ISAS = ("baseline", "avx2")
"""valgrind knows no AVX-512."""


def setup() -> ModuleType:
    """setup.py as a module: the flags are those of the build."""
    spec = importlib.util.spec_from_file_location("rethink_fast_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> list[str]:
    words = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(words[0]) is None:
        raise Unavailable(f"there is no C++ compiler {words[0]!r}: install g++ (Debian: apt install g++)")
    return words


def versions() -> dict[str, str | None]:
    if shutil.which("valgrind") is None:
        raise Unavailable("there is no valgrind: install it (Debian: apt install valgrind)")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Unavailable(f"the counts are of x86-64, this is {platform.machine()}")
    first = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    return {"compiler": first.splitlines()[0], "libc": " ".join(platform.libc_ver())}


def build(folder: Path) -> Path:
    """The driver, with every kernel as setup.py compiles it."""
    made = setup()
    flags = [*compiler(), *made.CXX_FLAGS, f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'cpu'}"]
    jobs = {
        f"kernels_{isa}": [*own, f"-DRF_ISA={isa}", str(ROOT / "csrc/cpu/kernels.cpp")]
        for isa, own in made.ISAS.items()
    }
    jobs["dispatch"] = [str(ROOT / "csrc/cpu/dispatch.cpp")]
    jobs["instructions"] = [str(FOLDER / "instructions.cpp")]
    objects = [str(folder / f"{name}.o") for name in jobs]
    commands = [[*flags, *own, "-c", "-o", out] for own, out in zip(jobs.values(), objects, strict=True)]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands))
    program = folder / "instructions"
    subprocess.run([*compiler(), "-pthread", *objects, "-lm", "-o", str(program)], check=True)
    return program


def instructions(program: Path, isa: str, case: str) -> float:
    """Instructions of one case alone, for each of its images."""
    command = ["valgrind", "--tool=callgrind", f"--toggle-collect=case_{case}", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*command, str(program), isa], capture_output=True, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or collected is None or collected.group(1) == "0":
        raise Unavailable(f"valgrind could not count {case} for {isa}: {done.stderr.strip().splitlines()[-1:]}")
    return int(collected.group(1)) / IMAGES


def count() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        program = build(Path(name))
        names = subprocess.run([str(program), "baseline"], capture_output=True, text=True, check=True).stdout.split()
        jobs = [(isa, case) for isa in ISAS for case in names]
        with ThreadPoolExecutor(cores()) as pool:
            counts = list(pool.map(lambda job: instructions(program, *job), jobs))
    out: dict[str, Any] = {isa: {} for isa in ISAS}
    for (isa, case), value in zip(jobs, counts, strict=True):
        out[isa][case] = value
    return out


PART = Part("instructions", "instructions an image of the C++ kernels, 32x32x3, by callgrind", versions, count)
