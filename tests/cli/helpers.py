"""The command line in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rethink_fast.cli import app

SMALL = ("bench", "mnist", "--data", "synthetic", "--max-samples", "20", "--epochs", "1", "--workers", "1")


def rethink_fast(
    *arguments: str | bytes,
    cwd: Path | None = None,
    code: str | None = None,
    shell: str = "",
    environment: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process. code: Python before it; shell: what starts it; None removes a variable."""
    known = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), **(environment or {})}
    start = [sys.executable, "-m", "rethink_fast"]
    if code is not None:
        start = [sys.executable, "-c", f"{code}\nfrom rethink_fast.__main__ import main; main()"]
    if shell:
        start = ["sh", "-c", shell, "sh", *start]
    return subprocess.run(
        [*start, *arguments],
        cwd=cwd,
        env={name: value for name, value in known.items() if value is not None},
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=120,
        check=False,
    )


def is_one_line(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Assert that a command ended with one line on stderr, and return that line."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("rethink-fast: ")
    return done.stderr
