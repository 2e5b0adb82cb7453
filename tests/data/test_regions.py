"""A resized crop on ImageNet: the source decodes the window alone, and what the pixels see before anything random."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rethink_fast import rng
from rethink_fast.augment import crop_windows
from rethink_fast.cli.app import main
from rethink_fast.config import Corruption, CorruptionName, Data, Model, Run, Train
from rethink_fast.corruptions import PIXEL_KINDS
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data.dali import decode
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.train.setup import build_run

CPU = torch.device("cpu")
pytest.importorskip("nvidia.dali")

SIZES = [(60, 80), (80, 60), (64, 64), (40, 200), (33, 47), (128, 96), (61, 61), (90, 70), (50, 50), (75, 100)]
SEED, EPOCH = 3, 7


def photograph(k: int) -> Image.Image:
    """Smooth colours with detail on them, of the k-th size."""
    height, width = SIZES[k]
    random = np.random.default_rng(k)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3)).astype(np.uint8)).resize((width, height))
    return Image.fromarray((np.asarray(coarse) * 0.8 + random.integers(0, 51, (height, width, 3))).astype(np.uint8))


def files(folder: Path) -> list[str]:
    """Ten images: 4:2:0 and 4:4:4, progressive, upright only by their EXIF data, grey, and one PNG."""
    how: list[dict] = [{"subsampling": 2}] * 4 + [{"subsampling": 0}, {"progressive": True}]
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90 degrees
    how += [{"exif": exif}, {"exif": exif, "subsampling": 2}]
    names = [f"{k}.jpg" for k in range(9)] + ["9.png"]
    for k, name in enumerate(names):
        image = photograph(k).convert("L") if k == 8 else photograph(k)
        image.save(folder / name, **({"quality": 90, **how[k]} if k < len(how) else {}))
    return names


def opened(folder: Path, names: list[str], size: int = 48, workers: int = 2) -> JpegImages:
    return JpegImages(ImageFiles(folder, names), DataOptions(size=size, workers=workers))


def crops(images: JpegImages, batches: list[torch.Tensor], epoch: int = EPOCH) -> dict[int, torch.Tensor]:
    made: dict[int, torch.Tensor] = {}
    for batch, (pixels, rows) in zip(batches, images.read_crops(batches, seed=SEED, epoch=epoch), strict=True):
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (len(batch), *images.shape)
        made |= dict(zip(batch.tolist(), pixels[rows], strict=True))
    return made


def cut_after_decoding(folder: Path, names: list[str], size: int) -> dict[int, torch.Tensor]:
    """The whole image decoded, its window stored as a PNG, and that read as a whole: the resize is the same."""
    made = {}
    for k, name in enumerate(names):
        (whole,) = decode([np.fromfile(folder / name, np.uint8)], workers=1)
        whole = whole[0]
        shape = (torch.tensor(whole.shape[0]), torch.tensor(whole.shape[1]))
        top, left, tall, wide = crop_windows(*shape, torch.tensor([k]), seed=SEED, epoch=EPOCH)[0].tolist()
        # Its margin of 12.5 % is cut off again by the central crop of a read: here it is all of it that is wanted.
        cut = Image.fromarray(whole[top : top + tall, left : left + wide].numpy())
        stored = io.BytesIO()
        cut.save(stored, "PNG")
        (folder / "cut.png").write_bytes(stored.getvalue())
        margin = JpegImages(
            ImageFiles(folder, ["cut.png"]), DataOptions(size=round(0.875 * size), crop_margin=True, workers=1)
        )
        assert margin.shape[0] == size
        ((pixels, _),) = margin.read([torch.tensor([0])])
        made[k] = pixels[0].clone()
    return made


def test_a_window_is_decoded_as_the_whole_image_is(tmp_path: Path) -> None:
    """To the bit: a JPEG's blocks are decoded one by one, and where their chroma is to be smoothed into the neighbours,
    libjpeg-turbo decodes the neighbours of the window too."""
    names = files(tmp_path)
    made = crops(opened(tmp_path, names), [torch.arange(10)])
    for k, expected in cut_after_decoding(tmp_path, names, 48).items():
        assert torch.equal(made[k], expected), names[k]


def test_real_photographs_are_decoded_alike(shared_data: Path, tmp_path: Path) -> None:
    for k, path in enumerate(sorted((shared_data / "imagenet-sample").glob("*/*"))[:24]):
        (tmp_path / f"{k:03}.jpg").symlink_to(path)
    names = sorted(path.name for path in tmp_path.iterdir())
    made = crops(opened(tmp_path, names, size=64), [torch.arange(24)])
    for k, expected in cut_after_decoding(tmp_path, names, 64).items():
        assert torch.equal(made[k], expected), names[k]


def test_crops_depend_on_no_batch_order_or_worker(tmp_path: Path) -> None:
    names = files(tmp_path)
    images = opened(tmp_path, names)
    first = crops(images, [torch.arange(10)])
    order = rng.order(1, 2, 10)
    for made in (crops(images, list(order.split(3))), crops(opened(tmp_path, names, workers=3), list(order.split(4)))):
        assert all(torch.equal(made[k], first[k]) for k in range(10))
    other = crops(images, [torch.arange(10)], epoch=EPOCH + 1)
    assert not any(torch.equal(other[k], first[k]) for k in range(10))
    whole = dict(enumerate(next(images.read([torch.arange(10)]))[0]))
    assert not any(torch.equal(whole[k], first[k]) for k in range(10))


def test_a_file_that_was_cut_short_since_is_named(tmp_path: Path) -> None:
    names = files(tmp_path)
    (tmp_path / names[3]).write_bytes((tmp_path / names[3]).read_bytes()[:20])
    with pytest.raises(UserError, match=r"3\.jpg can no longer be decoded \(truncated at byte 20\)"):
        crops(opened(tmp_path, names), [torch.arange(10)])


def test_a_crop_read_may_be_left_and_begun_again(tmp_path: Path) -> None:
    images = opened(tmp_path, files(tmp_path))
    first = crops(images, [torch.arange(10)])
    for stop in (1, 2):
        reading = images.read_crops(list(torch.arange(10).split(2)), seed=SEED, epoch=EPOCH)
        for _ in range(stop):
            next(reading)
        again = crops(images, list(torch.arange(10).split(5)))
        assert all(torch.equal(again[k], first[k]) for k in range(10))


def image_tree(folder: Path) -> Path:
    """Two classes of five images."""
    for split in ("train", "val"):
        for k in range(10):
            path = folder / split / f"n{k % 2}" / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(k).save(path, quality=90)
    return folder


KINDS: list[tuple[CorruptionName, bool]] = [
    ("true", True),
    ("random", True),
    ("shuffled-pixels", False),
    ("random-pixels", False),
    ("gaussian", False),
]


@pytest.mark.parametrize(("corruption", "from_the_file"), KINDS)
def test_pixels_are_corrupted_before_anything_random(
    tmp_path: Path, corruption: CorruptionName, from_the_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where labels alone are corrupted the source gives the windows; where pixels are, the whole fixed crop, and the
    window is cut out of the corrupted input: the very input of the run without augmentation."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = image_tree(tmp_path / "set")
    run = Run("imagenet", Data(str(tree), size=32), Corruption(corruption), Model("mlp_1x512"), Train(batch_size=5))
    plain = resolve(run, on_gpu=False, cores=1)
    augmented = replace(plain, train=replace(plain.train, augment=("random-resized-crop", "flip", "color-jitter")))
    dataset = load_dataset("imagenet", DataOptions(str(tree), size=32, random_windows=from_the_file, workers=1))
    loader, without = build_run(augmented, dataset, CPU).train, build_run(plain, dataset, CPU).train
    assert loader.crops == from_the_file
    assert loader.preprocessing.random_resized_crop != from_the_file
    batch, fixed = next(loader.epoch(0)), next(without.epoch(0))
    assert torch.equal(batch.index, fixed.index)
    assert torch.equal(batch.images, fixed.images) != from_the_file
    assert not torch.equal(loader.preprocess(batch, 0).inputs, without.preprocess(fixed, 0).inputs)
    assert loader.preprocessing.corruption == ("" if from_the_file else corruption.replace("-", "_"))
    assert (loader.preprocessing.corruption in PIXEL_KINDS) != from_the_file
    swept, plainly = next(loader.eval_batches()), next(without.eval_batches())
    assert torch.equal(loader.preprocess(swept, None).inputs, without.preprocess(plainly, None).inputs)


@pytest.mark.parametrize("corruption", ["random", "random-pixels"])
def test_a_run_with_all_of_it(tmp_path: Path, corruption: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["bench", "imagenet", "--data", str(image_tree(tmp_path / "set")), "--corruption", corruption]
    words += ["--model", "mlp_1x512", "--size", "32", "--epochs", "2", "--device", "cpu", "--batch-size", "4"]
    words += [
        "--augment",
        "random-resized-crop",
        "--augment",
        "flip",
        "--augment",
        "color-jitter",
        "--out",
        str(tmp_path / "run"),
    ]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar10", "--augment", "crop", "--augment", "random-resized-crop"], "both cut a window"),
        (["mnist", "--augment", "color-jitter"], "have 1 channel"),
        (["cifar10", "--augment", "colours"], "color-jitter"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words, "--data", "synthetic", "--max-samples", "8", "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert said in error
    assert not (tmp_path / "run").exists()
