"""load_dataset: where it looks, what it says, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.data import DataOptions, Dataset, load_dataset
from rethink_fast.errors import UserError
from tests.data.test_mnist import write


def opened(dataset: str, data: str, **changes: Any) -> Dataset:
    return load_dataset(dataset, DataOptions(data, **{"size": 75, "max_samples": 8, "workers": 1, **changes}))


pytestmark = pytest.mark.usefixtures("nothing_around")


def test_synthetic_is_never_silent(tmp_path: Path) -> None:
    made = opened("imagenet", "auto")
    assert made.data_source == "synthetic"
    assert made.notes == (
        f"no imagenet found at data/imagenet, {tmp_path}/cache/rethink_fast/imagenet: using the embedded synthetic "
        "set, 8 images of 75x75, 10 classes",
    )
    asked = opened("imagenet", "synthetic")
    assert asked.notes == ()
    assert asked.data_source == "synthetic"


def test_the_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETHINK_FAST_DATA", str(tmp_path / "named"))
    places = [tmp_path / "cache" / "rethink_fast", tmp_path / "here" / "data", tmp_path / "named"]
    (places[1] / "mnist").mkdir(parents=True)
    assert opened("mnist", "auto").data_source == "synthetic", "an empty folder is not a find"
    for place in places:
        write(place / "mnist")
        made = opened("mnist", "auto")
        assert made.data_source == f"mnist idx {place}/mnist"
        assert made.notes == ()


def test_sizes_of_imagenet() -> None:
    assert opened("imagenet", "synthetic").train.images.shape == (75, 75, 3)
    assert opened("imagenet", "synthetic", size=96).train.images.shape == (96, 96, 3)
    assert opened("imagenet", "synthetic", size=96, crop_margin=True).train.images.shape == (110, 110, 3)
    assert opened("cifar10", "synthetic", size=96, crop_margin=True).train.images.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("dataset", "data", "changes", "message"),
    [
        ("imagnet", "auto", {}, "dataset 'imagnet' is unknown.*Did you mean 'imagenet'"),
        (
            "mnist",
            "auto",
            {"on_decode_error": "ignore"},
            "on_decode_error 'ignore' is unknown: choose one of raise",
        ),
        ("mnist", "auto", {"max_samples": 0}, "max_samples 0 is out of range"),
        ("imagenet", "auto", {"size": 0}, "size 0 is out of range"),
        ("cifar10", "no/such", {}, "no/such does not exist"),
        ("cifar10", ".", {}, "is empty: name a folder or file of cifar10"),
        ("imagenet", "file", {}, "is a file, and imagenet is opened from a folder"),
        ("mnist", "file", {}, "is a file, and mnist is opened from a folder"),
        ("cifar10", "file", {}, "is no tar archive"),
        ("imagenet", "auto", {"download": True}, "register at"),
    ],
)
def test_refusals(tmp_path: Path, dataset: str, data: str, changes: dict, message: str) -> None:
    if data == "file":
        data = str(tmp_path / "file")
        Path(data).write_text("hello")
    with pytest.raises(UserError, match=message):
        opened(dataset, data, **changes)


def test_nothing_heavy_is_imported_until_it_is_needed() -> None:
    code = "import sys, rethink_fast.data; print([m for m in ('nvidia.dali', 'scipy', 'PIL') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path(__file__).parents[2]) == "[]\n"
