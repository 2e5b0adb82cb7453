"""What is installed is what was tested: wheel and sdist hold the tree, and nothing else, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import rethink_fast

ROOT = Path(rethink_fast.__file__).parents[1]
SDIST = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"
BENCH = ["bench", "mnist", "--data", "synthetic", "--max-samples", "60", "--epochs", "1", "--device", "cpu"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "RETHINK_FAST_CUDA": "0", **variables}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files(root: Path) -> set[str]:
    """What a package must hold: the files of the tree, without READMEs and what a build or Python left there."""
    paths = (path for path in (root / "rethink_fast").rglob("*") if path.is_file() and path.suffix != ".so")
    skipped = {"__pycache__", "README.md"}
    return {path.relative_to(root).as_posix() for path in paths if not skipped & set(path.parts)}


def wheel_of(source: Path, out: Path, **variables: str) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
    run(*pip, "-w", out, source, cwd=out.parent, **variables)
    (wheel,) = out.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if not name.split("/")[0].endswith(".dist-info")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree in which an earlier build has left modules and libraries."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    for name in ("rethink_fast", "csrc"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    for stale in ("build/lib.linux-x86_64-cpython-311", "build/lib"):
        (tree / stale / "rethink_fast").mkdir(parents=True)
        (tree / stale / "rethink_fast" / "removed.py").write_text("raise RuntimeError\n")
        (tree / stale / "rethink_fast" / "_native.so").write_bytes(b"of another time")
    return tree


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    out = tree.parent / "sdist"
    out.mkdir()
    run(sys.executable, "-c", SDIST, out, cwd=tree)
    (path,) = out.glob("*.tar.gz")
    return path


def install(wheel: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder.parent)
    return folder / "bin" / "rethink-fast"


def test_an_sdist_holds_the_package_and_its_cpp(tree: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    cpp = {path.relative_to(tree).as_posix() for path in (tree / "csrc").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("rethink_fast/") and "." in name} == package_files(tree)
    assert cpp <= names
    assert not [name for name in names if name.endswith(".so") or "removed" in name]


def test_a_wheel_from_the_sdist_runs_with_its_kernels(sdist: Path, tree: Path, tmp_path: Path) -> None:
    wheel = wheel_of(sdist, tmp_path / "wheel")
    assert names_in(wheel) == package_files(tree) | {"rethink_fast/_native.so"}
    command = install(wheel, tmp_path / "site")
    where = {"PYTHONPATH": str(tmp_path / "site")}
    facts = json.loads(run(command, "env", "--json", cwd=tmp_path, **where))
    (kernels,) = [backend for backend in facts["backends"] if backend["name"] == "C++ kernels"]
    assert kernels["usable"]
    assert kernels["why"].startswith(str(tmp_path / "site"))
    said = run(sys.executable, "-m", "rethink_fast", *BENCH, "--out", "o", cwd=tmp_path, **where)
    assert "plain torch runs" not in said
    assert json.loads((tmp_path / "o" / "result.json").read_text())["backend"]["prepare"].startswith("C++ (")


def test_a_wheel_without_a_compiler_says_so_at_first_use(tree: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tree, tmp_path / "wheel", CXX="/nonexistent")
    assert names_in(wheel) == package_files(tree)
    command = install(wheel, tmp_path / "site")
    where = {"PYTHONPATH": str(tmp_path / "site")}
    facts = json.loads(run(command, "env", "--json", cwd=tmp_path, **where))
    (kernels,) = [backend for backend in facts["backends"] if backend["name"] == "C++ kernels"]
    assert not kernels["usable"]
    assert "does not exist" in kernels["why"]
    assert "g++" in kernels["do"]
    said = run(command, *BENCH, "--out", "o", cwd=tmp_path, **where)
    assert said.count("plain torch runs order, corrupt_labels, prepare, resize, 30 to 150 times slower") == 1
    backends = json.loads((tmp_path / "o" / "result.json").read_text())["backend"]
    assert set(backends.values()) == {"torch"}
