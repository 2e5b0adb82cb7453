"""How a record says that other work shared the processors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rethink_fast import contention


def lay(folder: Path, **threads: tuple[int, int]) -> None:
    for thread, (ran, waited) in threads.items():
        (folder / thread).mkdir(parents=True, exist_ok=True)
        (folder / thread / "schedstat").write_text(f"{ran} {waited} 7\n")


def test_the_share_counts_waiting_threads_and_those_that_start_or_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contention, "TASKS", tmp_path)
    lay(tmp_path, main=(1000, 5000), ends=(10**9, 10**9))
    since = contention.Contention()
    (tmp_path / "ends" / "schedstat").unlink()
    lay(tmp_path, main=(1600, 5100), starts=(200, 100))
    facts = since.as_dict()
    assert facts["processor_share"] == pytest.approx(800 / 1000)
    assert facts["busy"] is True
    lay(tmp_path, main=(10**6, 5100))
    assert since.as_dict()["busy"] is False


@pytest.mark.parametrize("content", [None, "", "odd\n", "5\n", "0 0 0\n"])
def test_what_the_system_does_not_say_is_null(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "schedstat").write_text(content)
    monkeypatch.setattr(contention, "TASKS", tmp_path if content is not None else tmp_path / "missing")

    def none() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", none)
    facts = contention.Contention().as_dict()
    assert (facts["load_start"], facts["load_end"], facts["processor_share"], facts["busy"]) == (None,) * 4
    assert contention.overloaded() is None


def test_a_high_load_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 0.0, 0.0))
    assert contention.overloaded() is None
    monkeypatch.setattr(os, "getloadavg", lambda: (9.5, 0.0, 0.0))
    said = contention.overloaded()
    assert said is not None
    assert "9.5 on 8 cores" in said


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_that_shares_its_core_is_busy() -> None:
    """Two other processes on the same core leave a third of it."""
    if not contention._threads():
        pytest.skip("the kernel keeps no schedstat")
    mask = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mask)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.2)
        since = contention.Contention()
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        facts = since.as_dict()
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, mask)
    assert facts["busy"]
    assert facts["processor_share"] < 0.6
    assert facts["involuntary_switches"] > 0
