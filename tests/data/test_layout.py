"""Layouts that people have: what is read, with which labels, what is named as not used, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rethink_fast.data import DataOptions, cifar10, imagenet, layout, load_dataset, pack_images
from rethink_fast.data.tree import FolderTree
from rethink_fast.errors import UserError
from rethink_fast.pack import write

A, B, C = "n01440764", "n01443537", "n02084071"
OPTIONS = DataOptions(size=8, workers=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def make(root: Path, *names: str, text: str = "") -> Path:
    """Files of these names; a name that ends with / is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


def found(root: Path) -> layout.Layout:
    return layout.find(FolderTree(root))


def through(dataset: str) -> Callable[[Path], object]:
    return lambda root: load_dataset(dataset, replace(OPTIONS, path=str(root)))


OPEN: dict[str, Callable[[Path], object]] = {name: through(name) for name in ("imagenet", "cifar10", "mnist")}
OPEN["pack"] = lambda root: write.plan(root, root.with_name("pack"), format="jpeg", size=None)


def labelled(files: layout.Files) -> dict[str, int]:
    at, names, labels = files
    return {f"{at}/{name}": label for name, label in zip(names, labels.tolist(), strict=True)}


TRAIN = (f"train/{A}/1.JPEG", f"train/{A}/2.JPEG", f"train/{B}/1.JPEG")
CLASSES = {"train/n01440764/1.JPEG": 0, "train/n01440764/2.JPEG": 0, "train/n01443537/1.JPEG": 1}
FLAT_VAL = ("val/v_1.JPEG", "val/v_2.JPEG")
SOLUTION = f"ImageId,PredictionString\nv_2,{A} 1 2 3 4\nv_1,{B} 1 2 3 4\n"


@pytest.mark.parametrize(
    "base", ["", "ILSVRC2012", "imagenet/ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC", "imagenette2-160", "my data/set"]
)
def test_the_base_is_found_below(tmp_path: Path, base: str) -> None:
    make(tmp_path / base, *TRAIN, *FLAT_VAL)
    make(tmp_path, "LOC_val_solution.csv", text=SOLUTION)
    if "CLS-LOC" in base:
        make(tmp_path / base / "../..", "Annotations/CLS-LOC/train/n01440764/1.xml", "ImageSets/CLS-LOC/train_cls.txt")
    made = found(tmp_path)
    prefix = f"{base}/" if base else ""
    assert made.classes == (A, B)
    assert labelled(made.train) == {prefix + name: label for name, label in CLASSES.items()}
    assert made.test is not None
    assert labelled(made.test) == {f"{prefix}val/v_1.JPEG": 1, f"{prefix}val/v_2.JPEG": 0}
    assert made.notes == () if "CLS-LOC" not in base else "2 files of other types (.txt, .xml; first: " in made.notes[0]


@pytest.mark.parametrize(
    "names", [("training", "validation"), ("Train", "Valid"), ("TRAIN", "test"), ("train", "Testing")]
)
def test_other_names_of_the_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    train, test = names
    make(tmp_path, f"{train}/cat/1.png", f"{train}/dog/1.png", f"{test}/dog/2.png")
    made = found(tmp_path)
    assert labelled(made.train) == {f"{train}/cat/1.png": 0, f"{train}/dog/1.png": 1}
    assert made.test is not None
    assert labelled(made.test) == {f"{test}/dog/2.png": 1}


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    make(root, *(f"train/{w}/images/{w}_{k}.JPEG" for w in (B, A) for k in range(2)), "test/images/test_0.JPEG")
    make(root, f"train/{A}/{A}_boxes.txt", f"train/{B}/{B}_boxes.txt", "wnids.txt", "words.txt")
    make(root, "val/images/val_0.JPEG", "val/images/val_1.JPEG")
    (root / "val/val_annotations.txt").write_text(f"val_1.JPEG\t{A}\t0\t32\t44\t62\nval_0.JPEG\t{B}\t52\t55\t57\t59\n")
    made = found(tmp_path)
    assert [list(labelled(made.train).values()), made.classes] == [[0, 0, 1, 1], (A, B)]
    assert made.test is not None
    assert [name.rpartition("/")[2] for name in labelled(made.test)] == ["val_0.JPEG", "val_1.JPEG"]
    assert list(labelled(made.test).values()) == [1, 0]
    assert made.notes == (
        f"not used in {tmp_path}: 4 files of other types (.txt; first: tiny-imagenet-200/train/{A}/{A}_boxes.txt), "
        "1 image outside of the class folders (tiny-imagenet-200/test/images/test_0.JPEG)",
    )


