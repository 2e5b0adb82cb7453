"""The ops as a whole: a library of stable symbols only, the package without it, refusals."""

from __future__ import annotations

import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rethink_fast
from rethink_fast import kernels
from rethink_fast.corruptions import (
    corrupted_mask,
    gaussian,
    partially_corrupted_labels,
    random_labels,
    random_pixels,
    shuffled_pixels,
)
from rethink_fast.data.preprocess import Preprocessing, preprocess

PACKAGE = Path(rethink_fast.__file__).parent
SOURCES = PACKAGE.parent / "csrc"
STATUS = kernels.native.load("_native")
CPU = torch.device("cpu")
BUILT = pytest.mark.skipif(not STATUS.usable, reason=f"{STATUS.why}; {STATUS.do}")


@BUILT
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, of binutils")
def test_the_library_uses_the_stable_abi_only() -> None:
    """It asks for C functions of torch, for libc, libm and the C++ runtime, and for nothing of C++ torch or Python."""
    listed = subprocess.run(["nm", "-DC", "--undefined-only", STATUS.why], capture_output=True, text=True, check=True)
    names = [line.split(maxsplit=1)[1] for line in listed.stdout.splitlines() if line.split()[0] in "Uw"]
    assert any(name.startswith("aoti_torch_") for name in names)
    wrong = [name for name in names if re.match(r"(c10|at|torch|caffe2)::|_?Py[A-Z_]", name)]
    assert not wrong


@BUILT
def test_the_backends_are_those_that_the_dispatcher_calls() -> None:
    name = kernels.native.instruction_set()
    assert name in ("baseline", "avx2", "avx512")
    assert kernels.data_path(CPU) == dict.fromkeys(("order", "corrupt_labels", "prepare", "resize"), f"C++ ({name})")
    assert kernels.data_path(CPU, distorts=True) == kernels.data_path(CPU) | {"preprocess_distorted": "torch"}
    assert kernels.slow(CPU) is None
    flags = Path("/proc/cpuinfo").read_text().split()
    assert (name == "avx512") == all(flag in flags for flag in ("avx512f", "avx512bw"))


def test_no_list_of_the_ops_lacks_one() -> None:
    from benchmarks import gpu_cases, gpu_tasks  # not in the copy of test_without_the_library

    called_singly = {"shuffled_pixels", "random_pixels", "gaussian", "max_pool_gradient"}
    assert set(kernels.data_path(CPU, distorts=True)) | called_singly == set(kernels.SCHEMAS) == set(kernels.FAKES)
    assert set(kernels.SCHEMAS) - {"order", "resize"} == set(kernels.TRITON)
    assert {*gpu_tasks.OPS} == {case.op for case in gpu_cases.cases()} == {*kernels.TRITON, "moved_pixels"}
    assert set(gpu_cases.REFERENCES) >= set(kernels.TRITON)


@pytest.mark.parametrize("op", kernels.TRITON)
def test_every_op_of_a_gpu_has_its_launcher(op: str) -> None:
    """It is imported at the first call on a GPU, so that a machine without one does not notice that it is missing."""
    pytest.importorskip("triton", reason="needs Triton, which is for Linux only")
    schema = getattr(torch.ops.rethink_fast, op).default._schema
    assert list(inspect.signature(kernels.triton_launcher(op)).parameters) == [each.name for each in schema.arguments]


