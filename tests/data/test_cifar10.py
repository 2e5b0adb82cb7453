"""CIFAR-10 in all its forms, from folders and tars, and what is refused."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from rethink_fast.data import DataOptions, cifar10, unpickle
from rethink_fast.data.registry import CIFAR10, SMALL_SETS, CifarFiles
from rethink_fast.data.source import Dataset
from rethink_fast.errors import UserError

N = 4
BATCH_FILES = cast(CifarFiles, SMALL_SETS["cifar10"].files)
TRAIN, TEST = BATCH_FILES.train, BATCH_FILES.test
BATCHES = (*TRAIN, *TEST)


def opened(path: Path, **changes: Any) -> Dataset:
    return cifar10.load(path, DataOptions(**{"workers": 1, **changes}))


def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    """For each file N images uint8 [N, 3, 32, 32] and their labels."""
    generator = np.random.default_rng(0)
    return {
        name: (generator.integers(0, 256, (N, 3, 32, 32)).astype(np.uint8), generator.integers(0, 10, N).tolist())
        for name in BATCHES
    }


def python(images: np.ndarray, labels: list[int], protocol: int = 2, keys: type = bytes) -> bytes:
    fields = {"data": images.reshape(len(images), 3072), "labels": labels, "batch_label": "training batch 1 of 5"}
    content = {key.encode() if keys is bytes else key: value for key, value in fields.items()}
    return pickle.dumps(content, protocol)


def old_numpy(data: bytes) -> bytes:
    """The same pickle as NumPy 1 wrote it."""
    return data.replace(b"numpy._core.", b"numpy.core.")


def binary(images: np.ndarray, labels: list[int]) -> bytes:
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


FORMS: dict[str, tuple[str, str, Callable[..., bytes]]] = {
    "python 2": ("cifar-10-batches-py", "", python),
    "python str": ("cifar-10-batches-py", "", partial(python, protocol=4, keys=str)),
    "python 5": ("cifar-10-batches-py", "", partial(python, protocol=5)),
    "old numpy": ("cifar-10-batches-py", "", lambda images, labels: old_numpy(python(images, labels))),
    "binary": ("cifar-10-batches-bin", ".bin", binary),
}


def write(root: Path, form: str = "binary") -> Path:
    folder, ending, make = FORMS[form]
    (root / folder).mkdir(parents=True)
    for name, (images, labels) in batches().items():
        (root / folder / (name + ending)).write_bytes(make(images, labels))
    return root / folder


def pack(path: Path, folder: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return path


def check(made: Dataset) -> None:
    assert made.test is not None
    assert made.classes == CIFAR10
    content = batches()
    for split, names in ((made.train, TRAIN), (made.test, TEST)):
        images = np.concatenate([content[name][0] for name in names]).transpose(0, 2, 3, 1)
        (read, rows), *_ = split.images.read([split.index])
        np.testing.assert_array_equal(read[rows], images)
        assert split.labels.tolist() == [label for name in names for label in content[name][1]]


@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str) -> None:
    folder = write(tmp_path, form)
    assert opened(folder).data_source == f"cifar10 {form.split()[0].replace('old', 'python')} {folder}"
    check(opened(folder))
    check(opened(tmp_path))


@pytest.mark.parametrize("form", ["python 2", "binary"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(tmp_path: Path, form: str, mode: str) -> None:
    check(opened(pack(tmp_path / "cifar", write(tmp_path / "unpacked", form), mode)))
    kind = "python" if "python" in form else "binary"
    pack(tmp_path / f"cifar-10-{kind}.tar.gz", tmp_path / "unpacked" / FORMS[form][0])
    made = opened(tmp_path)
    check(made)
    assert made.data_source == f"cifar10 {kind} {tmp_path}/cifar-10-{kind}.tar.gz"


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_cannot_run_code(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    evil = pickle.dumps({b"data": Evil(marker), b"labels": []}, protocol)
    pickle.loads(evil)[b"data"].close()
    assert marker.exists(), "the pickle is harmless: the test shows nothing"
    marker.unlink()
    folder = write(tmp_path, "python 2")
    (folder / "data_batch_3").write_bytes(evil)
    with pytest.raises(UserError, match=r"data_batch_3 is damaged or no CIFAR-10 batch \(it asks for \w+\.open"):
        opened(folder)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile"])
def test_the_unpickler_refuses_all_but_arrays(name: str) -> None:
    module, function = name.rsplit(".", 1)
    with pytest.raises(ValueError, match=f"it asks for {name}"):
        unpickle.loads(f"c{module}\n{function}\n.".encode())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("data_batch_2", lambda data: data[: len(data) // 2], "damaged"),
        ("test_batch", lambda data: b"", "damaged"),
        ("data_batch_5", lambda data: pickle.dumps([1, 2]), "damaged or no CIFAR-10 batch"),
        ("data_batch_5", lambda data: pickle.dumps({"labels": []}), "damaged or no CIFAR-10 batch \\('data'\\)"),
        ("data_batch_1", lambda data: pickle.dumps({"data": np.zeros((2, 3)), "labels": [1, 2]}), "must be uint8"),
        ("data_batch_1", lambda data: python(np.zeros((1, 3072), np.uint8), [10]), "labels outside 0 ... 9"),
        ("data_batch_1", lambda data: python(np.zeros((0, 3072), np.uint8), [], 4), "has no images"),
    ],
)
def test_a_damaged_pickle_is_named(tmp_path: Path, name: str, damage: Callable[[bytes], bytes], message: str) -> None:
    file = write(tmp_path, "python 2") / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        opened(tmp_path)


def test_a_damaged_binary_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    file = folder / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_4\.bin is truncated"):
        opened(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"has no data_batch_4\.bin"):
        opened(tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_truncated_tar_is_named(tmp_path: Path, mode: str, share: float) -> None:
    path = pack(tmp_path / "cifar.tar", write(tmp_path), mode)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cifar\.tar is no tar archive, or a (truncated|damaged) one"):
        opened(path)


def test_a_tar_cut_between_members_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "cifar.tar", write(tmp_path), "w")
    with tarfile.open(path) as archive:
        third = archive.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:third])
    with pytest.raises(UserError, match="truncated"):
        opened(path)


def test_a_folder_without_it(tmp_path: Path) -> None:
    (tmp_path / "something.txt").write_text("")
    with pytest.raises(
        UserError, match=r"holds no images: looked for CIFAR-10 batches, train/CLASS.*found: 1 file of other types"
    ):
        opened(tmp_path)
    with pytest.raises(UserError, match="holds no images: looked for CIFAR-10 batches, train/CLASS"):
        opened(pack(tmp_path / "other.tar", tmp_path / "something.txt"))


def test_limit(tmp_path: Path) -> None:
    write(tmp_path)
    made = opened(tmp_path, max_samples=3)
    assert made.test is not None
    assert (len(made.train.index), len(made.test.index), len(made.train.labels)) == (3, 3, 5 * N)


def image(path: Path, value: int, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def class_folders(root: Path) -> None:
    """Greys 0, 10, ... in the sorted order of the paths, cats before dogs."""
    for k, name in enumerate(("train/cat/10.jpg", "train/cat/9.JPEG", "train/dog/1.png", "test/cat/1.jpg")):
        image(root / name, 10 * k)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_class_folders(tmp_path: Path, packed: bool) -> None:
    root = tmp_path / "small"
    class_folders(root)
    (root / "train" / "cat" / "._10.jpg").write_bytes(b"no image")
    path = pack(tmp_path / "small.tar.xz", root, "w:xz") if packed else root
    made = opened(path)
    assert made.data_source == f"jpeg {'tar' if packed else 'folder'} {path}"
    assert made.classes == ("cat", "dog")
    assert made.train.labels.tolist() == [0, 0, 1]
    assert made.test is not None
    assert made.test.labels.tolist() == [0]
    assert made.train.images.shape == (6, 8, 3)
    (images, rows), *_ = made.train.images.read([torch.tensor([2, 0])])
    assert images[rows][:, 0, 0].tolist() == [[20] * 3, [0] * 3]
    limited = opened(path, max_samples=1)
    assert len(limited.train.labels) == 3
    (images, rows), *_ = limited.train.images.read([limited.train.index])
    assert images.shape == (1, 6, 8, 3)
    assert images[rows][0, 0, 0, 0] == 10 * limited.train.index[0]


def test_folders_of_png_are_named_so(tmp_path: Path) -> None:
    """Those keep the official pixels, which JPEG files do not."""
    image(tmp_path / "train" / "cat" / "1.png", 0)
    image(tmp_path / "train" / "dog" / "1.PNG", 0)
    assert opened(tmp_path).data_source == f"png folder {tmp_path}"


def test_class_folders_without_test_images(tmp_path: Path) -> None:
    image(tmp_path / "train" / "cat" / "1.jpg", 0)
    image(tmp_path / "train" / "dog" / "1.jpg", 0)
    made = opened(tmp_path)
    assert made.test is None
    assert "no test accuracy" in made.notes[0]
    image(tmp_path / "test" / "bird" / "1.jpg", 0)
    with pytest.raises(UserError, match="test/bird is a class that the training images do not have"):
        opened(tmp_path)


def test_mixed_sizes_name_two_files(tmp_path: Path) -> None:
    class_folders(tmp_path)
    image(tmp_path / "train" / "dog" / "1.png", 0, (8, 7))
    with pytest.raises(UserError, match=r"cat/10\.jpg is 8x6 pixels and .*dog/1\.png is 8x7 pixels: make all images"):
        opened(tmp_path)
    image(tmp_path / "train" / "dog" / "1.png", 0)
    image(tmp_path / "test" / "cat" / "1.jpg", 0, (9, 6))
    with pytest.raises(UserError, match="has test images of 9x6 pixels and training images of 8x6 pixels"):
        opened(tmp_path)


def test_damaged_images(tmp_path: Path) -> None:
    class_folders(tmp_path)
    whole = (tmp_path / "train" / "cat" / "10.jpg").read_bytes()
    (tmp_path / "train" / "cat" / "10.jpg").write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])
    with pytest.raises(UserError, match=r"cat/10\.jpg is damaged \(corrupt: .*\): restore the file, or skip such"):
        opened(tmp_path)
    (tmp_path / "train" / "cat" / "9.JPEG").write_bytes(whole[:-2])
    made = opened(tmp_path, on_decode_error="skip")
    assert made.train.index.tolist() == [2]
    assert [reason.split()[0] for _, reason in made.train.damaged] == ["corrupt:", "truncated"]
    (images, rows), *_ = made.train.images.read([made.train.index])
    assert images[rows][:, 0, 0, 0].tolist() == [20]


@pytest.mark.slow
def test_the_real_tar(shared_data: Path) -> None:
    path = shared_data / "cifar10-jpeg.tar.xz"
    told: list[tuple[str, int, int]] = []
    made = opened(path, workers=2, progress=lambda *what: told.append(what))
    assert made.classes == CIFAR10
    assert torch.bincount(made.train.labels).tolist() == [5000] * 10
    assert made.test is not None
    assert torch.bincount(made.test.labels).tolist() == [1000] * 10
    assert told[-1] == ("decoding images", 10_000, 10_000)
    (images, rows), *_ = made.train.images.read([torch.tensor([12_345])])
    with tarfile.open(path) as archive:
        # Two whole classes precede it: sample 12345 is the 2346th bird.
        wanted = next(member for member in archive if member.name == "train/bird/2345.jpg")
        file = archive.extractfile(wanted)
        assert file is not None
        expected = np.asarray(Image.open(io.BytesIO(file.read())))
    np.testing.assert_array_equal(images[rows][0], expected)