def test_imagenet_100_in_four_parts(tmp_path: Path) -> None:
    make(tmp_path, f"train.X2/{A}/1.JPEG", f"train.X1/{C}/1.JPEG", f"train.X1/{B}/1.JPEG", f"train.X2/{B}/0.JPEG")
    make(tmp_path, f"val.X/{B}/1.JPEG", "Labels.json")
    made = found(tmp_path)
    assert made.train[1] == [
        f"train.X2/{A}/1.JPEG",
        f"train.X1/{B}/1.JPEG",
        f"train.X2/{B}/0.JPEG",
        f"train.X1/{C}/1.JPEG",
    ]
    assert made.train[2].tolist() == [0, 1, 1, 2]
    assert made.test is not None
    assert labelled(made.test) == {f"val.X/{B}/1.JPEG": 1}
    assert made.notes == (f"not used in {tmp_path}: 1 file of other types (.json; Labels.json)",)


def test_labels_in_the_names_of_hugging_faces_files(tmp_path: Path) -> None:
    make(tmp_path, f"train/{B}_10_{B}.JPEG", f"train/{A}_7_{A}.JPEG", f"val/ILSVRC2012_val_00000001_{B}.JPEG")
    made = found(tmp_path)
    assert labelled(made.train) == {f"train/{A}_7_{A}.JPEG": 0, f"train/{B}_10_{B}.JPEG": 1}
    assert made.test is not None
    assert list(labelled(made.test).values()) == [1]


def test_kaggles_cifar10(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{k}.png" for k in range(1, 12)), "test/1.png", "sampleSubmission.csv")
    rows = "".join(f"{k},{'frog' if k % 2 else 'cat'}\n" for k in range(11, 0, -1))
    (tmp_path / "trainLabels.csv").write_text("id,label\n" + rows)
    made = found(tmp_path)
    assert made.classes == ("cat", "frog")
    assert made.train[1][:3] == ["1.png", "10.png", "11.png"]
    assert made.train[2].tolist() == [k % 2 for k in sorted(range(1, 12), key=str)]
    assert "1 image outside of the class folders (test/1.png)" in made.notes[1]
    (tmp_path / "trainLabels.csv").write_text("id,label\n1,frog\n")
    with pytest.raises(UserError, match=r"trainLabels\.csv does not name 10\.png"):
        found(tmp_path)
    (tmp_path / "trainLabels.csv").unlink()
    with pytest.raises(UserError, match=r"train holds 11 images without class folders: put .* in trainLabels\.csv"):
        found(tmp_path)


@pytest.mark.parametrize("place", ["meta/val.txt", "val_list.txt", "val/val.txt"])
def test_lists_of_other_frameworks(tmp_path: Path, place: str) -> None:
    make(tmp_path, *TRAIN, *FLAT_VAL)
    make(tmp_path, place, text="val/v_1.JPEG 1\nval/v_2.JPEG 0\n")
    made = found(tmp_path)
    assert made.test is not None
    assert list(labelled(made.test).values()) == [1, 0]
    assert made.notes == ()


def test_a_class_that_is_called_train(tmp_path: Path) -> None:
    make(tmp_path, "car/1.jpg", "plane/1.jpg", "train/1.jpg")
    assert found(tmp_path).classes == ("car", "plane", "train")


def test_everything_that_is_not_used_is_named(tmp_path: Path) -> None:
    make(
        tmp_path, *TRAIN, f"train/{A}/Thumbs.db", f"train/{A}/.DS_Store", f"train/{A}/._1.JPEG", "__MACOSX/train/x.jpg"
    )
    make(tmp_path, f"train/{A}/deeper/3.JPEG", "train/loose.JPEG", "train/empty/", "train/.ipynb_checkpoints/1.JPEG")
    make(tmp_path, "val/", f"val/{A}/9.JPEG", "notes.TXT", "README", "set.zip", "old/x/1.jpg", "old/x/2.jpg")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "train" / "self").symlink_to("self")
    (tmp_path / "train" / A / "up").symlink_to("..")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "to_a").symlink_to("../a")
    made = found(tmp_path)
    assert labelled(made.train) == CLASSES
    (note,) = made.notes
    for words in (
        "1 archive not unpacked (set.zip)",
        "1 broken link (gone)",
        "3 files of other types (.db, .txt; first: README)",
        "5 hidden entries (first: .cache)" if (tmp_path / ".cache").exists() else "4 hidden entries (first: __MACOSX)",
        f"2 link loops (first: train/{A}/up)",
        "1 special file (fifo)",
        f"1 image in folders below a class (train/{A}/deeper/3.JPEG)",
        "3 images outside of the class folders (first: old/x/1.jpg)",
        "folders without images (first: a)",
    ):
        assert words in note
    assert "\n" not in note


