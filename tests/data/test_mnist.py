"""MNIST: the real files, every form they come in, and every way they can be broken."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rethink_fast.data import DataOptions, InMemoryImages, mnist
from rethink_fast.data.registry import SMALL_SETS, IdxFiles
from rethink_fast.errors import UserError

CPU = torch.device("cpu")
MNIST = SMALL_SETS["mnist"].files
assert isinstance(MNIST, IdxFiles)
FILES = MNIST.names


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(folder: Path, *, train: int = 12, test: int = 5, zipped: bool = False, dotted: bool = False) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    arrays = {}
    for name in FILES:
        n = train if name.startswith("train") else test
        shape = (n, 28, 28) if "images" in name else (n,)
        arrays[name] = generator.integers(0, 10, shape).astype(np.uint8)
        stem = name.replace("-idx", ".idx") if dotted else name
        (folder / (stem + ".gz" * zipped)).write_bytes(
            gzip.compress(idx(arrays[name])) if zipped else idx(arrays[name])
        )
    return arrays


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("dotted", [False, True], ids=["dash", "dot"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_every_form(tmp_path: Path, zipped: bool, dotted: bool, below: str) -> None:
    arrays = write(tmp_path / below, zipped=zipped, dotted=dotted)
    made = mnist.load(tmp_path, DataOptions())
    assert made.num_classes == 10
    assert made.test is not None
    for split, prefix in ((made.train, "train"), (made.test, "t10k")):
        index = torch.tensor([3, 0, 4])
        images, rows = next(split.images.read([index]))
        assert images.dtype == torch.uint8
        assert split.images.shape == (28, 28, 1)
        np.testing.assert_array_equal(images[rows].squeeze(-1), arrays[f"{prefix}-images-idx3-ubyte"][index])
        np.testing.assert_array_equal(split.labels, arrays[f"{prefix}-labels-idx1-ubyte"])
        np.testing.assert_array_equal(split.index, np.arange(len(split.labels)))


def test_limit_keeps_the_index_space(tmp_path: Path) -> None:
    write(tmp_path)
    made = mnist.load(tmp_path, DataOptions(max_samples=4))
    assert made.test is not None
    assert len(made.train.labels) == 12
    assert len(made.train.index) == len(made.test.index) == 4
    assert set(mnist.load(tmp_path, DataOptions(max_samples=3)).train.index.tolist()) < set(made.train.index.tolist())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:3], "magic"),
        (lambda data: b"", "magic"),
        (lambda data: data + b"\0", "too long"),
        (lambda data: b"\0\0\x08\x01" + data[4:], "magic"),
        (lambda data: gzip.compress(data)[:-20], "damaged"),
        (lambda data: gzip.compress(data)[:40] + b"\xff" * 20 + gzip.compress(data)[60:], "damaged"),
    ],
    ids=["short", "header", "empty", "long", "magic", "short gz", "corrupt gz"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    write(tmp_path)
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"t10k-images-idx3-ubyte.*{message}"):
        mnist.load(tmp_path, DataOptions())


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(11)))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte has 11 labels for the 12 images"):
        mnist.load(tmp_path, DataOptions())
    labels.write_bytes(idx(np.full(12, 10)))
    with pytest.raises(UserError, match="has the label 10"):
        mnist.load(tmp_path, DataOptions())


def test_a_folder_without_it(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="holds no MNIST: put train-images-idx3-ubyte"):
        mnist.load(tmp_path, DataOptions())


def test_the_real_files(shared_data: Path) -> None:
    made = mnist.load(shared_data / "mnist", DataOptions())
    assert made.test is not None
    assert (len(made.train.index), len(made.test.index)) == (60_000, 10_000)
    assert isinstance(made.train.images, InMemoryImages)
    content = idx(made.train.images.images.squeeze(-1).numpy())
    assert hashlib.md5(content).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert torch.bincount(made.train.labels).tolist()[:3] == [5923, 6742, 5958]
