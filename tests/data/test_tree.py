"""A folder, a tar of any maker and a pack of the same images give the same classes, indices, labels and pixels."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from rethink_fast.data import DataOptions, cifar10, layout, pack_images
from rethink_fast.data.image_formats import is_image
from rethink_fast.data.tar_tree import TarTree
from rethink_fast.data.tree import FolderTree, Tree
from rethink_fast.errors import UserError
from rethink_fast.pack import write

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
OPTIONS = DataOptions(size=8, workers=1, on_decode_error="skip")

FOLDERS: tuple[str, ...] = (
    "train/cat",
    "train/dog",
    "train/Cat",
    "train/.hidden",
    "train/cat/deeper",
    "train/bird/images",
    "test/cat",
)
FOLDERS = (
    *FOLDERS,
    "test/dog",
    "train",
    "train/empty",
    "val/cat",
    "train/\u00e9t\u00e9",
    "train/a b",
    "__MACOSX/train",
)
FILES = ("0.png", "10.png", "9.PNG", "._0.png", "x.txt", "a.JPEG", "b.jfif", "c.tar", "Thumbs.db", "-1.jpg")
PREFIXES = ("", "./", "set/", "./set/", "/set/", "a/b/")
names = st.builds("{}/{}".format, st.sampled_from(FOLDERS), st.sampled_from(FILES))
targets = st.one_of(
    st.sampled_from(("0.png", "../cat/0.png", "../../train/dog/9.PNG", "nowhere.png", ".", "..", "../dog")),
    st.sampled_from(("../../../../x.png", "/nowhere/x.png", "self.png", "../train", "../../test/cat")),
)
members = st.one_of(
    st.tuples(st.just("file"), names),
    st.tuples(st.just("file"), names),
    st.tuples(st.just("folder"), st.sampled_from(FOLDERS)),
    st.tuples(st.just("hard"), names, names),
    st.tuples(
        st.just("link"), st.sampled_from(("train/l1", "train/cat/l.png", "train/dog/self.png", "test/l2")), targets
    ),
    st.tuples(st.just("fifo"), st.sampled_from(("train/cat/f.png", "train/fifo"))),
)


def png(value: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value % 256, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, entries: list[tuple[str, ...]], prefix: str, form: int, mode: str = "w") -> None:
    """Members in their order; a hard link only to a file that came before.

    One symbolic link of each name: of two GNU tar may keep the first, since it makes some of them at the end.
    """
    before: set[str] = set()
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for k, (kind, name, *target) in enumerate(entries):
            if kind == "link" and name in before:
                continue
            before.add(name)
            member = tarfile.TarInfo(prefix + name)
            content = b""
            if kind == "file":
                content = png(k)
            elif kind == "hard":
                if target[0] not in before or target[0] == name:
                    continue
                member.type, member.linkname = tarfile.LNKTYPE, prefix + target[0]
            else:
                types = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}
                member.type, member.linkname = types[kind], (target or [""])[0]
                member.mode = 0o755
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def found(tree: Tree) -> Any:
    """The layout, with the bytes of every image, or the refusal; without the place of the tree."""
    try:
        made = layout.find(tree)
    except UserError as error:
        words = "keep one of them in the archive" if tree.kind == "tar" else "name one of them"
        return str(error).replace(str(tree.path), "TREE").replace(words, "WHAT TO DO")

    def content(file: str) -> bytes | None:
        try:
            return tree.read(file)
        except OSError:
            return None

    splits = [
        None if s is None else (*s[:2], s[2].tolist(), [content(f"{s[0]}/{f}") for f in s[1]])
        for s in (made.train, made.test)
    ]
    return made.classes, splits, [note.replace(str(tree.path), "TREE") for note in made.notes]


def tar_tree(path: Path) -> TarTree:
    return TarTree(path, lambda name: is_image(name))


BASE = [("file", f"{split}/{name}/0.png") for split in ("train", "test") for name in ("cat", "dog")]


@settings(max_examples=150, deadline=None)
@given(st.lists(members, max_size=12), st.sampled_from(PREFIXES), st.sampled_from(sorted(FORMATS)))
def test_a_tar_is_the_folder_that_tar_makes_of_it(entries: list[tuple[str, ...]], prefix: str, form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "set.tar", Path(folder) / "out"
        write_tar(path, [*BASE, *entries], prefix, FORMATS[form])
        out.mkdir()
        done = subprocess.run(["tar", "-xf", str(path), "-C", str(out)], capture_output=True, text=True)
        assume(done.returncode == 0)  # a file where a folder is, for example, is an error for tar as well
        assert found(tar_tree(path)) == found(FolderTree(out))


@pytest.mark.parametrize("maker", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_tars_of_every_maker(tmp_path: Path, maker: str) -> None:
    """Folders with links, hard links, odd names and a sparse file, as GNU tar stores them."""
    root = tmp_path / "set"
    for split in ("train", "test"):
        for c, name in enumerate(("cat", "dog b", os.fsdecode(b"\xe9t\xe9"))):
            for k in range(3):
                (root / split / name).mkdir(parents=True, exist_ok=True)
                (root / split / name / f"{k}.png").write_bytes(png(10 * c + k))
    os.link(root / "train/cat/0.png", root / "train/dog b/9.png")
    (root / "train/cat/l.png").symlink_to("../dog b/1.png")
    (root / "train/linked").symlink_to("cat")
    (root / "train/loop").symlink_to("..")
    (root / "train/cat" / f"{'x' * 60}.png").write_bytes(png(77))
    with (root / "train/cat/sparse.png").open("wb") as file:
        file.write(png(5))
        file.truncate(2**20)
    sparse = ["-S"] if maker in ("oldgnu", "gnu", "pax") else []
    subprocess.run(
        ["tar", *sparse, f"--format={maker}", "-cf", root.with_suffix(".tar"), "-C", tmp_path, "set"], check=True
    )
    made = found(tar_tree(root.with_suffix(".tar")))
    root.with_suffix(".tar").rename(tmp_path / ".tar")
    assert found(FolderTree(tmp_path))[:2] == made[:2]
    assert made[0] == ("cat", "dog b", "linked", os.fsdecode(b"\xe9t\xe9"))
    assert [len(split[1]) for split in made[1]] == [6 + 4 + 6 + 3, 9]
    assert made[2] == ["not used in TREE: 1 link loop (set/train/loop)"]


def test_links_to_files_that_are_no_images_by_name(tmp_path: Path) -> None:
    """As a store has them that names each content by its hash."""
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        for k, (name, kind, target) in enumerate(
            [
                ("blobs/5f1c", tarfile.REGTYPE, ""),
                ("blobs/90ab", tarfile.REGTYPE, ""),
                ("train/cat/0.png", tarfile.LNKTYPE, "blobs/5f1c"),
                ("train/dog/0.png", tarfile.SYMTYPE, "../../blobs/90ab"),
            ]
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            content = png(40 * k) if not target else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    made = cifar10.load(tmp_path / "set.tar.gz", OPTIONS)
    assert pixels(made.train)[:, 0, 0, 0].tolist() == [0, 40]


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(st.sampled_from(("cat", "dog", "a b", "Z")), st.sets(st.integers(0, 12), min_size=1), min_size=2),
    st.data(),
)
def test_folder_tar_and_pack_have_the_same_pixels(classes: dict[str, set[int]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", f"{folder}/cache")
        root = Path(folder) / "set"
        value = 0
        for name, numbers in classes.items():
            for split in ("train", "val"):
                (root / split / name).mkdir(parents=True)
                for k in numbers:
                    (root / split / name / f"{k}.png").write_bytes(png(value := value + 1))
        names = sorted(str(path.relative_to(root)) for path in (root / "train").glob("*/*.png"))
        broken = data.draw(st.sampled_from(names))
        if len(names) > 2:
            (root / broken).unlink()
            (root / broken).symlink_to("nowhere")
        form = data.draw(st.sampled_from(sorted(FORMATS)))
        with tarfile.open(Path(folder) / "set.tar.gz", "w:gz", format=FORMATS[form]) as archive:
            archive.add(root, "any")
        write.write(write.plan(root, Path(folder) / "pack", format="jpeg", size=None), workers=1, progress=None)
        made = [cifar10.load(root, OPTIONS), cifar10.load(Path(folder) / "set.tar.gz", OPTIONS)]
        made.append(pack_images.load("cifar10", Path(folder) / "pack", OPTIONS))
        for other in made[1:]:
            assert other.classes == made[0].classes == tuple(sorted(classes))
            for mine, theirs in ((made[0].train, other.train), (made[0].test, other.test)):
                assert mine is not None
                assert theirs is not None
                assert theirs.labels.tolist() == mine.labels.tolist()
                assert theirs.index.tolist() == mine.index.tolist()
                assert np.array_equal(pixels(theirs), pixels(mine))
        if len(names) > 2:
            assert names.index(broken) not in made[0].train.index.tolist()
            assert next(why for _, why in made[0].train.damaged).startswith("cannot be read")


def pixels(split: Any) -> np.ndarray:
    (images, rows), *_ = split.images.read([split.index])
    return images[rows].numpy()
