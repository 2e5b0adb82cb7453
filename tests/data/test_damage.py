"""IDX files, CIFAR-10 batches and pickles that are damaged, odd or hostile: the same data, or one line."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast.data import DataOptions, Dataset, cifar10, mnist, unpickle
from rethink_fast.errors import UserError
from tests.data.test_cifar10 import BATCH_FILES, BATCHES, old_numpy, opened
from tests.data.test_cifar10 import write as write_cifar10
from tests.data.test_mnist import FILES, idx
from tests.data.test_mnist import write as write_mnist

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES


def load_mnist(folder: Path) -> Dataset:
    return mnist.load(folder, DataOptions())


def everything(dataset: Dataset) -> list[torch.Tensor]:
    assert dataset.test is not None
    found = []
    for split in (dataset.train, dataset.test):
        ((images, rows),) = split.images.read([split.index])
        found += [images[rows], split.labels]
    return found


def line(load: Callable[[Path], Dataset], folder: Path) -> str | None:
    """The one line that a folder is refused with; None where it is read."""
    try:
        load(folder)
    except UserError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    assert len(said) < 700
    return said


def mutated(data: bytes, choose: random.Random) -> bytes:
    content = bytearray(data)
    kind = choose.randrange(6)
    place = choose.randrange(len(content))
    if kind == 0:
        content[place] = choose.randrange(256)
    elif kind == 1:
        content[choose.randrange(min(200, len(content)))] ^= 1 << choose.randrange(8)
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        content[place:place] = choose.randbytes(choose.randrange(1, 9))
    elif kind == 4:
        del content[place : place + choose.randrange(1, 9)]
    else:
        content[place : place + 8] = bytes([choose.choice([0, 0xFF])]) * 8
    return bytes(content)


# MNIST


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_mutated_idx_files(tmp_path: Path, zipped: bool) -> None:
    """A header that is changed is found; of changed pixels only the checksum of a gz can tell."""
    write_mnist(tmp_path, zipped=zipped)
    expected, choose = everything(load_mnist(tmp_path)), random.Random(0)
    read = 0
    for turn in range(300):
        file = tmp_path / (FILES[turn % 4] + ".gz" * zipped)
        whole = file.read_bytes()
        new = mutated(whole, choose)
        header = whole[: 16 if "images" in file.name else 8]
        file.write_bytes(new)
        if line(load_mnist, tmp_path) is None:
            read += 1
            found = everything(load_mnist(tmp_path))
            assert [a.shape for a in found] == [b.shape for b in expected]
            assert all(map(torch.equal, found, expected)) or (not zipped and new.startswith(header))
        file.write_bytes(whole)
    assert read < 200


@pytest.mark.parametrize("shape", [(12, 32, 32), (12, 14, 56), (12, 27, 28), (12, 28, 29), (12, 1, 1), (0, 28, 28)])
@pytest.mark.parametrize("name", [IMAGES, TEST_IMAGES])
def test_images_of_another_size_are_refused(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx(np.zeros(shape)))
    (tmp_path / name.replace("images-idx3", "labels-idx1")).write_bytes(idx(np.zeros(shape[:1])))
    said = f"images of {shape[1]}x{shape[2]} pixels" if shape[0] else "no images"
    assert f"{name} has {said}" in str(line(load_mnist, tmp_path))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\0\0\x0d\x03" + bytes(12), "holds float32 of 3 dimensions where uint8 of 3 are needed"),
        (b"\0\0\x0c\x03" + bytes(12), "holds int32 of 3 dimensions"),
        (b"\0\0\x08\x04" + bytes(16), "holds uint8 of 4 dimensions"),
        (b"\x03\x08\0\0" + bytes(12), "magic number 0x00000803"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "promises 4294967295 x 4294967295 x 4294967295 bytes, too many"),
        (b"\0\0\x08\x03" + struct.pack(">III", 2**20, 28, 28), "truncated \\(0 bytes after its header, which promises"),
        (b"\0\0\x08\x03" + struct.pack("<III", 12, 28, 28), "too many for MNIST"),
        (b"<!DOCTYPE html>", "magic number"),
        (b"\x1f\x8b\x08", r"damaged \(gzip"),
        (b"PK\x03\x04" + bytes(30), "magic number"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_other_headers_are_named(tmp_path: Path, header: bytes, message: str, zipped: bool) -> None:
    write_mnist(tmp_path)
    (tmp_path / IMAGES).write_bytes(gzip.compress(header) if zipped else header)
    if zipped and header.startswith(b"\x1f\x8b"):
        message = "magic number"
    with pytest.raises(UserError, match=f"{IMAGES}.*{message}"):
        load_mnist(tmp_path)


def test_the_name_does_not_decide_whether_a_file_is_zipped(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    expected = everything(load_mnist(tmp_path))
    (tmp_path / IMAGES).rename(tmp_path / f"{IMAGES}.gz")
    (tmp_path / LABELS).write_bytes(gzip.compress((tmp_path / LABELS).read_bytes()))
    assert all(map(torch.equal, everything(load_mnist(tmp_path)), expected))


def test_the_folders_of_kaggle(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    expected = everything(load_mnist(tmp_path))
    for name in FILES:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(content)
    assert all(map(torch.equal, everything(load_mnist(tmp_path)), expected))


def separately(code: str, *words: str) -> str:
    """What a separate process says."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


