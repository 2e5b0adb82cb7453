"""Steps in a series, by seeded simulation; and a record beside a folder of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.bench.cli import main
from rethink_fast.bench.compare import chart, history
from rethink_fast.bench.compare.figures import read
from rethink_fast.errors import UserError
from tests.test_compare_records import ENVIRONMENT, benchmarks

NOISE = 0.01


def noise(seed: int, n: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(0.0, NOISE) for _ in range(n)]


@pytest.mark.parametrize("n", [4, 6, 10, 30])
def test_noise_alone_has_no_steps(n: int) -> None:
    """In 99 of 100 series."""
    assert sum(bool(history.steps(noise(seed, n))) for seed in range(100)) <= 1


def test_a_step_of_ten_standard_deviations_is_found_where_it_is() -> None:
    found = 0
    for seed in range(100):
        values = noise(seed, 20)
        at = 5 + seed % 10
        found += history.steps([value + 10 * NOISE * (k >= at) for k, value in enumerate(values)]) == [at]
    assert found >= 95


def test_two_steps_and_an_outlier() -> None:
    values = [value + 0.1 * (k >= 8) - 0.2 * (k >= 16) for k, value in enumerate(noise(0, 24))]
    assert history.steps(values) == [8, 16]
    values[4] += 0.1  # alone: not a level
    assert history.steps(values) == [8, 16]


def test_short_and_constant_series_have_none() -> None:
    assert history.steps([]) == history.steps([1.0]) == history.steps([1.0] * 9) == []


def store(folder: Path, day: int, seconds: float, **environment: Any) -> Path:
    values = benchmarks(op={"seconds": seconds})
    values["datetime"] = f"2026-01-{day:02}T00:00:00"
    values["machine_info"] = {**ENVIRONMENT, **environment}
    path = folder / f"{day}-{environment.get('processor', 'same')}.json"
    path.write_text(json.dumps(values))
    return path


def test_a_record_is_held_against_the_last_level(tmp_path: Path) -> None:
    for day in range(1, 21):
        store(tmp_path, day, 1.0 if day <= 10 else 0.8)
        store(tmp_path, day, 5.0, processor="another")
    records = history.load(tmp_path)
    assert [len(group) for group in history.machines(records)] == [20, 20]
    (mine,) = [group for group in history.machines(records) if group[0].machine["processor"] == "Xeon"]
    (figure,) = history.series(mine)
    assert [step.at for step in figure.steps()] == [10]
    assert figure.last_level().values == (0.8,) * 10
    (tmp_path / "new").mkdir()
    new = read(store(tmp_path / "new", 21, 0.9))
    found = history.compare(records, new, 0.03)
    assert found.lines[0].found.ratio == pytest.approx(0.9 / 0.8)
    assert found.lines[0].verdict == "slower"
    assert "20 records, 2026-01-01" in found.notes[0]
    with pytest.raises(UserError, match="nearest differs in processor another and yet another"):
        history.compare(records, read(store(tmp_path / "new", 22, 0.9, processor="yet another")), 0.03)
    # a record of the history itself is not held against itself
    assert "19 records" in history.compare(records, records[0], 0.03).notes[0]
    with pytest.raises(UserError, match="a history of 1 records: none of its kind but itself"):
        history.compare(records[:1], records[0], 0.03)


def test_the_history_is_drawn_with_its_steps(tmp_path: Path) -> None:
    for day in range(1, 16):
        store(tmp_path, day, 1.0 if day <= 8 else 0.8)
    picture = chart.draw(history.series(history.load(tmp_path)), "a title")
    (panel,) = picture.axes
    assert panel.get_title() == "op\ns (lower is better)"
    points, *levels, step = panel.lines
    assert list(points.get_ydata()) == [1.0] * 8 + [0.8] * 7
    assert [tuple(level.get_ydata()) for level in levels] == [(1.0, 1.0), (0.8, 0.8)]
    assert (step.get_xdata()[0], step.get_color()) == (7.5, chart.BETTER)
    assert [text.get_text() for text in panel.texts] == ["-20%"]
    with pytest.raises(ValueError, match="no history to draw"):
        chart.draw(history.series(history.load(tmp_path)[:1]), "a title")


def test_the_command_line_holds_a_record_against_a_folder(tmp_path: Path) -> None:
    (tmp_path / "past").mkdir()
    for day in range(1, 13):
        store(tmp_path / "past", day, 1.0 + 0.001 * (day % 3))
    new = store(tmp_path, 13, 1.1)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "past"), str(new), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    assert (tmp_path / "out" / "history.png").read_bytes().startswith(b"\x89PNG")
    assert "slower" in (tmp_path / "out" / "comparison.md").read_text()
