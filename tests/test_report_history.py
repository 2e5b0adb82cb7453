"""Records over time in the report: what is joined, which steps are claimed, what is passed over, and the page."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.bench.cli import main
from rethink_fast.bench.compare import history
from rethink_fast.bench.compare.over_time import gather
from rethink_fast.errors import UserError
from rethink_fast.report import write_report
from rethink_fast.report.history import Line
from tests.test_compare_records import ENVIRONMENT, benchmarks
from tests.test_report import folder as reproduction
from tests.test_report import in_a_browser, needs_chromium, stands_alone, well_formed

DAYS = 14
STEP = 9
"""The day from which the copy is faster and the order slower; nothing else changes."""
__all__ = ["reproduction"]


def store(folder: Path, day: int, processor: str, seconds: float, rng: random.Random) -> None:
    """A record of three cases with noise of 1 %. seconds: of the copy and the order; the third stays."""
    after = day >= STEP

    def noisy(value: float) -> float:
        return value * (1.0 + rng.gauss(0.0, 0.01))

    copy = {"seconds": noisy(seconds * (0.8 if after else 1.0))}
    order = {"seconds": noisy(seconds * (1.25 if after else 1.0))}
    ratio = {"baseline": "the <plain> loop", "times_as_fast": [noisy(2.0)]}
    values: dict[str, Any] = benchmarks(**{"copy 4x4": copy, "order of 10": order})
    values["benchmarks"] += benchmarks(still={"seconds": noisy(seconds), "extra": ratio})["benchmarks"]
    values["datetime"] = f"2026-01-{day:02}T00:00:00"
    values["machine_info"] = {**ENVIRONMENT, "processor": processor}
    (folder / f"{processor}-{day:02}.json").write_text(json.dumps(values))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fortnight on one machine, with a step; three days on a slower one; and two files that are no record."""
    out = tmp_path_factory.mktemp("records")
    rng = random.Random(0)
    for day in range(1, DAYS + 1):
        store(out, day, "Xeon", 1e-4, rng)
    for day in (5, 6, 12):
        store(out, day, "Slow", 5e-4, rng)
    (out / "cut.json").write_text((out / "Xeon-01.json").read_text()[:300])
    (out / "package.json").write_text('{"name": "<foreign>"}')
    write_report(out, gather(out))
    return out


def lines_of(folder: Path, what: str) -> list[Line]:
    (group,) = gather(folder).groups
    return [line for line in group.lines if line.what == what]


def test_times_are_joined_within_a_machine_and_ratios_over_all(records: Path) -> None:
    assert [(line.machine, line.records) for line in lines_of(records, "copy 4x4")] == [
        ("1: Xeon", DAYS),
        ("2: Slow", 3),
    ]
    seconds, more_seconds, ratio = lines_of(records, "still")
    assert seconds.caption == "us (lower is better), machine 1: Xeon"
    assert more_seconds.caption == "us (lower is better), machine 2: Slow"
    assert ratio.caption == "times as fast as the <plain> loop (higher is better), machine 1, 2"
    assert [line.measure for line in (seconds, ratio)] == ["time", "times as fast as the <plain> loop"]
    assert ratio.records == DAYS + 3


def test_the_last_step_is_told_with_its_size_its_day_and_whether_it_is_for_the_better(records: Path) -> None:
    faster, _ = lines_of(records, "copy 4x4")
    slower, _ = lines_of(records, "order of 10")
    assert faster.change is not None
    assert slower.change is not None
    assert (faster.change.better, slower.change.better) == (True, False)
    assert float(faster.change.words.rstrip(" %")) == pytest.approx(-20, abs=1.5)
    assert float(slower.change.words.rstrip(" %")) == pytest.approx(25, abs=1.5)
    assert faster.change.since == slower.change.since == f"2026-01-{STEP:02}"


def test_no_step_is_claimed_where_nothing_changed_or_the_records_are_few(records: Path) -> None:
    still = [*lines_of(records, "still"), lines_of(records, "copy 4x4")[1], lines_of(records, "order of 10")[1]]
    assert [line.change for line in still] == [None] * 5


