"""The data sets of the registry: each from files in its own form, its synthetic stand-in, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from rethink_fast import Corruption, Data, Model, Run, Session, Train, run
from rethink_fast.config import DatasetName
from rethink_fast.data import DATASETS, DataOptions, Dataset, InMemoryImages, download, load_dataset
from rethink_fast.data.registry import REGISTRY, SMALL_SETS, IdxFiles, SmallSet
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from tests.data.test_cifar10 import pack
from tests.data.test_cifar10 import write as write_cifar10
from tests.data.test_mnist import idx

IDX = [row for row in REGISTRY if row.reader == "idx"]
CIFAR100 = [row for row in REGISTRY if row.folder == "cifar100"]
N = 8


pytestmark = pytest.mark.usefixtures("nothing_around")


def opened(row: SmallSet, path: Any = "auto", **options: Any) -> Dataset:
    return load_dataset(row.name, DataOptions(str(path), **{"workers": 1, **options}))


def whole(dataset: Dataset, split: str = "train") -> tuple[np.ndarray, list[int]]:
    part = getattr(dataset, split)
    images, rows = next(part.images.read([part.index]))
    return images[rows].numpy(), part.labels.tolist()


def write_idx(row: SmallSet, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files; of each split the images as people see them, [n, 28, 28], and the classes, first and last too."""
    files = row.files
    assert isinstance(files, IdxFiles)
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    made = {}
    for k, split in enumerate(("train", "test")):
        images = generator.integers(0, 256, (N, 28, 28)).astype(np.uint8)
        classes = np.array([0, len(row.classes) - 1, *generator.integers(0, len(row.classes), N - 2)])
        stored = images.transpose(0, 2, 1) if row.folder == "emnist" else images
        labels = classes + (1 if row.name == "emnist-letters" else 0)
        (folder / files.names[2 * k]).write_bytes(idx(np.ascontiguousarray(stored)))
        (folder / files.names[2 * k + 1]).write_bytes(idx(labels))
        made[split] = images, classes
    return made


@pytest.mark.parametrize("row", IDX, ids=lambda row: row.name)
def test_the_idx_sets(row: SmallSet, tmp_path: Path) -> None:
    assert isinstance(row.files, IdxFiles)
    made = write_idx(row, tmp_path / row.files.below / "raw")
    dataset = opened(row, tmp_path)
    assert dataset.classes == row.classes
    assert dataset.data_source == f"{row.name} idx {tmp_path}/{row.files.below}/raw"
    for split, (images, classes) in made.items():
        read, labels = whole(dataset, split)
        np.testing.assert_array_equal(read[..., 0], images)
        assert labels == classes.tolist()


def test_the_names_of_emnist_are_those_of_its_files(tmp_path: Path) -> None:
    """As gzip.zip has them, where one folder serves six data sets."""
    for row in IDX:
        if row.folder == "emnist":
            split = row.name.removeprefix("emnist-")
            assert isinstance(row.files, IdxFiles)
            assert row.files.names[0] == f"emnist-{split}-train-images-idx3-ubyte"
            assert row.files.names[3] == f"emnist-{split}-test-labels-idx1-ubyte"
            write_idx(row, tmp_path / row.name)
            for file in (tmp_path / row.name).iterdir():
                target = tmp_path / "cache" / "rethink_fast" / "emnist" / "gzip" / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
    for row in IDX:
        if row.folder == "emnist":
            assert opened(row).data_source == f"{row.name} idx {tmp_path}/cache/rethink_fast/emnist/gzip"
    sizes = [(len(SMALL_SETS[f"emnist-{split}"].classes)) for split in ("balanced", "byclass", "letters", "digits")]
    assert sizes == [47, 62, 26, 10]


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("emnist-letters", 0, "the label 0, and EMNIST letters has the classes 1 ... 26"),
        ("emnist-letters", 27, "the label 27, and EMNIST letters"),
        ("emnist-balanced", 47, "the label 47, and EMNIST balanced has the classes 0 ... 46"),
        ("fashion-mnist", 10, "the label 10, and Fashion-MNIST has the classes 0 ... 9"),
    ],
)
def test_labels_outside_the_classes(name: str, label: int, message: str, tmp_path: Path) -> None:
    row = SMALL_SETS[name]
    assert isinstance(row.files, IdxFiles)
    write_idx(row, tmp_path / "files")
    (tmp_path / "files" / row.files.names[1]).write_bytes(idx(np.array([1] * (N - 1) + [label])))
    with pytest.raises(UserError, match=f"train-labels-idx1-ubyte has {message}"):
        opened(row, tmp_path / "files")


