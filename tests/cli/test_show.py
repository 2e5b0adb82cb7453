"""`rethink-fast show`: the pixels and labels of a sheet are those of a run, and the picture holds them unharmed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from rethink_fast.augment import random_flip
from rethink_fast.bench.console import ConsoleProgress
from rethink_fast.cli.show import ShownName, corruptions, make_sheet
from rethink_fast.cli.show_view import Sheet, draw, save
from rethink_fast.config import AugmentName, Corruption, Data, DatasetName, Run, Train
from rethink_fast.corruptions import KINDS, random_labels, random_pixels, shuffled_pixels
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.plotting import drawing
from tests.bench.helpers import cli, refused


def sheet_of(
    dataset: DatasetName = "cifar10",
    names: tuple[ShownName, ...] = ("all",),
    samples: int = 3,
    *,
    data: str = "synthetic",
    size: int | None = None,
    augment: tuple[AugmentName, ...] = (),
    seed: int = 4,
) -> Sheet:
    run = Run(dataset, Data(data, size=size or 28), Corruption(seed=seed), train=Train(augment=augment))
    screen = ConsoleProgress(Console(file=io.StringIO()))
    return make_sheet(run, corruptions(names, None), samples, screen)


def stored(dataset: str, index: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    opened = load_dataset(dataset, DataOptions("synthetic", max_samples=500, workers=1))
    images, rows = next(iter(opened.train.images.read([torch.tensor(index)])))
    return images[rows], opened.train.labels[torch.tensor(index)]


def test_every_row_is_its_corruption_of_the_same_samples() -> None:
    sheet = sheet_of()
    assert [row.kind for row in sheet.rows] == list(KINDS.values())
    index = torch.tensor(sheet.index)
    images, labels = stored("cifar10", sheet.index)
    crop = images[:, 2:30, 2:30]
    by_kind = {row.kind: row for row in sheet.rows}
    for kind in ("true_labels", "partially_corrupted_labels", "random_labels"):
        assert np.array_equal(by_kind[kind].inputs, crop.numpy())
    assert np.array_equal(by_kind["shuffled_pixels"].inputs, shuffled_pixels(crop, index, seed=4).numpy())
    assert np.array_equal(by_kind["random_pixels"].inputs, random_pixels(crop, index, seed=4).numpy())
    assert by_kind["gaussian"].inputs.std() > 30
    names = tuple(f"class {label}" for label in labels.tolist())
    drawn = random_labels(labels, index, num_classes=10, seed=4)
    for row in sheet.rows:
        assert row.before == names
        assert row.augmented is None
    assert by_kind["random_labels"].after == tuple(f"class {label}" for label in drawn.tolist())
    assert by_kind["random_labels"].after != names
    for kind in ("true_labels", "shuffled_pixels", "random_pixels", "gaussian"):
        assert by_kind[kind].after == names


def test_augmented_images_are_those_of_the_first_epoch() -> None:
    sheet = sheet_of(names=("random-pixels",), samples=8, augment=("flip",))
    (row,) = sheet.rows
    flipped = random_flip(torch.from_numpy(row.inputs), torch.tensor(sheet.index), seed=4, epoch=0)
    assert row.augmented is not None
    assert np.array_equal(row.augmented, flipped.numpy())
    assert not np.array_equal(row.augmented, row.inputs)


def test_samples_are_a_fixed_choice_that_grows() -> None:
    few, more = sheet_of(samples=2, names=("true",)), sheet_of(samples=5, names=("true",))
    assert set(few.index) < set(more.index)
    assert list(more.index) == sorted(more.index)


def largest_differences(picture: Path, sheet: Sheet) -> dict[str, int]:
    """By heading, the most by which a pixel of an image differs in the picture from that in the sheet."""
    with Image.open(picture) as file:
        pixels = np.asarray(file.convert("RGB")).astype(int)
    with drawing():
        figure = draw(sheet)
    assert pixels.shape[1::-1] == figure.canvas.get_width_height()
    images = [
        (name, each[k]) for row in sheet.rows for k in range(len(sheet.index)) for name, each in row.images().items()
    ]
    differences: dict[str, int] = {}
    for axes, (name, image) in zip(figure.axes, images, strict=True):
        box, size = axes.get_window_extent(), image.shape[0]
        centres = (np.arange(size) + 0.5) * box.width / size
        rows, columns = (pixels.shape[0] - box.y1 + centres).astype(int), (box.x0 + centres).astype(int)
        difference = int(np.abs(pixels[np.ix_(rows, columns)] - image).max())
        differences[name] = max(difference, differences.get(name, 0))
    return differences


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
def test_the_picture_holds_every_pixel(tmp_path: Path, augment: tuple[AugmentName, ...]) -> None:
    sheet = sheet_of(augment=augment, samples=2)
    save(sheet, tmp_path / "sheet.png")
    assert largest_differences(tmp_path / "sheet.png", sheet) == {"input": 0, **({"augmented": 0} if augment else {})}
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_the_picture_in_the_readme_is_of_this_program() -> None:
    """Its inputs to the bit. What is augmented was rounded from floats that a processor may round otherwise."""
    sheet = sheet_of("imagenet", size=40, augment=("random-resized-crop", "flip", "color-jitter"), seed=0)
    picture = Path(__file__).parents[2] / "benchmarks/results/contact-sheet.png"
    differences = largest_differences(picture, sheet)
    assert differences["input"] == 0
    assert differences["augmented"] <= 1


def test_real_photographs_and_grey_digits(shared_data: Path, tmp_path: Path) -> None:
    augment: tuple[AugmentName, ...] = ("random-resized-crop", "flip", "color-jitter")
    data = str(shared_data / "imagenet-sample")
    sheet = sheet_of("imagenet", ("true", "gaussian"), 2, data=data, size=64, augment=augment)
    row = sheet.rows[0]
    assert row.inputs.shape == (2, 64, 64, 3)
    assert all(name.startswith("n0") for name in row.before)
    assert row.augmented is not None
    assert not np.array_equal(row.inputs, row.augmented)
    sheet = sheet_of("mnist", ("random",), 2, data=str(shared_data / "mnist"))
    assert sheet.rows[0].inputs.shape == (2, 28, 28, 1)
    save(sheet, tmp_path / "sheet.png")
    assert largest_differences(tmp_path / "sheet.png", sheet) == {"input": 0}


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "sheet.png"
    assert cli("show", "mnist", "--data", "synthetic", "-n", "2", "--corruption", "random", "--out", out) == 0
    with Image.open(out) as picture:
        assert f"of synthetic, {picture.width} x {picture.height} pixels" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_bad_input_is_one_line(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    given: list[Any] = ["show", "cifar10", *([] if "--data" in words else ["--data", "synthetic"]), *words]
    assert message in refused(capfd, *given)