def test_a_step_that_comes_with_another_machine_says_so(tmp_path: Path) -> None:
    for day in range(1, 13):
        ratio = {"extra": {"baseline": "it", "times_as_fast": [2.0 if day < 7 else 3.0]}}
        values = {**benchmarks(op=ratio), "datetime": f"2026-01-{day:02}"}
        values["machine_info"] = {**ENVIRONMENT, "processor": "Xeon" if day < 7 else "EPYC"}
        (tmp_path / f"{day}.json").write_text(json.dumps(values))
    ratio_line = lines_of(tmp_path, "op")[-1]
    assert ratio_line.change is not None
    assert ratio_line.change.since == "2026-01-07, on another machine"
    assert ">machine 1</text>" in ratio_line.svg
    assert ">machine 2</text>" in ratio_line.svg


def test_what_is_no_record_is_named_and_the_rest_is_told(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(records)])
    assert stopped.value.code == 0
    printed = capsys.readouterr()
    cut, foreign = printed.err.splitlines()
    assert cut.startswith("passed over: cut.json is not whole JSON")
    assert foreign == "passed over: package.json is JSON, but nothing that is known here"
    assert str(records / "report.html") in printed.out.splitlines()
    for name in ("report.html", "report.md"):
        assert "cut.json is not whole JSON" in (records / name).read_text()


def test_the_page_and_the_text_hold_every_chart(records: Path) -> None:
    page, text = (records / "report.html").read_text(), (records / "report.md").read_text()
    pictures = sorted(path.stem for path in records.glob("*.svg"))
    assert len(pictures) == 7
    assert page.count("<svg") == 7
    for name in pictures:
        assert f'<figure id="{name}">' in page
        assert f"]({name}.svg)" in text
    assert "the &lt;plain&gt; loop" in page
    assert "better -" in text
    assert "worse +" in text
    stands_alone(page)
    well_formed(page)


def test_the_same_records_give_the_same_bytes(records: Path) -> None:
    before = {path: path.read_bytes() for path in records.iterdir()}
    write_report(records, gather(records))
    assert {path: path.read_bytes() for path in records.iterdir()} == before


def test_one_record_is_a_point_and_no_step(tmp_path: Path) -> None:
    store(tmp_path, 1, "Xeon", 1.0, random.Random(0))
    write_report(tmp_path, gather(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "No figure has a step. The longest series has 1 record." in page
    assert "verdict" not in page.partition("</style>")[2]
    (seconds, *_) = history.series(history.load(tmp_path))
    assert seconds.steps() == []
    assert page.count("<svg") == 4


def test_a_folder_may_hold_both(reproduction: Path, tmp_path: Path) -> None:
    (tmp_path / "reproduction.json").write_text((reproduction / "reproduction.json").read_text())
    store(tmp_path, 1, "Xeon", 1.0, random.Random(0))
    _, passed_over = write_report(tmp_path, gather(tmp_path))
    assert passed_over == []
    assert len(history.load(tmp_path)) == 1
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for section in ("findings", "figure1", "history", "history-records"):
        assert f'<section id="{section}">' in page
    assert "# Understanding deep learning" in text
    assert "# Measured over time" in text
    stands_alone(page)
    well_formed(page)


def test_a_damaged_reproduction_does_not_stop_the_records(tmp_path: Path) -> None:
    (tmp_path / "reproduction.json").write_text("{")
    store(tmp_path, 1, "Xeon", 1.0, random.Random(0))
    _, passed_over = write_report(tmp_path, gather(tmp_path))
    assert len(passed_over) == 1
    assert "is damaged" in passed_over[0]
    assert "reproduction.json is damaged" in (tmp_path / "report.html").read_text()


def test_a_folder_with_neither_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"neither reproduction\.json nor a record"):
        write_report(tmp_path, gather(tmp_path))
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "neither reproduction.json nor a record (*.json" in said
    assert "Passed over: cut.json is not whole JSON" in said
    assert [path.name for path in tmp_path.iterdir()] == ["cut.json"]


@needs_chromium
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(records: Path, tmp_path: Path, width: int) -> None:
    pictures, bodies = in_a_browser((records / "report.html").read_text(), width, tmp_path)
    assert pictures == 7
    assert bodies > 3 + DAYS + 3