REFUSED = {
    "one_class": (
        ("train/train/cat.0.jpg", "train/train/dog.0.jpg"),
        r"only one class of training images, .*train/train \(2 i",
    ),
    "unextracted": (
        (f"train/{A}/1.JPEG", f"train/{B}/", f"train/{C}.tar"),
        rf"1 archive not unpacked \(first: {C}\.tar\) .*{B}",
    ),
    "deeper": (("train/cat/1.jpg", "train/dog/2019/1.jpg"), r"train/dog holds its images in folders below it"),
    "two": (
        ("set/train/a/1.jpg", "set/train/b/1.jpg", "old/train/a/1.jpg"),
        "holds images in old and in set: name one",
    ),
    "two names": (("train/a/1.jpg", "training/b/1.jpg"), "holds train and training: rename or move"),
    "official": (("ILSVRC2012_img_train.tar",), r"unpack ILSVRC2012_img_train\.tar into train/, and each of the 1,000"),
    "nothing": (("x.txt", "y/z.csv"), r"holds no images: .*found: 2 files of other types"),
    "parquet": (("data/train-00000-of-00294.parquet",), r"1 file of other types \(\.parquet.*pip install datasets"),
    "flat": (("1.jpg", "2.jpg"), r"holds no images: looked for .*2 images outside of the class folders"),
    "flat val": (
        (*TRAIN, "val/1.JPEG"),
        "val holds 1 image without class folders and no ground truth is there or above",
    ),
    "unknown": ((*TRAIN, f"val/{C}/1.JPEG"), f"val/{C} is a class that the training images do not have"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("how", ["imagenet", "cifar10", "pack"])
def test_refusals(tmp_path: Path, case: str, how: str) -> None:
    names, message = REFUSED[case]
    root = make(tmp_path / "root", *names)
    with pytest.raises(UserError, match=message) as raised:
        OPEN[how](root)
    assert "\n" not in str(raised.value)


def test_a_link_to_a_class_that_is_gone(tmp_path: Path) -> None:
    make(tmp_path, *TRAIN)
    (tmp_path / "train" / C).symlink_to("/nowhere")
    with pytest.raises(UserError, match=f"train/{C} is a broken link, so that a class is missing"):
        found(tmp_path)


@pytest.mark.parametrize("below", ["", "train", f"train/{A}"])
@pytest.mark.parametrize("dataset", ["imagenet", "cifar10", "mnist", "pack"])
def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, dataset: str) -> None:
    if dataset == "mnist" and below:
        pytest.skip("mnist has no such folder")
    root = make(tmp_path / "root", *TRAIN)
    scan = os.scandir

    def closed(folder: Any) -> Any:
        if Path(folder) == root / below:
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=rf"{root / below} cannot be read \(Permission denied\)"):
        OPEN[dataset](root)


