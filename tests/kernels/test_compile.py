"""The main kernels, compiled for a GPU that is not there: no spills, and no more registers than before.

benchmarks/counts/kernels.json holds what was compiled with Triton 3.9 and CUDA 13.0. All of it, to the instruction, is
compared by `python -m benchmarks.counts kernels`, where the compilers are the same; here with room for other ones.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.counts.kernels import CAPABILITIES, PART, compiled, cuda_cubin, nvcc
from benchmarks.counts.resources import of_cubin
from rethink_fast.data.preprocess import preprocess_reference

HERE = Path(__file__).parent
MAIN = ["corrupt_labels", "gaussian", "imagenet 299 random_pixels", "imagenet 224 true", "cifar10 28 true"]

REGISTERS, INSTRUCTIONS = 8, 1.1
"""How many more registers, and times the instructions, another release of the compilers may take."""
CUDA_REGISTERS = 80
"""Of moved_pixels.cuh, whose shared memory allows one block of 24 warps: 61,440 of an SM's 65,536 registers."""


def check(capability: int, cases: list[str]) -> None:
    expected = json.loads(PART.path.read_text())["counts"][str(capability)]
    found = compiled(capability, cases)
    assert set(found) == set(cases)
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
    pytest.importorskip("triton", reason="needs Triton, which is for Linux only")
    check(90, MAIN)


@pytest.mark.parametrize("capability", CAPABILITIES, ids="sm_{}".format)
def test_moved_pixels_in_cuda(capability: int, tmp_path: Path) -> None:
    if nvcc() is None:
        pytest.skip("needs nvcc, from the CUDA toolkit")
    found = of_cubin(cuda_cubin(capability, tmp_path))
    assert len(found) == 5
    for kernel in found.values():
        assert kernel["registers"] <= CUDA_REGISTERS
        assert kernel["spills"] == kernel["stack"] == 0


@pytest.fixture(scope="module")
def host_kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """What the threads of moved_pixels.cuh do, compiled for the host."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("host") / "moved_pixels_host.so"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", "-shared"]
    command += [f"-I{HERE.parents[1] / 'csrc'}", str(HERE / "moved_pixels_host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0], ids="{:.0%} staged".format)
@pytest.mark.parametrize("lead", [0, 3, 13], ids="{} elements from alignment".format)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (16, 16), (23, 29), (64, 64), (33, 40)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("corruption", ["shuffled_pixels", "random_pixels"])
def test_moved_pixels_in_cuda_are_the_references(
    host_kernel: ctypes.CDLL, corruption: str, dtype: torch.dtype, shape: tuple[int, int], lead: int, share: float
) -> None:
    height, width = shape
    size, seed, index = height * width * 3, 2**63 - 1, 2**62 + 7
    stored = torch.randint(0, 256, (size + 32,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    image, out = stored[lead : lead + size], torch.full((size + 32,), -7.0, dtype=dtype)
    made = out[lead : lead + size]
    host_kernel.moved_pixels_of_image(
        ctypes.c_void_p(made.data_ptr()),
        ctypes.c_void_p(image.data_ptr()),
        ctypes.c_uint64(seed),
        ctypes.c_uint64(index),
        height * width,
        int(share * size),
        corruption == "shuffled_pixels",
        dtype == torch.bfloat16,
    )
    zero, whole = torch.zeros(1, dtype=torch.int64), [0, 0, height, width]
    stages = (False, False, False, None, "unit_range", dtype)
    given = (image.view(1, height, width, 3), zero, torch.tensor([index]), whole, corruption, seed, None, None)
    expected = preprocess_reference(*given, whole[2:], *stages)
    assert torch.equal(made, expected.permute(0, 2, 3, 1).flatten())
    assert bool((out[:lead] == -7).all() and (out[lead + size :] == -7).all())


def test_every_byte_in_cuda_is_scaled_as_torch_does(host_kernel: ctypes.CDLL) -> None:
    image = torch.arange(256, dtype=torch.uint8).repeat_interleave(3)
    for half, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        made = torch.empty(768, dtype=dtype)
        pointers = (ctypes.c_void_p(each.data_ptr()) for each in (made, image))
        host_kernel.moved_pixels_of_image(*pointers, ctypes.c_uint64(1), ctypes.c_uint64(0), 256, 768, True, half)
        every = torch.arange(256) / 127.5 - 1
        assert torch.equal(made.sort().values, every.to(dtype).repeat_interleave(3))
