"""ImageNet folders: layouts, ground truths, the index, damaged files and the memory of the check."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rethink_fast.data import DataOptions, damaged, imagenet
from rethink_fast.data.source import Dataset, Split
from rethink_fast.errors import UserError

pytest.importorskip("nvidia.dali")

WNIDS = ("n01440764", "n01443537", "n02084071")
FLAT = tuple(f"ILSVRC2012_val_{k:08}.JPEG" for k in range(1, 6))
FLAT_CLASSES = (2, 0, 1, 1, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rethink_fast" / "checked"


def photograph(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (value, value, value)).save(path, "JPEG")


def train(root: Path) -> list[str]:
    """Seven images in three classes, written in no order; returns their sorted paths."""
    names = [f"{WNIDS[1]}/b.jpg", f"{WNIDS[0]}/z.JPEG", f"{WNIDS[2]}/a.Jpg", f"{WNIDS[0]}/a.PNG"]
    names += [f"{WNIDS[1]}/a10.jpeg", f"{WNIDS[1]}/a9.jpeg", f"{WNIDS[2]}/c.png"]
    for name in names:
        photograph(root / name, 30 * sorted(names).index(name))
    return sorted(names)


def flat(root: Path) -> Path:
    for k, name in enumerate(FLAT):
        photograph(root / name, 10 * k)
    return root


def opened(root: Path, **changes: Any) -> Dataset:
    return imagenet.load(root, DataOptions(**{"size": 14, "workers": 1, **changes}))


def grey_values(split: Split, index: torch.Tensor | None = None) -> list[int]:
    (images, rows), *_ = split.images.read([split.index if index is None else index])
    return images[rows][:, 5, 5, 0].tolist()


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / WNIDS[0] / "notes.txt").write_text("nor this")
    made = opened(tmp_path)
    assert made.classes == WNIDS
    assert made.test is None
    assert "no validation images" in made.notes[0]
    assert made.data_source == f"jpeg folder {tmp_path}"
    assert made.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert made.train.index.tolist() == list(range(7))
    assert grey_values(made.train) == [0, 30, 60, 90, 120, 150, 180]
    assert made.train.images.shape == (14, 14, 3)
    assert opened(tmp_path, crop_margin=True).train.images.shape == (16, 16, 3)


@pytest.mark.parametrize("base", ["", "ILSVRC/Data/CLS-LOC"])
def test_validation_by_class_folder(tmp_path: Path, base: str) -> None:
    train(tmp_path / base / "train")
    photograph(tmp_path / base / "val" / WNIDS[2] / "x.JPEG", 50)
    photograph(tmp_path / base / "val" / WNIDS[0] / "y.JPEG", 70)
    made = opened(tmp_path)
    assert made.test is not None
    assert made.test.labels.tolist() == [0, 2]
    assert grey_values(made.test) == [70, 50]
    photograph(tmp_path / base / "val" / "n99999999" / "y.JPEG", 70)
    with pytest.raises(UserError, match="n99999999 is a class that the training images do not have"):
        opened(tmp_path)


KAGGLE = "ImageId,PredictionString\n" + "".join(
    f"{name[:-5]},{WNIDS[c]} 1 2 3 4 {WNIDS[c]} 5 6 7 8 \n"
    for name, c in sorted(zip(FLAT, FLAT_CLASSES, strict=True), reverse=True)
)
TRUTHS = {
    "LOC_val_solution.csv": KAGGLE,
    "val.txt": "".join(f"{WNIDS[c]}\n" for c in FLAT_CLASSES),
    "val_labels.txt": "".join(f"{n} {WNIDS[c]}\n" for n, c in zip(FLAT[::-1], FLAT_CLASSES[::-1], strict=True)),
    "ground_truth.txt": "".join(f"{n} {c}\n" for n, c in zip(FLAT[::-1], FLAT_CLASSES[::-1], strict=True)),
}


@pytest.mark.parametrize("place", ["val", "."])
@pytest.mark.parametrize("name", TRUTHS)
def test_flat_validation(tmp_path: Path, name: str, place: str) -> None:
    train(tmp_path / "train")
    flat(tmp_path / "val")
    (tmp_path / place / name).write_text(TRUTHS[name])
    made = opened(tmp_path)
    assert made.test is not None
    assert tuple(made.test.labels.tolist()) == FLAT_CLASSES
    assert grey_values(made.test) == [0, 10, 20, 30, 40]


def test_flat_validation_with_the_devkit(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    import numpy as np

    train(tmp_path / "train")
    flat(tmp_path / "val")
    ids = {WNIDS[0]: 2, WNIDS[1]: 3, WNIDS[2]: 1}
    synsets = np.array([(k, w) for w, k in ids.items()], dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
    devkit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{ids[WNIDS[c]]}\n" for c in FLAT_CLASSES))
    with pytest.raises(UserError, match=r"meta\.mat"):
        opened(tmp_path)
    io.savemat(devkit / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    made = opened(tmp_path)
    assert made.test is not None
    assert tuple(made.test.labels.tolist()) == FLAT_CLASSES
    truth.write_text("4\n" * 5)
    with pytest.raises(UserError, match="do not fit together"):
        opened(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("scipy") is not None, reason="scipy is installed")
def test_the_devkit_without_scipy(tmp_path: Path) -> None:
    train(tmp_path / "train")
    flat(tmp_path / "val")
    (tmp_path / "val" / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n" * 5)
    (tmp_path / "val" / "meta.mat").write_bytes(b"")
    with pytest.raises(UserError, match="needs scipy: pip install scipy"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.txt", "", "no ground truth is there or above: add one of LOC_val_solution.csv"),
        ("val.txt", WNIDS[0] + "\n", "has 1 lines for 5 images"),
        ("val.txt", "n00000000\n" * 5, "the class n00000000, which is not among the 3 classes"),
        ("val.txt", "1\n" * 5, "the class 1, which is not among"),
        ("val.txt", "a b c\n" * 5, "write one column"),
        ("val.txt", f"{FLAT[0]} 1\n", f"does not name {FLAT[1]}"),
        ("val.txt", "".join(f"{n} 3\n" for n in FLAT), "the class 3, which is not among"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\nx\n", "write ImageId,PredictionString in each"),
    ],
)
def test_a_bad_ground_truth(tmp_path: Path, name: str, content: str, message: str) -> None:
    train(tmp_path / "train")
    (flat(tmp_path / "val") / name).write_text(content)
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("")
    with pytest.raises(UserError, match=r"holds no images: looked for train/CLASS/\*\.JPEG"):
        opened(tmp_path)
    train(tmp_path / "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="val holds no images"):
        opened(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    root = tmp_path / "images"
    names = train(root)
    (root / names[3]).write_bytes((root / names[3]).read_bytes()[:-100])
    (root / names[5]).write_bytes(b"")
    with pytest.raises(
        UserError, match=rf"{names[3]} is damaged \(truncated at byte \d+\), and 1 more.*--on-decode-error skip"
    ):
        opened(root)
    made = opened(root, on_decode_error="skip")
    cut = f"truncated at byte {os.stat(root / names[3]).st_size}"
    assert made.train.damaged == ((str(root / names[3]), cut), (str(root / names[5]), "empty"))
    assert made.train.index.tolist() == [0, 1, 2, 4, 6]
    assert made.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert grey_values(made.train) == [0, 30, 60, 120, 180]
    for name in names:
        (root / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"has 7 images, and none can be decoded; the first, .*, is damaged \(empty\)"):
        opened(root, on_decode_error="skip")


def test_the_check_is_remembered_until_a_file_changes(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "images"
    names = train(root)
    reported: list[tuple[str, int, int]] = []
    opened(root, progress=lambda *what: reported.append(what))
    assert reported == [("checking image files", 7, 7)]
    opened(root, progress=lambda *what: reported.append(what))
    assert len(reported) == 1
    assert len(list(cache.iterdir())) == 1
    stat = os.stat(root / names[2])
    os.utime(root / names[2], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    opened(root, progress=lambda *what: reported.append(what))
    assert len(reported) == 2
    stat = os.stat(root / names[2])
    (root / names[2]).write_bytes(b"")
    os.utime(root / names[2], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only the size tells
    with pytest.raises(UserError, match="damaged"):
        opened(root)
    with pytest.raises(UserError, match="damaged"):  # from the cache
        opened(root)


def test_the_check_goes_on_where_its_memory_cannot_be_used(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "images"
    train(root)
    opened(root)
    (remembered,) = cache.iterdir()
    remembered.write_text("{")
    opened(root)
    assert json.loads(remembered.read_text()) == {"damaged": []}
    remembered.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    opened(root)


def test_the_check_works_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = train(tmp_path)
    monkeypatch.setattr(damaged, "CHECKED_AT_ONCE", 3)
    (tmp_path / names[4]).write_bytes(b"broken")
    reported: list[int] = []
    made = opened(tmp_path, on_decode_error="skip", progress=lambda what, done, total: reported.append(done))
    assert reported == [3, 6, 7]
    assert made.train.index.tolist() == [0, 1, 2, 3, 5, 6]


def test_limit(tmp_path: Path) -> None:
    train(tmp_path / "train")
    (flat(tmp_path / "val") / "val.txt").write_text(TRUTHS["val.txt"])
    made, more = opened(tmp_path, max_samples=3), opened(tmp_path, max_samples=4)
    assert made.test is not None
    assert len(made.train.labels) == 7
    assert len(made.train.index) == len(made.test.index) == 3
    assert set(made.train.index.tolist()) < set(more.train.index.tolist())
    assert grey_values(made.train) == [30 * i for i in made.train.index.tolist()]


def test_the_real_sample(shared_data: Path) -> None:
    made = opened(shared_data / "imagenet-sample", size=96, workers=2)
    assert (made.num_classes, len(made.train.index), made.train.images.shape) == (200, 200, (96, 96, 3))
    assert made.train.labels.tolist() == list(range(200))
    assert made.train.damaged == ()