PEAK = """
import resource, sys, torch
from pathlib import Path
from rethink_fast.data import DataOptions, cifar10, mnist
from rethink_fast.errors import UserError
for folder in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        if sys.argv[1] == "mnist":
            mnist.load(Path(folder), DataOptions())
        else:
            cifar10.load(Path(folder), DataOptions(workers=1))
    except UserError as error:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def test_a_gz_that_grows_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    write_mnist(tmp_path, zipped=True)
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as file:
        file.write(b"\0\0\x08\x03" + struct.pack(">III", 12, 28, 28))
        for _ in range(400):
            file.write(bytes(2**20))
    (tmp_path / f"{IMAGES}.gz").write_bytes(bomb.getvalue())
    kilobytes, _, message = separately(PEAK, "mnist", str(tmp_path)).partition(" ")
    assert f"{IMAGES}.gz is too long (more bytes after its header, which promises 9408" in message
    assert int(kilobytes) < 50_000


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "dangling link"])
def test_an_odd_file_is_named(tmp_path: Path, kind: str) -> None:
    for root, load, name in (
        (tmp_path / "mnist", load_mnist, LABELS),
        (tmp_path / "cifar10", opened, "cifar-10-batches-bin/data_batch_1.bin"),
        (tmp_path / "cifar10 test", opened, "cifar-10-batches-bin/test_batch.bin"),
    ):
        write_mnist(root) if load is load_mnist else write_cifar10(root)
        place = root / name
        place.unlink()
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to("/dev/zero" if kind == "device" else "/none")
        said = str(line(load, root))
        assert any(part in said for part in name.split("/"))


# CIFAR-10


N = 4
PIXELS = np.arange(N * 3072, dtype=np.uint32).astype(np.uint8).reshape(N, 3072)


def batch(**changes: Any) -> bytes:
    return pickle.dumps({"data": PIXELS, "labels": [1, 2, 3, 4], **changes}, 2)


STRANGE: dict[str, tuple[bytes, str]] = {
    "labels of CIFAR-100": (batch(fine_labels=[1], coarse_labels=[1]), "as CIFAR-100"),
    "labels 0.5": (batch(labels=[1, 2, 3, 0.5]), "its labels hold 0.5, no whole number"),
    "labels 3.0": (batch(labels=[1, 2, 3, 3.0]), "its labels hold 3.0"),
    "labels bool": (batch(labels=[1, 2, 3, True]), "its labels hold True"),
    "labels text": (batch(labels=["1", "2", "3", "4"]), "its labels hold '1'"),
    "labels None": (batch(labels=[1, 2, 3, None]), "its labels hold None"),
    "labels nested": (batch(labels=[[1], [2], [3], [4]]), r"its labels hold \[1\]"),
    "labels huge": (batch(labels=[1, 2, 3, 10**30]), "too large"),
    "labels negative": (batch(labels=[1, 2, 3, -1]), r"outside 0 ... 9 \(the first is -1\)"),
    "labels 10": (batch(labels=[1, 2, 3, 10]), "the first is 10"),
    "labels of floats": (batch(labels=np.ones(4)), "its labels are float64"),
    "labels one-hot": (batch(labels=np.eye(4, 10, dtype=np.int64)), r"int64 \(4, 10\)"),
    "labels uint64": (batch(labels=np.full(4, 2**64 - 1, np.uint64)), "outside 0"),
    "labels a dict": (batch(labels={}), "its labels are dict"),
    "labels fewer": (batch(labels=[1, 2, 3]), "must be uint8 of 3 x 3072"),
    "data float": (batch(data=PIXELS.astype(np.float32)), "must be uint8"),
    "data int8": (batch(data=PIXELS.view(np.int8)), "must be uint8"),
    "data transposed": (batch(data=PIXELS.T), "must be uint8"),
    "data of 4 dimensions": (batch(data=PIXELS.reshape(N, 3, 32, 32)), "must be uint8"),
    "data a list": (batch(data=PIXELS.tolist()), "must be uint8"),
    "data of objects": (batch(data=np.array([{}, []], object)), "holds an array of 'O8'"),
    "data of text": (batch(data=np.array(["a"])), "holds an array of"),
    "keys of numbers": (pickle.dumps({1: 2}), "'data'"),
    "keys that are no text": (pickle.dumps({b"\xff": 2}), "damaged"),
    "text": (pickle.dumps("x" * 1000), "no attribute"),
    "another encoder": (
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        "encodes text as 'hex'",
    ),
    "memory": (b"\x80\x02cnumpy\nndarray\nJ\x00\x00\x00\x40\x85R.", "not callable"),
    "uninitialised memory": (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x01M\x00\x0c\x86U\x01B\x87R"
        b"U\x06labels](K\x01eu.",
        "makes an array from something else",
    ),
    "a place of the memo": (b"\x80\x02]r" + struct.pack("<I", 2**26) + b".", "damaged|no CIFAR-10"),
    "a huge text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.", "damaged"),
    "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "damaged"),
    "a huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**30) + b"x.", "damaged"),
    "a huge number": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.", "damaged"),
    "deep": (b"\x80\x02" + b"](" * 10_000 + b"e" * 10_000 + b".", "no attribute"),
    "no end": (b"\x80\x02]q\x00", "damaged"),
}


@pytest.mark.parametrize("form", STRANGE)
def test_a_pickle_of_strange_content_is_refused(tmp_path: Path, form: str) -> None:
    content, message = STRANGE[form]
    folder = write_cifar10(tmp_path, "python 2")
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match=f"data_batch_3.*({message})") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_claims_memory_gets_none(tmp_path: Path) -> None:
    forms = ("memory", "a place of the memo", "a huge text", "huge bytes", "a huge bytearray", "a huge number")
    folders = [tmp_path / form for form in forms]
    for form, parent in zip(forms, folders, strict=True):
        parent.mkdir()
        (write_cifar10(parent, "python 2") / "data_batch_1").write_bytes(STRANGE[form][0])
    lines = separately(PEAK, "cifar10", *map(str, folders)).splitlines()
    for form, line in zip(forms, lines, strict=True):
        kilobytes, _, message = line.partition(" ")
        assert "data_batch_1" in message
        assert int(kilobytes) < 50_000, form


def test_a_pickle_cannot_change_dtypes_of_the_process() -> None:
    evil = b"\x80\x02cnumpy\ndtype\nU\x02i4\x89\x89\x87R(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
    assert unpickle.loads(evil) == np.dtype(">i4")
    assert np.dtype("i4").isnative
    assert np.array([1], "i4").tobytes() == b"\1\0\0\0"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "labels", [list, tuple, np.array, lambda x: np.array(x, np.uint8), lambda x: np.array(x, ">i8")]
)
def test_arrays_of_every_order_and_labels_of_every_integer(protocol: int, order: Any, labels: Any) -> None:
    made = pickle.dumps({"data": np.asarray(PIXELS, order=order), "labels": labels([1, 2, 3, 4])}, protocol)
    for content in (made, old_numpy(made)):
        if content is not made and protocol >= 4:
            continue  # its frames have lengths
        images, found = cifar10._python("x", content, "CIFAR-10", BATCH_FILES)
        assert images.is_contiguous()
        np.testing.assert_array_equal(images, PIXELS)
        assert found.tolist() == [1, 2, 3, 4]
        assert found.dtype == torch.int64


@pytest.mark.parametrize("form", ["python 2", "binary"])
def test_a_batch_that_is_there_twice_is_refused(tmp_path: Path, form: str) -> None:
    folder = write_cifar10(tmp_path, form)
    ending = ".bin" if form == "binary" else ""
    for name, other in (("data_batch_4", "data_batch_2"), ("test_batch", "data_batch_5")):
        kept = (folder / (name + ending)).read_bytes()
        (folder / (name + ending)).write_bytes((folder / (other + ending)).read_bytes())
        with pytest.raises(UserError, match=f"{name}.* has the images of {other}.*: replace the one that is wrong"):
            opened(tmp_path)
        (folder / (name + ending)).write_bytes(kept)


def test_records_of_cifar100_are_named(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_1.bin").write_bytes(bytes(3074 * 5))
    with pytest.raises(UserError, match=r"data_batch_1\.bin .*records of 3073 \(they are records of CIFAR-100\)"):
        opened(tmp_path)


@pytest.mark.parametrize("form", ["python 2", "python 5", "old numpy", "binary"])
def test_mutated_batches(tmp_path: Path, form: str) -> None:
    """What is around the pixels is right or refused; pixels and labels in range have no checksum."""
    folder = write_cifar10(tmp_path, form)
    expected, choose = everything(opened(tmp_path)), random.Random(3)
    read = 0
    for turn in range(200):
        file = folder / (BATCHES[turn % 6] + (".bin" if form == "binary" else ""))
        whole = file.read_bytes()
        new = mutated(whole, choose)
        file.write_bytes(new)
        if line(opened, tmp_path) is None:
            read += 1
            found = everything(opened(tmp_path))
            assert [(a.shape, a.dtype) for a in found] == [(b.shape, b.dtype) for b in expected]
            assert sum(int((a != b).sum()) for a, b in zip(found[1::2], expected[1::2], strict=True)) <= 9
            assert all(0 <= int(labels.min()) <= int(labels.max()) <= 9 for labels in found[1::2])
        file.write_bytes(whole)
    assert read < 190
