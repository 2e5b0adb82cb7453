"""The benchmark of the ways to images finds the images and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import bench_data


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes of two images in train/, and one of each held out."""
    for split, count in (("train", 2), ("val", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 30), (50 * number, 9, 9)).save(folder / f"{number}.jpg")
    return tmp_path


def test_the_training_files_are_those_below_train(photographs: Path) -> None:
    root, files = bench_data.training_files(photographs)
    assert root == photographs / "train"
    assert files == ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg"]


def test_the_parts_of_decoding_have_a_rate(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_data, "IMAGES", 4)
    rates = bench_data.parts_of_decoding(photographs, 16, 2, 1)
    assert list(rates) == ["feeding", "and decoding the whole", "or decoding the centre", "and resizing that"]
    assert all(rate["median"] > 0 for rate in rates.values())
