"""`rethink-fast show`: the pixels and labels of a sheet are those of a run, and the picture holds them unharmed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from rethink_fast.augment import random_flip
from rethink_fast.bench.console import ConsoleProgress
from rethink_fast.cli.app import main
from rethink_fast.cli.show import Sheet, sheet
from rethink_fast.cli.show_view import _Canvas, save
from rethink_fast.corruptions import KINDS, random_labels, random_pixels, shuffled_pixels
from rethink_fast.data import DataOptions, load_dataset

CPU = torch.device("cpu")


def made(dataset: str = "cifar10", corruption: tuple[str, ...] = ("all",), samples: int = 3, **changes) -> Sheet:
    options = {"data": "synthetic", "size": None, "augment": (), "seed": 4, "probability": None, **changes}
    return sheet(dataset, corruption, samples, **options, screen=ConsoleProgress(Console(file=io.StringIO())))


def stored(dataset: str, index: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    opened = load_dataset(dataset, DataOptions("synthetic", max_samples=500, workers=1))
    images, rows = next(opened.train.images.read([torch.tensor(index)]))
    return images[rows], opened.train.labels[torch.tensor(index)]


def test_every_row_is_its_corruption_of_the_same_samples() -> None:
    found = made()
    assert [row.kind for row in found.rows] == list(KINDS.values())
    index = torch.tensor(found.index)
    images, labels = stored("cifar10", found.index)
    crop = images[:, 2:30, 2:30]
    by_kind = {row.kind: row for row in found.rows}
    for kind in ("true_labels", "partially_corrupted_labels", "random_labels"):
        assert np.array_equal(by_kind[kind].inputs, crop.numpy())
    assert np.array_equal(by_kind["shuffled_pixels"].inputs, shuffled_pixels(crop, index, seed=4).numpy())
    assert np.array_equal(by_kind["random_pixels"].inputs, random_pixels(crop, index, seed=4).numpy())
    assert by_kind["gaussian"].inputs.std() > 30
    names = tuple(f"class {label}" for label in labels.tolist())
    drawn = random_labels(labels, index, num_classes=10, seed=4)
    for row in found.rows:
        assert row.before == names
        assert row.augmented is None
    assert by_kind["random_labels"].after == tuple(f"class {label}" for label in drawn.tolist())
    assert by_kind["random_labels"].after != names
    for kind in ("true_labels", "shuffled_pixels", "random_pixels", "gaussian"):
        assert by_kind[kind].after == names


def test_augmented_images_are_those_of_the_first_epoch() -> None:
    found = made(corruption=("random-pixels",), samples=8, augment=("flip",))
    (row,) = found.rows
    index = torch.tensor(found.index)
    flipped = random_flip(torch.from_numpy(row.inputs), index, seed=4, epoch=0)
    assert row.augmented is not None
    assert np.array_equal(row.augmented, flipped.numpy())
    assert not np.array_equal(row.augmented, row.inputs)


def test_samples_are_a_fixed_choice_that_grows() -> None:
    few, more = made(samples=2, corruption=("true",)), made(samples=5, corruption=("true",))
    assert set(few.index) < set(more.index)
    assert list(more.index) == sorted(more.index)


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
def test_the_picture_holds_every_pixel(tmp_path: Path, augment: tuple[str, ...]) -> None:
    found = made(augment=augment, samples=2)
    width, height = save(found, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (height, width, 3)
    canvas = _Canvas(found)
    for r, row in enumerate(found.rows):
        for which, images in enumerate((row.inputs, row.augmented) if augment else (row.inputs,)):
            for k in range(2):
                top, left, cell = canvas.top(r), canvas.left(k, which), canvas.cell
                block = pixels[top : top + cell, left : left + cell]
                assert np.array_equal(block[:: canvas.scale, :: canvas.scale], images[k])
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_the_picture_in_the_readme_is_of_this_program() -> None:
    """Its inputs to the bit. What is augmented was rounded from floats that a processor may round otherwise."""
    found = made("imagenet", size=40, augment=("random-resized-crop", "flip", "color-jitter"), seed=0)
    with Image.open(Path(__file__).parents[2] / "benchmarks/results/contact-sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    canvas = _Canvas(found)
    assert pixels.shape == canvas.pixels.shape
    for r, row in enumerate(found.rows):
        for k in range(3):
            for which, images in enumerate((row.inputs, row.augmented)):
                top, left, cell = canvas.top(r), canvas.left(k, which), canvas.cell
                block = pixels[top : top + cell : canvas.scale, left : left + cell : canvas.scale]
                assert np.abs(block.astype(int) - images[k]).max() <= which


def test_real_photographs_and_grey_digits(shared_data: Path) -> None:
    augment = ("random-resized-crop", "flip", "color-jitter")
    found = made(
        "imagenet", ("true", "gaussian"), 2, data=str(shared_data / "imagenet-sample"), size=64, augment=augment
    )
    assert found.rows[0].inputs.shape == (2, 64, 64, 3)
    assert all(name.startswith("n0") for name in found.rows[0].before)
    assert not np.array_equal(found.rows[0].inputs, found.rows[0].augmented)
    found = made("mnist", ("random",), 2, data=str(shared_data / "mnist"))
    assert found.rows[0].inputs.shape == (2, 28, 28, 1)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    out = tmp_path / "deep" / "sheet.png"
    with pytest.raises(SystemExit) as stopped:
        main(["show", "mnist", "--data", "synthetic", "-n", "2", "--corruption", "random", "--out", str(out)])
    assert stopped.value.code == 0
    assert "of synthetic" in capfd.readouterr().out
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "0"], "-n 0 is out of range"),
        (["-n", "13"], "-n 13 is out of range"),
        (["--out", "sheet.jpg"], "ends in .png"),
        (["--out", "/proc/sheet.png"], "cannot be written"),
        (["--corruption", "noise"], "noise"),
        (["--corruption", "random", "--probability", "0.5"], "no effect without --corruption partial"),
        (["--size", "64"], "larger than the images"),
        (["--data", "nowhere"], "does not exist"),
        (["--augment", "crop", "--size", "32"], "has no room"),
        (["--seed", "-1"], "out of range"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capfd: pytest.CaptureFixture) -> None:
    given = ["show", "cifar10", *([] if "--data" in words else ["--data", "synthetic"]), *words]
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.startswith("rethink-fast: ")
    assert error.count("\n") == 1