def test_backends_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are registered without a GPU, so that what would run is known without one."""
    gpu, registered = torch.device("cuda"), kernels._has_kernel
    if kernels._by_triton:
        with monkeypatch.context() as patch:
            for usable, name in ((False, "triton"), (True, "triton and cuda C++")):
                patch.setattr(kernels.native, "load", lambda _, usable=usable: kernels.native.Status(usable, ""))
                assert kernels.backend("prepare", gpu) == name
                assert kernels.backend("gaussian", gpu) == "triton"
        assert kernels.data_path(gpu)["resize"] == "DALI"
        assert kernels.data_path(gpu, distorts=True)["preprocess_distorted"] == "triton"
        monkeypatch.setattr(kernels, "_by_triton", set())
        assert kernels.backend("prepare", gpu) == "cuda C++"
    monkeypatch.setattr(kernels, "_has_kernel", lambda name, key: key != "CUDA" and registered(name, key))
    assert kernels.backend("prepare", gpu) == "torch"
    if STATUS.usable:
        said = kernels.slow(gpu)
        assert said is not None
        assert said.startswith("plain torch runs prepare, 30 to 150 times slower")
        assert "triton is not installed" in said


IMAGES = torch.zeros((4, 6, 5, 3), dtype=torch.uint8)
INDEX = torch.arange(4)
LABELS = torch.zeros(4, dtype=torch.int64)
MEAN = torch.ones(3)
HOW = Preprocessing((0, 0, 6, 5), "", 1, (6, 5))


def labels(labels: Tensor = LABELS, index: Tensor = INDEX, n: int = 10, p: float = 0.5, seed: int = 1) -> Tensor:
    return partially_corrupted_labels(labels, index, num_classes=n, probability=p, seed=seed)


def noise(index: Tensor = INDEX, mean: Tensor = MEAN, std: Tensor = MEAN, seed: int = 1) -> Tensor:
    return gaussian(IMAGES, index, seed=seed, mean=mean, std=std)


def prepared(
    images: Tensor = IMAGES, rows: Tensor = INDEX, index: Tensor = INDEX, epoch: int | Tensor = 0, **changes: Any
) -> Tensor:
    return preprocess(images, rows, index, replace(HOW, **changes), epoch=epoch)


META = torch.arange(4, device="meta")
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: labels(p=1.5), r"probability 1.5 is out of range: choose one in \[0, 1\]"),
    (lambda: labels(p=float("nan")), "probability nan is out of range"),
    (lambda: labels(n=0), r"num_classes 0 is out of range: choose one in \[1, 2\^31\]"),
    (lambda: labels(n=2**31 + 1), "num_classes 2147483649 is out of range"),
    (lambda: labels(seed=-1), r"seed -1 is out of range: choose one in \[0, 2\^63\)"),
    (lambda: labels(seed=2**63), "seed 9223372036854775808 is out of range"),
    (lambda: labels(labels=LABELS.float()), "labels of torch.float32 .* are not allowed: give int64"),
    (lambda: labels(labels=LABELS.view(2, 2)), "labels of torch.int64 .* are not allowed: give int64"),
    (lambda: labels(index=INDEX - 2), r"index -2 is out of range: choose one in \[0, 2\^63\)"),
    (lambda: labels(index=INDEX[:3]), "index of shape .3. does not fit: give one entry for each of 4 samples"),
    (lambda: labels(index=META), "index is on meta: move it to cpu"),
    (
        lambda: random_labels(LABELS, INDEX.double(), num_classes=10, seed=1),
        "index must hold integers, not torch.float64",
    ),
    (lambda: corrupted_mask(INDEX - 1, probability=0.5, seed=1), "index -1 is out of range"),
    (lambda: shuffled_pixels(IMAGES[0], INDEX, seed=1), "images of shape .6, 5, 3. are not allowed"),
    (lambda: shuffled_pixels(IMAGES, INDEX, seed=-3), "seed -3 is out of range"),
    (lambda: shuffled_pixels(IMAGES[..., :0], INDEX, seed=1), "images of shape .4, 6, 5, 0. are not allowed"),
    (lambda: random_pixels(IMAGES, INDEX - 1, seed=1), "index -1 is out of range"),
    (lambda: random_pixels(IMAGES, INDEX.bool(), seed=1), "index must hold integers, not torch.bool"),
    (lambda: random_pixels(IMAGES, INDEX.view(4, 1), seed=1), "index of shape .4, 1. does not fit"),
    (
        lambda: noise(mean=torch.ones(2)),
        "mean of torch.float32 .2. does not fit: give one float for each of 3 channels",
    ),
    (lambda: noise(std=torch.ones(3).long()), "std of torch.int64 .3. does not fit"),
    (lambda: noise(std=torch.ones(3, device="meta")), "std is on meta: move it to cpu"),
    (lambda: noise(seed=2**64), "seed 18446744073709551616 is out of range"),
    (lambda: prepared(rows=INDEX + 1), r"row 4 is out of range: choose one in \[0, 4\), the images given"),
    (lambda: prepared(rows=INDEX - 1), "row -1 is out of range"),
    (lambda: prepared(images=IMAGES[..., :1], color_jitter=True), "color_jitter needs images of 3 channels, not 1"),
    (lambda: prepared(images=IMAGES[..., [0, 1, 2, 0]], color_jitter=True), "color_jitter needs images of 3 channels"),
    (lambda: prepared(rows=INDEX[:2]), "index of shape .4. does not fit: give one entry for each of 2 samples"),
    (lambda: prepared(index=INDEX - 1), "index -1 is out of range"),
    (lambda: prepared(images=IMAGES.float()), "images of torch.float32 are not allowed: give uint8"),
    (lambda: prepared(images=IMAGES[:, :5]), "window .0, 0, 6, 5. is out of range: it must lie in images of 5 x 5"),
    (lambda: prepared(epoch=-1), r"epoch -1 is out of range: choose one in \[0, 2\^63\)"),
    (lambda: prepared(epoch=2**63), "epoch 9223372036854775808 is out of range"),
    (lambda: prepared(epoch=INDEX[:1]), r"epoch of torch.int64 \[1\] is not allowed: give an int or int64 \[\]"),
    (lambda: prepared(epoch=MEAN[0]), r"epoch of torch.float32 \[\] is not allowed"),
    (lambda: prepared(epoch=META[0]), "epoch is on meta: move it to cpu, where the samples are"),
    (lambda: prepared(corruption="random"), "corruption 'random' is unknown: choose one of '', 'shuffled_pixels'"),
    (lambda: prepared(corruption="gaussian"), "gaussian needs the mean and std"),
    (lambda: prepared(normalisation="none"), "normalisation 'none' is unknown"),
    (
        lambda: prepared(dtype=torch.float16),
        "dtype torch.float16 is unknown: choose one of torch.float32, torch.bfloat16",
    ),
    (lambda: prepared(window=(-1, 0, 6, 5)), "window .-1, 0, 6, 5. is out of range"),
    (lambda: prepared(size=(7, 5)), "size .7, 5. is out of range: choose one from 1 x 1 to the window's 6 x 5"),
    (lambda: prepared(seed=-1), "seed -1 is out of range"),
    (lambda: kernels.order(0, -1, 5), "epoch -1 is out of range"),
    (lambda: kernels.order(0, 0, 0), "a permutation of 0 places is out of range"),
    (lambda: kernels.order(0, 0, 5, 3, 6), r"positions 3 to 6 are out of range: choose them in \[0, 5\]"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words[:32] for _, words in REFUSED])
def test_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        call()
    assert "\n" not in str(caught.value)


@BUILT
def test_the_op_itself_keeps_to_its_memory() -> None:
    """Called past the public functions, the kernels still refuse what would read or write elsewhere."""
    op = torch.ops.rethink_fast
    for rows, index in ((INDEX + 1, INDEX), (INDEX - 1, INDEX), (INDEX, INDEX[:3]), (INDEX.int(), INDEX)):
        rest: tuple[object, ...] = ("", 1, None, None, [6, 5], False, False, False, None, "whiten", torch.float32)
        with pytest.raises(RuntimeError):
            op.prepare(IMAGES, rows, index, [0, 0, 6, 5], *rest)
    for window, size in (([0, 0, 7, 5], [6, 5]), ([1, 0, 6, 5], [6, 5]), ([0, 0, 6, 5], [7, 5]), ([0, 0, 6], [6, 5])):
        rest = ("", 1, None, None, size, False, False, False, None, "whiten", torch.float32)
        with pytest.raises(RuntimeError):
            op.prepare(IMAGES, INDEX, INDEX, window, *rest)
    for epoch in (INDEX[1:1], INDEX[:1], INDEX[0].int(), torch.tensor(-1)):
        rest = ("", 1, None, None, [6, 5], False, True, False, epoch, "whiten", torch.float32)
        with pytest.raises(RuntimeError, match="epoch must be"):
            op.prepare(IMAGES, INDEX, INDEX, [0, 0, 6, 5], *rest)
    with pytest.raises(RuntimeError):
        op.random_pixels(IMAGES, INDEX[:3], 1)
    with pytest.raises(RuntimeError):
        op.order(0, 0, 5, 3, 6)


WITHOUT = """
import pytest
import torch
from rethink_fast import kernels
from rethink_fast.corruptions import random_pixels
from rethink_fast.corruptions.random_pixels import random_pixels_reference

