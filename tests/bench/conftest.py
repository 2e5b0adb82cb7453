"""Runs that are watched, and a run to copy."""

from __future__ import annotations

from collections.abc import Callable
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