def test_files_of_another_set_are_not_found(tmp_path: Path) -> None:
    write_idx(SMALL_SETS["emnist-digits"], tmp_path / "files")
    for name, wanted in (("emnist-letters", "emnist-letters-train-images-idx3-ubyte"), ("kmnist", "KMNIST/raw")):
        with pytest.raises(UserError, match=f"holds no .*{wanted}"):
            opened(SMALL_SETS[name], tmp_path / "files")


def cifar100(root: Path, form: str) -> tuple[np.ndarray, dict[str, list[int]]]:
    """CIFAR-100 in one of its forms; its training images [N, 32, 32, 3] and their labels."""
    generator = np.random.default_rng(0)
    folder = root / f"cifar-100-{form}"
    folder.mkdir(parents=True)
    kept: Any = None
    for name in ("train", "test"):
        images = generator.integers(0, 256, (N, 3, 32, 32)).astype(np.uint8)
        fine, coarse = generator.integers(0, 100, N).tolist(), generator.integers(0, 20, N).tolist()
        fine[:2], coarse[:2] = [0, 99], [19, 0]
        fields = {b"data": images.reshape(N, -1), b"fine_labels": fine, b"coarse_labels": coarse}
        records = (bytes([c, f]) + image.tobytes() for c, f, image in zip(coarse, fine, images, strict=True))
        (folder / (name if form == "python" else name + ".bin")).write_bytes(
            pickle.dumps(fields) if form == "python" else b"".join(records)
        )
        kept = kept or (images.transpose(0, 2, 3, 1), {"cifar100": fine, "cifar100-coarse": coarse})
    (folder / ("meta" if form == "python" else "fine_label_names.txt")).write_text("names")
    return kept[0], kept[1]


@pytest.mark.parametrize("row", CIFAR100, ids=lambda row: row.name)
@pytest.mark.parametrize("form", ["python", "binary"])
def test_cifar100_in_both_forms_and_a_tar(row: SmallSet, form: str, tmp_path: Path) -> None:
    images, labels = cifar100(tmp_path / "files", form)
    (tmp_path / "tar").mkdir()
    archive = pack(tmp_path / "tar" / f"cifar-100-{form}.tar.gz", tmp_path / "files" / f"cifar-100-{form}")
    for path in (tmp_path / "files", tmp_path / "files" / f"cifar-100-{form}", archive, archive.parent):
        dataset = opened(row, path)
        assert dataset.classes == row.classes
        assert dataset.notes == ()
        assert dataset.data_source.startswith(f"{row.name} {form} {path}")
        read, found = whole(dataset)
        np.testing.assert_array_equal(read, images)
        assert found == labels[row.name]