status = kernels.native.load("_native")
assert not status.usable
assert "was not compiled" in status.why, status.why
assert "pip install --no-build-isolation -e ." in status.do, status.do
cpu = torch.device("cpu")
assert set(kernels.data_path(cpu).values()) == {"torch"}
assert kernels.native.instruction_set() is None
assert "plain torch runs order, corrupt_labels, prepare, resize, 30 to 150 times" in kernels.slow(cpu)
assert status.why in kernels.slow(cpu) and status.do in kernels.slow(cpu)
images, index = torch.arange(180, dtype=torch.uint8).view(4, 5, 3, 3), torch.arange(4)
made = random_pixels(images, index, seed=3)
assert torch.equal(made, random_pixels_reference(images, index, 3))
compiled = torch.compile(lambda x: random_pixels(x, index, seed=3) + 0, fullgraph=True, backend="aot_eager")
assert torch.equal(compiled(images), made)
print("ran on the reference")
raise SystemExit(pytest.main(["-q", "-k", "refused", "test_ops.py"]))
"""


@pytest.mark.slow
def test_without_the_library(tmp_path: Path) -> None:
    """A copy of the package with nothing compiled imports, runs, compiles and refuses alike."""
    shutil.copytree(PACKAGE, tmp_path / "rethink_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(SOURCES, tmp_path / "csrc")
    shutil.copy(__file__, tmp_path / "test_ops.py")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ran on the reference" in done.stdout
    assert f"{len(REFUSED)} passed" in done.stdout


STALE = """
from rethink_fast import kernels
print(kernels.native.load("_native"))
"""


@BUILT
@pytest.mark.parametrize("change", ["none", "edited", "added", "not a checkout", "cut off"])
def test_a_library_of_other_sources_is_not_loaded(change: str, tmp_path: Path) -> None:
    """As after an update of a source tree that is installed as editable."""
    shutil.copytree(PACKAGE, tmp_path / "rethink_fast", ignore=shutil.ignore_patterns("_native_cuda.so", "__pycache__"))
    if change != "not a checkout":
        shutil.copytree(SOURCES, tmp_path / "csrc")
    if change == "edited":
        with (tmp_path / "csrc" / "philox.h").open("a") as file:
            file.write("\n")
    elif change == "cut off":
        library = tmp_path / "rethink_fast" / "_native.so"
        library.write_bytes(library.read_bytes()[:20_000])
    elif change == "added":
        (tmp_path / "csrc" / "cpu" / "new.h").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STALE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert f"usable={change in ('none', 'not a checkout')}" in done.stdout
    if change in ("edited", "added", "cut off"):
        assert "was built from other sources than" in done.stdout
        assert "rebuild it with a C++ compiler" in done.stdout


def isas() -> dict[str, list[str]]:
    """The instruction sets and flags of setup.py."""
    flags: dict[str, list[str]] = {"baseline": []}
    if platform.machine() == "x86_64":
        flags["avx2"] = ["-mavx2", "-mfma"]
        flags["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
    return flags


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_under_sanitizers(tmp_path: Path) -> None:
    """Every kernel of every instruction set here, under the address and undefined-behaviour sanitizers."""
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    common = ["g++", "-O1", "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-w", f"-I{SOURCES}", *sanitize]
    parts: dict[str, list[str]] = {"sanitize_main": [], "dispatch": []}
    parts |= {f"kernels_{isa}": [f"-DRF_ISA={isa}", *flags] for isa, flags in isas().items()}
    running = []
    for name, flags in parts.items():
        source = SOURCES / "cpu" / f"{'kernels' if name.startswith('kernels') else name}.cpp"
        running.append(subprocess.Popen([*common, *flags, "-c", str(source), "-o", str(tmp_path / f"{name}.o")]))
    assert [process.wait() for process in running] == [0] * len(parts)
    program = tmp_path / "sanitized"
    subprocess.run([*common, *(str(tmp_path / f"{name}.o") for name in parts), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline: fine" in done.stdout
