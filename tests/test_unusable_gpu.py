"""A GPU that cannot be used is refused in one line that says why and what still works, by doubles of torch's calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rethink_fast.cli.app import run
from rethink_fast.cli.env import backends
from rethink_fast.data.dali import dali_version
from rethink_fast.env import choose_device, first_sentence, gpu, unused_gpu
from rethink_fast.errors import UserError

OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be reported later"


def raising(error: Exception) -> Any:
    def call(*_: Any) -> None:
        raise error

    return call


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs that can be used; a test changes what it is about."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in (
        ("is_available", True),
        ("device_count", 2),
        ("get_device_capability", (9, 0)),
        ("mem_get_info", (2**34, 2**36)),
        ("set_device", None),
        ("get_device_name", "NVIDIA H100"),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    return monkeypatch


def said_of(name: str) -> tuple[bool, str, str]:
    (found,) = (backend for backend in backends() if backend.name == name)
    return found.usable, found.why, found.do


@pytest.mark.parametrize(("capability", "found"), [((7, 5), "7.5"), ((7, 0), "7.0"), ((6, 1), "6.1")])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_too_old(device: str, capability: Any, found: str, two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with pytest.raises(UserError) as refused:
        choose_device(device)
    assert str(refused.value) == (
        f"--device {device} has compute capability {found}, and the kernels are compiled for 8.0 and newer: "
        "choose another of 2 GPUs, or use --device cpu."
    )
    assert choose_device("cpu").type == choose_device("auto").type == "cpu"
    why = f"compute capability {found}, and the kernels are compiled for 8.0 and newer"
    assert unused_gpu("auto") == f"the GPU is not used (--device auto): {why}"
    usable, why, _ = said_of("CUDA")
    assert not usable
    assert found in why


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 1)])
def test_a_gpu_new_enough(capability: Any, two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_device("auto").type == "cuda"
    assert unused_gpu("auto") is None
    assert said_of("CUDA") == (True, "NVIDIA H100", "")


@pytest.mark.parametrize("call", ["set_device", "mem_get_info"])
@pytest.mark.parametrize(
    ("count", "fix"), [(2, "choose another of 2 GPUs, or use --device cpu"), (1, "use --device cpu")]
)
def test_a_gpu_that_another_process_holds(call: str, count: int, fix: str, two_gpus: pytest.MonkeyPatch) -> None:
    two_gpus.setattr(torch.cuda, "device_count", lambda: count)
    two_gpus.setattr(torch.cuda, call, raising(RuntimeError(BUSY)))
    with pytest.raises(UserError) as refused:
        choose_device("cuda:0")
    why = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    assert str(refused.value) == f"--device cuda:0 cannot be used: {why}: {fix}."


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError(OLD_DRIVER), "The NVIDIA driver on your system is too old (found version 11040)"),
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), "Found no NVIDIA driver on your system"),
        (AssertionError(""), "AssertionError"),
        (None, "no GPU was found"),
    ],
)
def test_a_driver_that_torch_cannot_use(error: Exception | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", raising(error) if error else lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError) as refused:
        choose_device("cuda")
    assert str(refused.value) == f"--device cuda needs a GPU that torch can use: {why}: use --device cpu."
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr("rethink_fast.env.DRIVER_FILES", ("/nonexistent",))
    line = f"the GPU is not used (--device auto): {why}"
    assert unused_gpu("auto") == (line if "too old" in why or "AssertionError" in why else None)
    monkeypatch.setattr("rethink_fast.env.DRIVER_FILES", ("/nonexistent", "/"))
    assert unused_gpu("auto") == line
    assert [unused_gpu(name) for name in ("cpu", "cuda", "cuda:1")] == [None] * 3
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert unused_gpu("auto") is None
    do = "nvidia-smi must show a GPU, and a driver for CUDA 13.0; the CPU works without"
    assert said_of("CUDA") == (False, why, do)


def test_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match="this torch was built without CUDA: use --device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("kind", "message", "do"),
    [
        ("NVMLError_NoPermission", "Insufficient Permissions", "ask for access to the GPU's counters"),
        ("NVMLError_LibraryNotFound", "NVML Shared Library Not Found", "install the NVIDIA driver"),
        ("NVMLError_DriverNotLoaded", "Driver Not Loaded", "install the NVIDIA driver"),
    ],
)
def test_nvml_that_is_forbidden_or_missing(kind: str, message: str, do: str, two_gpus: pytest.MonkeyPatch) -> None:
    error = type(kind, (Exception,), {})(message)
    two_gpus.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=raising(error)))
    assert said_of("NVML") == (False, message, f"{do}; only clocks and power are not recorded")
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=2**36, major=9, minor=0)
    two_gpus.setattr(torch.cuda, "current_device", lambda: 0)
    two_gpus.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert gpu() == {"name": "NVIDIA H100", "memory_bytes": 2**36, "capability": "9.0", "driver": None}


def test_without_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia", None)
    with pytest.raises(UserError, match=r"reading image files needs DALI .*; --data synthetic needs none"):
        dali_version()
    monkeypatch.setattr("rethink_fast.cli.env.version_of", lambda _: None)
    usable, why, do = said_of("DALI")
    assert not usable
    assert why.endswith("is not installed")
    assert do.endswith("; only encoded images, such as ImageNet's JPEGs, need it")


def test_the_first_sentence_of_an_error() -> None:
    assert first_sentence(RuntimeError("CUDA 13.0 is needed. Or not.")) == "CUDA 13.0 is needed"
    assert first_sentence(RuntimeError("one\ntwo")) == "one"
    assert first_sentence(RuntimeError("  ")) == "RuntimeError"


def test_every_verb_that_chooses_a_device_says_once_that_the_gpu_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", raising(RuntimeError(OLD_DRIVER)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    small = ["--data", "synthetic", "--max-samples", "20", "--epochs", "1", "--batch-size", "10"]
    for words in (
        ["bench", "cifar10", "--model", "mlp_1x512", "--seeds", "2", *small],
        ["memorize", "cifar10", "--model", "mlp_1x512", "--models", "8", *small],
        ["reproduce", "theorem1", *(word for name in ("cifar10", "mnist") for word in ("--data", f"{name}=/absent"))],
    ):
        run([*words, "--out", str(tmp_path / words[0])])
        shown = capsys.readouterr()
        line = "the GPU is not used (--device auto): The NVIDIA driver on your system is too old (found version 11040)"
        assert (shown.out + shown.err).count(line) == 1, words
