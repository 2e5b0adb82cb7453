"""Builds the compiled kernels beside the package: rethink_fast/_native.so and, where nvcc is, _native_cuda.so.

Both are plain shared libraries against torch's stable ABI, loaded by torch.ops.load_library: one build serves every
Python and every torch >= 2.10. Without a C++ compiler or torch the package installs all the same and runs on the
reference. RETHINK_FAST_CUDA=0 leaves CUDA out; CXX, NVCC and CUDA_HOME choose the tools.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
STABLE_ABI = ["-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
CXX_FLAGS = [
    *("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno"),  # the same rounding on every machine
    *("-Wall", "-Wextra", "-Wno-psabi", "-Wno-maybe-uninitialized"),  # GCC 12 warns inside its own intrinsics
]
X86_64 = ("x86_64", "AMD64")
ISAS = {"baseline": []}
if platform.machine() in X86_64:
    ISAS["avx2"] = ["-mavx2", "-mfma", "-mbmi2"]
    ISAS["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mbmi2"]
    ISAS["avx512"].append("-mprefer-vector-width=512")
ARCHITECTURES = ("80", "90", "100")

_spec = importlib.util.spec_from_file_location("sources", ROOT / "rethink_fast/kernels/sources.py")
sources = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sources)


class Unavailable(Exception):
    """Why a library cannot be built here."""


def torch_folder() -> Path:
    """Where torch is installed, without importing it: building needs its headers and libtorch_cpu only."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    # pip's build isolation hides the packages of the environment that it installs into, but not where they are.
    folder = Path(sysconfig.get_path("platlib")) / "torch"
    if not (folder / "include").is_dir():
        raise Unavailable(
            "torch is not in the build environment: install torch, then pip install --no-build-isolation ."
        )
    return folder


def run(command: list[str]) -> None:
    print(shlex.join(command), flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)


def compile_all(jobs: list[list[str]]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(run, jobs))


def includes(torch: Path) -> list[str]:
    return ["-isystem", str(torch / "include"), "-isystem", str(torch / "include/torch/csrc/api/include"), "-Icsrc"]


def build_native(target: Path, temporary: Path) -> None:
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"there is no C++ compiler {compiler[0]!r} on PATH: install g++ 12 or newer, or set CXX")
    torch = torch_folder()
    jobs = {"binding": ["csrc/cpu/binding.cpp"], "dispatch": ["csrc/cpu/dispatch.cpp"]}
    for isa, flags in ISAS.items():
        jobs[f"kernels_{isa}"] = [f"-DRF_ISA={isa}", *flags, "csrc/cpu/kernels.cpp"]
    objects = [str(temporary / f"{name}.o") for name in jobs]
    compile_all(
        [
            [*compiler, *CXX_FLAGS, *STABLE_ABI, *includes(torch), *arguments, "-c", "-o", out]
            for arguments, out in zip(jobs.values(), objects, strict=True)
        ]
    )
    run([*compiler, "-shared", "-pthread", *objects, f"-L{torch / 'lib'}", "-ltorch_cpu", "-lm", "-o", str(target)])


def find_nvcc() -> str:
    if os.environ.get("RETHINK_FAST_CUDA", "1") == "0":
        raise Unavailable("RETHINK_FAST_CUDA=0")
    home = os.environ.get("CUDA_HOME")
    nvcc = os.environ.get("NVCC") or (f"{home}/bin/nvcc" if home else None) or shutil.which("nvcc")
    if nvcc is None or shutil.which(nvcc) is None:
        raise Unavailable("there is no nvcc on PATH and no CUDA_HOME: install the CUDA toolkit")
    return nvcc


def build_cuda(target: Path, temporary: Path) -> None:
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/cuda").glob("*.cu"))
    if not sources:
        raise Unavailable("csrc/cuda holds no kernels")
    nvcc, torch = find_nvcc(), torch_folder()
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    flags = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA", *codes]
    objects = [str(temporary / f"{Path(source).stem}.cuda.o") for source in sources]
    compile_all(
        [
            [nvcc, *flags, *STABLE_ABI, *includes(torch), "-c", source, "-o", out]
            for source, out in zip(sources, objects, strict=True)
        ]
    )
    libraries = [name for name in ("torch_cpu", "torch_cuda") if (torch / f"lib/lib{name}.so").exists()]
    run([nvcc, "-shared", *objects, f"-L{torch / 'lib'}", *(f"-l{name}" for name in libraries), "-o", str(target)])


class Build(build_ext):
    """Builds what it can, and says in one paragraph what it could not and why."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"  # no Python tag: the library knows nothing of Python

    def run(self) -> None:
        for extension in self.extensions:
            self.build_extension(extension)

    def build_extension(self, extension: Extension) -> None:
        name = extension.name.rpartition(".")[2]
        target = (ROOT if self.inplace else Path(self.build_lib)).resolve() / "rethink_fast" / f"{name}.so"
        temporary = Path(self.build_temp).resolve()
        for folder in (target.parent, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            (build_native if name == "_native" else build_cuda)(target, temporary)
            sources.note(target, sources.fingerprint(ROOT / "csrc", name))
        except Unavailable as error:
            print(f"rethink_fast: {name} is not built, the package works without it: {error}", file=sys.stderr)
            target.unlink(missing_ok=True)  # one from an earlier build may be of other sources

    def get_outputs(self) -> list[str]:
        outputs = (Path(self.build_lib) / self.get_ext_filename(extension.name) for extension in self.extensions)
        return [str(path) for path in outputs if path.exists()]


class BuildPython(build_py):
    """Leaves nothing in the wheel that an earlier build left in build/ and that is no longer in the tree."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "rethink_fast", ignore_errors=True)
        super().run()


class Wheel(bdist_wheel):
    """One wheel for every Python of a platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


if __name__ == "__main__":
    setup(
        ext_modules=[Extension("rethink_fast._native", []), Extension("rethink_fast._native_cuda", [])],
        cmdclass={"build_py": BuildPython, "build_ext": Build, "bdist_wheel": Wheel},
    )
