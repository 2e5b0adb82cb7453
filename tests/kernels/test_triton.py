"""Runs the comparisons of the Triton kernels with the reference, triton_*.py, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton, which is for Linux only")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["values", "distortion_values", "max_pool_values", "training"])
def test_in_the_interpreter(name: str) -> None:
    file = Path(__file__).with_name(f"triton_{name}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=file.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
