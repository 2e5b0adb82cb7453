"""`make baselines`: every baseline that is installed gives what it says, and those that are not are named."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import baselines
from benchmarks.baselines import BASELINES, OURS, LoaderBaseline, cells, interleaved, loading, markdown, per_core
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.env import version_of

IMAGES = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(256) % 10


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_a_baseline_gives_whole_batches(baseline: LoaderBaseline) -> None:
    if baseline.package and version_of(baseline.package) is None:
        pytest.skip(f"{baseline.package} is not installed")
    try:
        batches = baseline.start(IMAGES, LABELS)
        assert list(itertools.islice(batches, 5)) == [128] * 5
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(str(error))


def test_the_absent_are_named_and_the_present_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(images: np.ndarray, labels: np.ndarray) -> Iterator[int]:
        raise ImportError("built for another torch")

    some = (BASELINES[0], LoaderBaseline("nothing", "no-such-package", broken), LoaderBaseline("broken", "", broken))
    monkeypatch.setattr(baselines, "BASELINES", some)
    source = load_dataset("cifar10", DataOptions("synthetic", max_samples=256, workers=1))
    rows, absent = loading(source, IMAGES, LABELS, 8, 0.02)
    assert absent == ["nothing: no-such-package is not installed", "broken: built for another torch"]
    assert [row.name for row in rows] == [OURS, f"PIL and a DataLoader (pillow {version_of('pillow')})"]
    # a batch at a time in C++ beside an image at a time in Python: by far more than noise
    assert rows[1].ours_over is not None
    assert rows[1].ours_over.low > 2


def test_ratios_are_of_neighbours() -> None:
    speeds = itertools.count(1)
    ours, theirs = interleaved({OURS: lambda: 10.0 * next(speeds), "other": lambda: 5.0}, 8)
    assert ours.ours_over is None
    assert theirs.images_per_second == 5.0
    assert theirs.ours_over is not None
    assert (round(theirs.ours_over.low), round(theirs.ours_over.high)) == (2, 16)
    assert cells(theirs) == ("other", "5", "8.9 (2.0 - 16.0)")
    assert markdown({"title": [ours, theirs]}, ["a note"]).splitlines()[0].startswith("| title | images/s |")


@pytest.mark.timing
def test_waiting_costs_no_processor_time() -> None:
    taken = 0

    def patient() -> Iterator[int]:
        nonlocal taken
        while True:
            time.sleep(0.01)
            sum(range(100_000))
            taken += 7
            yield 7

    start = time.perf_counter()
    rate = per_core(patient(), 0.03)
    assert rate > 2 * taken / (time.perf_counter() - start)
