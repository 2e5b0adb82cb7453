"""A record beside a folder of records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.cli.app import main
from rethink_fast.compare import history
from rethink_fast.compare.metrics import read
from rethink_fast.errors import UserError
from tests.compare.test_records import ENVIRONMENT, benchmarks


def store(folder: Path, day: int, seconds: float, **environment: Any) -> Path:
    values = benchmarks(op={"seconds": seconds})
    values["datetime"] = f"2026-01-{day:02}T00:00:00"
    values["machine_info"] = {**ENVIRONMENT, **environment}
    path = folder / f"{day}-{environment.get('processor', 'same')}.json"
    path.write_text(json.dumps(values))
    return path


def test_a_record_is_compared_with_the_last_ones_like_it(tmp_path: Path) -> None:
    for day in range(1, 21):
        store(tmp_path, day, 1.0 if day <= 10 else 0.8)
        store(tmp_path, day, 5.0, processor="another")
    records = history.load(tmp_path)
    (tmp_path / "new").mkdir()
    new = read(store(tmp_path / "new", 21, 0.9))
    found = history.compare(records, new, 0.03)
    assert found.lines[0].estimate.ratio == pytest.approx(0.9 / 0.8)
    assert found.lines[0].old == 0.8
    assert found.lines[0].verdict == "slower"
    assert "the last 10 records like it, 2026-01-11T00:00:00 to 2026-01-20T00:00:00" in found.notes[0]
    with pytest.raises(UserError, match="nearest differs in processor another and yet another"):
        history.compare(records, read(store(tmp_path / "new", 22, 0.9, processor="yet another")), 0.03)
    # A record of the history is not compared with itself.
    assert "last 1 records" in history.compare(records[:3], records[0], 0.03).notes[0]
    with pytest.raises(UserError, match="a history of 1 records: none of its kind but itself"):
        history.compare(records[:1], records[0], 0.03)


def test_the_command_line_compares_a_record_with_a_folder(tmp_path: Path) -> None:
    (tmp_path / "past").mkdir()
    for day in range(1, 13):
        store(tmp_path / "past", day, 1.0 + 0.001 * (day % 3))
    new = store(tmp_path, 13, 1.1)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "past"), str(new), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    assert "slower" in (tmp_path / "out" / "comparison.md").read_text()