def test_a_folder_beside_that_cannot_be_read_or_vanishes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *TRAIN, f"train/{A}/closed/x.txt", f"train/{A}/gone/x.txt")
    scan = os.scandir

    def closed(folder: Any) -> Any:
        if Path(folder).name in ("closed", "gone"):
            raise OSError({"closed": 13, "gone": 2}[Path(folder).name], "no", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", closed)
    assert f"2 folders that cannot be read (first: train/{A}/closed)" in found(tmp_path).notes[-1]


@pytest.mark.parametrize("kind", ["fifo", "broken link", "loop", "long name", "null"])
@pytest.mark.parametrize("dataset", ["imagenet", "cifar10", "mnist"])
def test_what_is_no_folder(tmp_path: Path, kind: str, dataset: str) -> None:
    path = tmp_path / "data"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind != "null":
        path.symlink_to("data" if kind == "loop" else "nowhere")
    named = {"long name": f"{path}{'x' * 300}", "null": f"{path}\0"}.get(kind, str(path))
    why = {
        "fifo": r"is a file, and \w+ is opened from a folder|cannot be read",
        "broken link": "link to nowhere|cannot be read",
        "loop": "Too many levels of symbolic links",
        "long name": "File name too long",
        "null": "a NUL byte",
    }
    with pytest.raises(UserError, match=why[kind]):
        load_dataset(dataset, replace(OPTIONS, path=named))


def jpeg(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


def test_files_that_cannot_be_read_keep_their_index(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "train/a/", "train/b/")
    for k in range(3):
        (root / f"train/a/{k}.jpg").write_bytes(jpeg(10 * k))
        (root / f"train/b/{k}.jpg").write_bytes(jpeg(100 + 10 * k))
    (root / "train/a/1.jpg").unlink()
    (root / "train/a/1.jpg").symlink_to("nowhere")
    (root / "train/b/0.jpg").unlink()
    os.mkfifo(root / "train/b/0.jpg")
    (root / "train/b/2.jpg").unlink()
    (root / "train/b/2.jpg").symlink_to("2.jpg")
    skip = replace(OPTIONS, on_decode_error="skip")
    write.write(write.plan(root, tmp_path / "pack", format="jpeg", size=None), workers=1, progress=None)
    for made in (
        imagenet.load(root, skip),
        cifar10.load(root, skip),
        pack_images.load("cifar10", tmp_path / "pack", skip),
    ):
        assert made.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert made.train.index.tolist() == [0, 2, 4]
        assert [reason.partition(":")[0] for _, reason in made.train.damaged] == ["cannot be read"] * 3
        (images, rows), *_ = made.train.images.read([made.train.index])
        assert images[rows][:, 4, 4, 0].tolist() == [0, 20, 110]
    with pytest.raises(UserError, match=r"train/a/1\.jpg cannot be read: No such file or directory, and 2 more"):
        cifar10.load(root, OPTIONS)


def shard(path: Path, samples: dict[str, tuple[int, bytes]], suffix: str = "cls") -> None:
    with tarfile.open(path, "w") as made:
        for key, (value, label) in samples.items():
            for name, content in ((f"{key}.jpg", jpeg(value)), (f"{key}.{suffix}", label)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_webdataset_shards_of_others_become_a_pack(tmp_path: Path, suffix: str) -> None:
    root = make(tmp_path / "wds/", "wds/") / "wds"

    def text(k: int) -> bytes:
        return str(k).encode() if suffix == "cls" else b'{"label": %d, "width": 8}' % k

    shard(root / "imagenet-train-000001.tar", {"c": (30, text(0))}, suffix)
    shard(root / "imagenet-train-000000.tar", {"z": (10, text(2)), "a": (20, text(0))}, suffix)
    shard(root / "imagenet-val-000000.tar", {"v": (40, text(2))}, suffix)
    with pytest.raises(
        UserError, match=r"These are WebDataset shards: make a pack with `rethink-fast pack .*wds DEST`"
    ):
        imagenet.load(root, OPTIONS)
    write.write(write.plan(root, tmp_path / "pack", format="jpeg", size=None), workers=1, progress=None)
    made = pack_images.load("imagenet", tmp_path / "pack", OPTIONS)
    assert made.classes == ("0", "1", "2")
    assert made.train.labels.tolist() == [2, 0, 0]
    assert made.test is not None
    assert made.test.labels.tolist() == [2]
    (images, rows), *_ = made.train.images.read([made.train.index])
    assert images[rows][:, 4, 4, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"a": (1, b"0"), "b": (1, b"0")}, "has its 2 training images in one class, 0"),
        ({"a": (1, b"0"), "b": (1, b"-1")}, "holds b.cls with the label -1"),
        ({"a": (1, b"0"), "b": (1, b"\xff")}, "holds b.cls without a label"),
        ({"a": (1, b"0"), "b": (1, b"")}, "holds b.cls with the label nothing"),
    ],
)
def test_bad_shards(tmp_path: Path, samples: dict[str, tuple[int, bytes]], message: str) -> None:
    make(tmp_path, "wds/")
    shard(tmp_path / "wds" / "train-0.tar", samples)
    with pytest.raises(UserError, match=message):
        write.plan(tmp_path / "wds", tmp_path / "pack", format="jpeg", size=None)
