"""Fixtures of the tests on data."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set in the current folder, the cache or the environment."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RETHINK_FAST_DATA", raising=False)
