"""The dry run of the GPU path: what it needs is named, failures are lines, and generated code is counted right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.counts import FOLDER, Unavailable
from benchmarks.dry_run import __main__ as dry_run
from benchmarks.dry_run import environments, libraries
from benchmarks.dry_run.absent_h100 import shims
from benchmarks.dry_run.step import Graph, kernel_sources

CODE = """
aten = torch.ops.aten
triton_poi_fused_relu_0 = async_compile.triton('triton_poi_fused_relu_0', '''
def relu(): pass
''', device_str='cuda')
triton_red_fused_sum_1 = async_compile.triton('triton_red_fused_sum_1', '''
def sum(): pass
''', device_str='cuda')
            triton_poi_fused_relu_0.run(a, b, 4, stream=raw_stream0)
            buf1 = extern_kernels.convolution(b, c)
            extern_kernels.mm(b, c, out=d)
            buf2 = torch.ops.aten.convolution_backward.default(b, c)
            triton_poi_fused_relu_0.run(d, e, 4, stream=raw_stream0)
            triton_red_fused_sum_1.run(e, f, 1, 4, stream=raw_stream0)
"""


def test_launches_and_kernels_are_read_from_generated_code() -> None:
    assert Graph(CODE, 12).counts() == {"triton": 3, "library": 3, "bytes": 12}
    assert kernel_sources(CODE) == {
        "triton_poi_fused_relu_0": "def relu(): pass",
        "triton_red_fused_sum_1": "def sum(): pass",
    }


def test_the_versions_are_those_of_the_project() -> None:
    oldest, newest = environments.supported()
    assert oldest.count(".") == newest.count(".") == 2
    assert tuple(map(int, oldest.split("."))) < tuple(map(int, newest.split(".")))


def test_tools_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert dry_run.main([]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["nvcc", "c++", "cc"]
    assert all("is not on PATH: " in line for line in lines)


@pytest.mark.slow
def test_disk_space_and_network_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
        with pytest.raises(Unavailable, match=r"7 GB of disk space are needed for torch 2\.10\.0, .* has 1\.0"):
            environments.environment("2.10.0", tmp_path)
    why = r"cannot be installed \(is there a network\?\): ERROR: "
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(Unavailable, match=why):
        environments.environment("2.10.0", tmp_path)


def test_a_build_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "_run", lambda *_: None)
    with pytest.raises(Unavailable, match="is not a CUDA build"):
        environments.environment("2.10.0", tmp_path)


def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "cuda_version", lambda python: "13.0")
    assert environments.environment("2.10.0", tmp_path) == tmp_path / "torch-2.10.0/bin/python"
    assert not list(tmp_path.iterdir())


def test_a_library_that_does_not_load_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a real process: the file is no library."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    package = environments.ROOT / "rethink_fast"
    shutil.copytree(package, tmp_path / "rethink_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in libraries.LIBRARIES:
        libraries.path(tmp_path, name).write_bytes(b"\x7fELF")
    digest, why = libraries.load(Path(sys.executable), tmp_path)
    assert digest == ""
    assert why.startswith("OSError: ")
    assert "does not load into torch" in why


def test_every_build_is_loaded_into_every_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pythons = {"1": Path("one"), "2": Path("two")}
    monkeypatch.setattr(libraries, "build", lambda python, folder: "")
    loaded = []

    def load(python: Path, folder: Path) -> tuple[str, str]:
        loaded.append((folder.name, python.name))
        return "same", "undefined symbol" if loaded[-1] == ("build-2", "one") else ""

    monkeypatch.setattr(libraries, "load", load)
    assert libraries.crosswise(pythons, tmp_path) == ["built against torch 2, loaded into 1: undefined symbol"]
    assert len(loaded) == 4
    monkeypatch.setattr(libraries, "load", lambda python, folder: (folder.name, ""))
    assert libraries.crosswise(pythons, tmp_path) == ["the builds compute different values: build-1, build-2"]
    monkeypatch.setattr(libraries, "build", lambda python, folder: "nvcc failed" if python.name == "two" else "")
    assert libraries.crosswise(pythons, tmp_path) == ["torch 2: nvcc failed"]


def test_a_stopped_or_failed_run_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled: list[str] = []
    failing = {"b"}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        compiled.append(command[-1])
        failed = command[-1] in failing
        return subprocess.CompletedProcess(command, -9 if failed else 0, json.dumps({"of": command[-1]}), "killed")

    monkeypatch.setattr(dry_run, "shims", lambda _: {})
    monkeypatch.setattr(dry_run, "versions", lambda _: {"torch": "1"})
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match="b: exit status -9\nkilled"):
        dry_run.count(Path("python"), tmp_path, ["a", "b", "c"])
    assert compiled == ["a", "b", "c"]

    failing.clear()
    expected = {name: {"of": name} for name in "abc"}
    assert dry_run.count(Path("python"), tmp_path, ["a", "b", "c"]) == expected
    assert compiled == ["a", "b", "c", "b"]
    assert "a is counted: " in capsys.readouterr().out

    monkeypatch.setattr(dry_run, "versions", lambda _: {"torch": "2"})
    assert dry_run.count(Path("python"), tmp_path, ["a"]) == {"a": {"of": "a"}}
    assert compiled == ["a", "b", "c", "b", "a"]


def test_counts_are_kept_for_this_code_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("rethink_fast/train", "benchmarks"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "step.py").write_text("1")
    monkeypatch.setattr(dry_run, "ROOT", tmp_path)
    digests = {dry_run.digest({"torch": "1"}), dry_run.digest({"torch": "2"})}
    for path in ("rethink_fast/train/step.py", "benchmarks/step.py"):
        (tmp_path / path).write_text("2")
        digests.add(dry_run.digest({"torch": "1"}))
    assert len(digests) == 4
    (tmp_path / "benchmarks/counts.json").write_text("3")
    assert dry_run.digest({"torch": "1"}) in digests


@pytest.mark.slow
def test_a_step_that_does_not_compile_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child is this Python, whose torch finds no device: its error is the parent's."""
    monkeypatch.setattr(dry_run, "shims", lambda _: {})
    with pytest.raises(RuntimeError, match=r"mlp_1x512: exit status 1\n"):
        dry_run.count(Path(sys.executable), tmp_path, ["mlp_1x512"])


def test_unknown_networks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, why in ((["resnet"], "network 'resnet' is unknown"), (["--update", "mlp_1x512"], "name none")):
        with pytest.raises(SystemExit) as stopped:
            dry_run.main(words)
        assert stopped.value.code == 2
        assert why in capsys.readouterr().err


def test_the_committed_counts_are_of_every_network_and_nothing_spills() -> None:
    counts = json.loads((FOLDER / "gpu_step.json").read_text())["counts"]
    assert sorted(counts) == sorted(dry_run.NETWORKS)
    for found in counts.values():
        assert found["kernels"]["spilling"] == []
        assert "_fused_sgd_" in found["operators"]
    parameters = 23_834_568  # read: weights, gradients and two means; written: all but the gradients
    update = counts["inception_v3"]["rmsprop"]
    assert 7 * 4 * parameters <= update["bytes"] < 7 * 4 * parameters + 2000


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_shims_load(tmp_path: Path) -> None:
    environment = shims(tmp_path)
    code = (
        "import ctypes, os; print(ctypes.c_int.in_dll(ctypes.CDLL(os.environ['LD_PRELOAD']), 'absent_devices').value)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
