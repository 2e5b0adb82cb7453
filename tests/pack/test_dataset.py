"""A pack of a data set given in Python trains as the data set itself, bit for bit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import rethink_fast
from rethink_fast import Corruption, Data, Model, Record, Run, Session, Train, UserError, pack_dataset
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data.own import OwnData, load_own
from rethink_fast.data.pack_format import read_pack
from rethink_fast.data.pack_verify import verify
from tests.bench.helpers import cli, refused
from tests.data.test_own import Items
from tests.pack.helpers import contents, flip

GENERATOR = torch.Generator().manual_seed(0)
TRAIN = Train(epochs=2, batch_size=20, device="cpu")


def made(channels: int = 3, count: int = 60, size: tuple[int, int] = (12, 10), classes: Any = None) -> TensorDataset:
    images = torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=GENERATOR)
    dataset = TensorDataset(images, torch.arange(count) % 4)
    if classes is not None:
        dataset.classes = classes  # type: ignore[attr-defined]
    return dataset


def curves(folder: Path) -> list[list[Any]]:
    names = ("online_loss", "learning_rate", "train_loss", "train_accuracy", "test_accuracy")
    return [[row[name] for name in names] for row in Record.load(folder).metrics()]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_holds_what_the_data_set_gives(channels: int, workers: int, tmp_path: Path) -> None:
    """More than a shard of it, every byte under a checksum, whose flip is noticed."""
    train, test = made(channels, 2100, (3, 4)), made(channels, 7, (3, 4))
    pack = pack_dataset(train, tmp_path / "pack", test=test, workers=workers)
    assert verify(pack, workers=1, progress=None) == sum(
        (tmp_path / "pack" / file).stat().st_size for file in ("train.npy", "test.npy")
    )
    assert len(pack.train.parts) == 3
    for file, given in (("train", train), ("test", test)):
        stored = np.load(tmp_path / "pack" / f"{file}.npy")
        np.testing.assert_array_equal(stored, given.tensors[0].permute(0, 2, 3, 1).numpy())
    direct = load_own(OwnData(train, test), DataOptions(workers=1))
    opened = load_dataset("own", DataOptions(str(tmp_path / "pack"), size=3))
    assert (opened.name, opened.classes) == (direct.name, direct.classes)
    assert opened.test is not None and direct.test is not None  # noqa: PT018
    for ours, theirs in ((opened.train, direct.train), (opened.test, direct.test)):
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.index, theirs.index)
    flip(tmp_path / "pack" / "train.npy", 5000)
    with pytest.raises(UserError, match=r"train\.npy is damaged in bytes"):
        verify(read_pack(tmp_path / "pack"), workers=1, progress=None)


@pytest.mark.parametrize("corruption", ["random", "random-pixels", "gaussian"])
@pytest.mark.parametrize("channels", [1, 3])
def test_its_runs_are_those_of_the_data_set(corruption: Any, channels: int, tmp_path: Path) -> None:
    """Images that are not square, some of the samples, by the command line: curves, labels and weights."""
    train, test = made(channels), made(channels, 20)
    pack_dataset(train, tmp_path / "pack", test=test)
    run = Run("own", Data(max_samples=40), Corruption(corruption), Model("mlp_1x512"), TRAIN)
    rethink_fast.run(run, data=train, test=test, session=Session(out=tmp_path / "python"))
    words: list[str | Path] = [
        "bench",
        "own",
        "--data",
        tmp_path / "pack",
        "--max-samples",
        "40",
        "--corruption",
        corruption,
    ]
    words += ["--model", "mlp_1x512", "--epochs", "2", "--batch-size", "20", "--device", "cpu"]
    assert cli(*words, "--out", tmp_path / "pack-run") == 0
    assert curves(tmp_path / "pack-run") == curves(tmp_path / "python")
    ours, theirs = (Record.load(tmp_path / name) for name in ("pack-run", "python"))
    assert (ours.folder / "labels.npz").read_bytes() == (theirs.folder / "labels.npz").read_bytes()
    assert (ours["image_size"], ours["num_classes"], ours["n_test"]) == (10, 4, 20)
    weights = [record.load_model().state_dict() for record in (ours, theirs)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert cli("measure", tmp_path / "pack-run") == 0


def test_where_a_pack_of_ones_own_can_be_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pack_dataset(made(1, size=(12, 12), classes=list("abcd")), tmp_path / "pack", test=made(1, 20, (12, 12)))
    own: list[str | Path] = ["own", "--data", tmp_path / "pack"]
    assert cli("plan", *own, "--batch-size", "7", "--epochs", "1") == 0
    assert "1 epochs x 60 images" in capfd.readouterr().out
    assert cli("show", *own, "--out", tmp_path / "sheet.png") == 0
    assert cli("pack", "--verify", tmp_path / "pack") == 0
    models: list[str | Path] = [
        "--models",
        "12",
        "--epochs",
        "2",
        "--model",
        "mlp_1x512",
        "--device",
        "cpu",
        "--out",
        tmp_path / "m",
    ]
    assert cli("memorize", *own, *models) == 0
    assert cli("bench", "cifar10", *own[1:], "--size", "12", "--epochs", "1", "--out", tmp_path / "cifar") == 0
    assert "is a pack: open it as own" in refused(capfd, "bench", "mnist", *own[1:])
    (tmp_path / "folder" / "a").mkdir(parents=True)
    refusals: tuple[tuple[tuple[str | Path, ...], str], ...] = (
        (("bench", "own", "--data", tmp_path / "folder"), "folder is no pack: write one by rethink_fast.pack_dataset"),
        (("memorize", "own", "--data", tmp_path / "absent"), "absent is no pack"),
        (("bench", "own"), "own is your own, and there is none: name a pack of it by --data"),
        (("memorize", "own"), "there is none"),
        (("plan", "own"), "there is none"),
        (("show", "own"), "there is none"),
        (("bench", "own", "--data", "synthetic"), "there is none"),
        (("plan", "mnist", "--data", tmp_path / "pack"), "--data .*pack has no effect with mnist"),
    )
    for command, problem in refusals:
        assert re.search(problem, refused(capfd, *command)), command


def test_the_same_data_set_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whether all of it fits into memory or not, and over what a stopped call left."""
    train = made(2)
    pack_dataset(train, tmp_path / "a", workers=1)
    (tmp_path / "b.partial").mkdir()
    for name in ("train.npy", "test.npy", "pack.json"):
        (tmp_path / "b.partial" / name).write_bytes(b"left")
    pack_dataset(Items(lambda i: train[i], 60), tmp_path / "b", workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(data: Any, name: str = "pack", **more: Any) -> None:
        pack_dataset(data, tmp_path / name, workers=1, **more)

    (tmp_path / "there").mkdir()
    (tmp_path / "used.partial").mkdir()
    (tmp_path / "used.partial" / "plan.json").write_text("{}")
    (tmp_path / "file").touch()
    usage = shutil.disk_usage(tmp_path)
    for data, more, problem in (
        (made(), {"name": "there"}, "there exists already"),
        (made(), {"name": "used"}, r"used\.partial holds plan\.json: remove it"),
        (made(), {"name": "file/pack"}, r"cannot be written \(Not a directory\)"),
        (made(classes=["a", "b", "a", "c"]), {}, "has a class twice: give each class a different name"),
        (made(classes=["a", "", "b", "c"]), {}, "a class whose name is no text"),
        (Items(lambda i: (np.zeros((2, 2), np.float32), i % 2)), {}, "item 0: an image of float32 is not allowed"),
        (
            Items(lambda i: (np.zeros((2, 2 + i // 9), np.uint8), i % 2)),
            {},
            "item 9: the image has the shape 2 x 3 x 1",
        ),
        (made(), {"test": made(1)}, "test images have the shape"),
        (made(), {"name": ""}, "exists already"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            pack(data, **more)
        assert "\n" not in str(raised.value)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=60 * 360))
    with pytest.raises(UserError, match=r"needs 23,520 bytes and 21,600 are free"):
        pack(made())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["file", "there", "used.partial"]


def test_what_must_not_be_missed_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pack_dataset(made(), tmp_path / "pack")
    assert [record.getMessage() for record in caplog.records] == [
        "4 classes: the data set has no attribute classes, and its largest label is 3",
        "images of 12x10: the network takes a square of 10x10, by default the centre",
    ]


def test_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rethink_fast.terminal.PROGRESS_SECONDS", 0.0)
    pack_dataset(made(), tmp_path / "pack", progress=True)
    assert "packing images: 60 of 60" in capsys.readouterr().out
