"""Git revisions checked out into throw-away folders, with their C++ compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import rethink_fast

from ..errors import UserError

CASES = Path(rethink_fast.__file__).resolve().parents[1] / "benchmarks"
"""The cases that revisions are timed by, the same for both."""


def repository(start: Path) -> Path:
    """Return the top of the git checkout around `start`. Raises UserError where there is none of this project."""
    done = _git(start, "rev-parse", "--show-toplevel")
    top = Path(done.stdout.strip()) if done.returncode == 0 else None
    if top is None or not (top / "rethink_fast" / "__init__.py").exists():
        raise UserError(f"{start} is in no git checkout of rethink_fast", "compare revisions in one", value=start)
    if not CASES.is_dir():
        raise UserError(
            f"{CASES} does not exist, and revisions are compared by it", "run from a source tree", value=CASES
        )
    return top


def commit_of(top: Path, revision: str) -> str:
    """Return the full hash of a revision. Raises UserError for one that does not exist."""
    done = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        raise UserError(
            f"{revision!r} is neither a file nor a git revision of {top}",
            "give a record's path, or a commit, tag or branch (in a shallow clone fetch it first: "
            "git fetch --depth 100)",
            value=revision,
        )
    return done.stdout.strip()


@contextmanager
def worktree(top: Path, commit: str) -> Iterator[Path]:
    """Check a commit out into a throw-away folder for the length of a block."""
    folder = Path(tempfile.mkdtemp(prefix="rethink_fast-compare-"))
    tree = folder / commit[:12]
    try:
        done = _git(top, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        if done.returncode:
            raise UserError(f"git could not check out {commit[:12]}: {' '.join(done.stderr.split())}")
        yield tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _git(top, "worktree", "prune")


def build(tree: Path) -> None:
    """Compile the tree's own C++, and its CUDA where there is a GPU; nothing to do for one that has no sources."""
    if not (tree / "setup.py").exists() or not (tree / "csrc").is_dir():
        return
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    if not torch.cuda.is_available():
        environment["RETHINK_FAST_CUDA"] = "0"
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not (tree / "rethink_fast" / "_native.so").exists():
        output = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"the C++ of {tree.name} could not be compiled here: {output[-1]}")


def same_sources(top: Path, old: str, new: str) -> bool:
    """Return whether two commits compile the same sources, so that one build serves both."""
    return _git(top, "diff", "--quiet", old, new, "--", "csrc", "setup.py").returncode == 0


def _git(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(
            f"revisions are compared by git, and it cannot be run ({error.strerror})", "install it"
        ) from None
