"""Every kernel, compiled for the GPUs it is meant for without having one: no spills, no more registers than before.

kernel_resources.json holds what was compiled with Triton 3.9 and CUDA 13.0; after a change that is meant, write it anew
with `python tests/test_kernels_compile.py`. Instructions are of the machine code, loops counted once.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rethink_fast.corruptions.random_pixels import random_pixels_reference

HERE = Path(__file__).parent
RESOURCES = HERE / "kernel_resources.json"
CAPABILITIES = (80, 90, 100)
MAIN = ["corrupt_labels", "gaussian", "imagenet 299 random_pixels", "imagenet 224 true", "cifar10 28 true"]
"""What is compiled at every run of the tests; all of it takes a minute and is marked slow."""
REGISTERS, INSTRUCTIONS = 8, 1.1
"""How many more registers, and times the instructions, another release of the compilers may take."""
CUDA_REGISTERS = 64
"""Of random_pixels.cuh, whose shared memory allows one block of 24 warps: three quarters of an SM's registers."""


def compiled(capability: int, cases: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What compile_kernels.py reports, from a process that is not the interpreter's."""
    pytest.importorskip("triton", reason="needs Triton, which is for Linux only")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(HERE.parent)
    command = [sys.executable, str(HERE / "compile_kernels.py"), str(capability), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(capability: int, cases: list[str]) -> None:
    expected = json.loads(RESOURCES.read_text())[str(capability)]
    found = compiled(capability, cases)
    assert set(found) == set(cases or expected)
    for case, kernels in found.items():
        assert set(kernels) == set(expected[case])
        for name, is_now in kernels.items():
            was = expected[case][name]
            where = f"{name} of {case!r} for sm_{capability}: {is_now}, was {was}"
            assert is_now["spills"] == is_now["stack"] == 0, where
            assert is_now["registers"] <= was["registers"] + REGISTERS, where
            assert is_now["instructions"] <= was["instructions"] * INSTRUCTIONS, where
            assert is_now["shared"] <= was["shared"], where
            assert all(cast.startswith("cvt.rn.") for cast in is_now["casts"]), f"not to nearest: {where}"


def test_main_kernels() -> None:
    check(90, MAIN)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES, ids="sm_{}".format)
def test_all_kernels(capability: int) -> None:
    check(capability, [])


@pytest.mark.parametrize("capability", CAPABILITIES, ids="sm_{}".format)
def test_random_pixels_in_cuda(capability: int, tmp_path: Path) -> None:
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc, from the CUDA toolkit")
    arguments = "uint8_t*, const uint8_t*, const int64_t*, Key, uint32_t, uint32_t"
    source = tmp_path / "instances.cu"
    source.write_text(
        '#include "cuda/random_pixels.cuh"\nnamespace rethink_fast {\n'
        + "".join(f"template __global__ void random_pixels_kernel<{c}>({arguments});\n" for c in (1, 3))
        + "}\n"
    )
    command = [nvcc, "-O3", "-std=c++17", f"-arch=sm_{capability}", f"-I{HERE.parent / 'csrc'}"]
    command += ["-Xptxas", "-v", "-cubin", "-o", str(tmp_path / "instances.cubin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", done.stderr)]
    assert len(registers) == 2
    assert max(registers) <= CUDA_REGISTERS
    assert re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr) == [
        ("0", "0", "0")
    ] * len(registers)


@pytest.fixture(scope="module")
def host_kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """What the threads of random_pixels.cuh do, compiled for the host."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("host") / "random_pixels_host.so"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    command += [f"-I{HERE.parent / 'csrc'}", str(HERE / "random_pixels_host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0], ids="{:.0%} staged".format)
@pytest.mark.parametrize("lead", [0, 3, 13], ids="{} bytes from alignment".format)
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 9, 1), (23, 29, 3), (64, 64, 3), (33, 40, 1)], ids=str)
def test_random_pixels_in_cuda_moves_as_the_reference(
    host_kernel: ctypes.CDLL, shape: tuple[int, int, int], lead: int, share: float
) -> None:
    height, width, channels = shape
    size, seed, index = height * width * channels, 2**63 - 1, 2**62 + 7
    stored = torch.randint(0, 256, (size + 32,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    out = torch.full_like(stored, 0xA5)
    image, moved = stored[lead : lead + size], out[lead : lead + size]
    host_kernel.random_pixels_of_image(
        ctypes.c_void_p(moved.data_ptr()),
        ctypes.c_void_p(image.data_ptr()),
        ctypes.c_uint64(seed),
        ctypes.c_uint64(index),
        height * width,
        channels,
        int(share * size),
    )
    expected = random_pixels_reference(image.view(1, *shape), torch.tensor([index]), seed)
    assert torch.equal(moved, expected.flatten())
    assert bool((out[:lead] == 0xA5).all() and (out[lead + size :] == 0xA5).all())


if __name__ == "__main__":
    fresh = {str(capability): compiled(capability, []) for capability in CAPABILITIES}
    RESOURCES.write_text(json.dumps(fresh, indent=1, sort_keys=True) + "\n")
