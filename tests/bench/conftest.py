"""Runs that are watched, a run to copy, and a small disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.bench.console import ConsoleProgress
from tests.bench.helpers import EPOCHS, cli


@pytest.fixture
def at_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something at the end of an epoch of a run."""

    def at(epoch: int, act: Callable[[], object]) -> None:
        shown = ConsoleProgress.on_epoch

        def on_epoch(self: ConsoleProgress, row: Any, outcome: Any) -> None:
            if row.epoch == epoch:
                act()
            shown(self, row, outcome)

        monkeypatch.setattr(ConsoleProgress, "on_epoch", on_epoch)

    return at


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "o"
    assert cli(*EPOCHS, "--out", folder) == 0
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory of some size."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("needs the right to mount a small tmpfs")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