def test_cifar10_is_not_cifar100(tmp_path: Path) -> None:
    cifar100(tmp_path / "100", "python")
    cifar100(tmp_path / "100", "binary")
    write_cifar10(tmp_path / "10", "python 2")
    for stem, wrong, message in (
        ("train", tmp_path / "10/cifar-10-batches-py/data_batch_1", r"damaged or no CIFAR-100 batch \('fine_labels'\)"),
        ("train.bin", tmp_path / "record", r"no CIFAR-100 batch .*records of 3074 \(they are records of CIFAR-10\)"),
    ):
        (tmp_path / "record").write_bytes(bytes(3073 * 4))
        folder = tmp_path / "100" / ("cifar-100-binary" if stem.endswith("bin") else "cifar-100-python")
        (folder / stem).write_bytes(wrong.read_bytes())
        with pytest.raises(UserError, match=message):
            opened(SMALL_SETS["cifar100"], folder)
    with pytest.raises(UserError, match="looked for CIFAR-100 batches"):
        opened(SMALL_SETS["cifar100"], tmp_path / "10")
    with pytest.raises(UserError, match="no coarse labels: name the batches, or open it as cifar100"):
        opened(SMALL_SETS["cifar100-coarse"], tmp_path / "10")


def test_labels_outside_cifar100(tmp_path: Path) -> None:
    cifar100(tmp_path, "binary")
    file = tmp_path / "cifar-100-binary" / "train.bin"
    file.write_bytes(bytes([20, 100]) + file.read_bytes()[2:])
    messages = ("outside 0 ... 99 .the first is 100", "outside 0 ... 19 .the first is 20")
    for row, message in zip(CIFAR100, messages, strict=True):
        with pytest.raises(UserError, match=f"train.bin has labels {message}"):
            opened(row, tmp_path)


@pytest.mark.parametrize("row", REGISTRY, ids=lambda row: row.name)
def test_every_row(row: SmallSet) -> None:
    """Its stand-in has its sizes and is said to be one, and a run of it has defaults."""
    made = opened(row, max_samples=20)
    edge, channels = (28, 1) if row.reader == "idx" else (32, 3)
    assert made.train.images.shape == (edge, edge, channels)
    assert made.num_classes == len(row.classes) == len(set(row.classes))
    assert made.test is not None
    assert (len(made.train.labels), len(made.test.labels)) == (row.train, row.test)
    assert isinstance(made.train.images, InMemoryImages)
    assert int(made.train.labels.max()) == made.num_classes - 1
    assert f"no {row.name} found at data/{row.folder}," in made.notes[0]
    name: Any = row.name
    resolved = resolve(Run(name), on_gpu=False, cores=1)
    assert (resolved.model.model, resolved.data.size, resolved.train.batch_size) == (
        "mlp_1x512" if row.reader == "idx" else "inception_small",
        28,
        128,
    )


def test_the_names() -> None:
    assert get_args(DatasetName) == DATASETS


def test_what_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(download, "fetch_file", lambda url, path, md5, progress: fetched.append((url, path, md5)))
    cache = tmp_path / "cache" / "rethink_fast"
    assert download.fetch("cifar100") == download.fetch("cifar100-coarse") == cache / "cifar100"
    assert fetched[0] == fetched[1]
    assert fetched[0][1:] == (cache / "cifar100" / "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")
    fetched.clear()
    for name in ("fashion-mnist", "kmnist"):
        assert download.fetch(name) == cache / name
    assert [path.name for _, path, _ in fetched[:4]] == [f"{file}.gz" for file in SMALL_SETS["mnist"].files.names]  # type: ignore[union-attr]
    assert len({md5 for *_, md5 in fetched}) == 8
    with pytest.raises(UserError, match=rf"does not fetch emnist-letters, .*gzip\.zip of EMNIST into {cache}/emnist"):
        download.fetch("emnist-letters")


def test_a_run_counts_the_classes_of_its_data(tmp_path: Path) -> None:
    train = Train(epochs=1, device="cpu")
    for name, classes in (("emnist-balanced", 47), ("cifar100", 100)):
        run_of: Any = Run(name, Data("synthetic", max_samples=40), Corruption("random"), Model("mlp_1x512"), train)  # type: ignore[arg-type]
        record = run(run_of, session=Session(out=tmp_path / name))
        assert (record["dataset"], record["num_classes"]) == (name, classes)
        assert record["train_top5_accuracy"] is not None
