"""The command line within the test's process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.cli.app import main


def cli(*words: str | Path) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def refused(capfd: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run a command that must fail with 2 and one line on stderr, and return the line."""
    capfd.readouterr()
    assert cli(*words) == 2
    err = capfd.readouterr().err
    assert err.startswith("rethink-fast: ")
    assert err.count("\n") == 1, err
    return err


def load(folder: Path) -> dict[str, Any]:
    """Return a run's result.json, which must be JSON by the standard."""
    record: dict[str, Any] = json.loads((folder / "result.json").read_text(), parse_constant=pytest.fail)
    return record
