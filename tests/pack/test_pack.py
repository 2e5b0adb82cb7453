"""Making packs: what is in them, what other tools read there, and what survives a kill, a full disk and bad files."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rethink_fast.data import DataOptions, damaged, imagenet, pack_format, pack_verify
from rethink_fast.errors import UserError
from rethink_fast.pack import write
from tests.pack.helpers import CLASSES, command, contents, flip, made, noise, tree

pytest.importorskip("nvidia.dali")

CPU = torch.device("cpu")

ROOT = Path(__file__).parents[2]


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def folder_pixels(src: Path, size: int, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    found = imagenet.load(src, DataOptions(size=size, workers=1, on_decode_error="skip"))
    part = found.train if split == "train" else found.test
    assert part is not None
    (images, rows), *_ = part.images.read([part.index])
    return images[rows], part.labels


@pytest.mark.parametrize("split", ["train", "test"])
def test_raw_is_what_the_folder_gives_to_the_bit(tmp_path: Path, split: str) -> None:
    src = tree(tmp_path / "src")
    pack = made(src, tmp_path / "pack", "npy", 14)
    images = np.load(tmp_path / "pack" / f"{split}.npy", mmap_mode="r")
    expected, labels = folder_pixels(src, 14, split)
    assert images.dtype == np.uint8
    assert np.array_equal(images, expected.numpy())
    index = np.load(tmp_path / "pack" / f"{split}.index.npy")
    assert index["label"].tolist() == labels.tolist()
    file = (tmp_path / "pack" / f"{split}.npy").read_bytes()
    for k, row in enumerate(index):
        assert file[row["offset"] : row["offset"] + row["length"]] == expected[k].numpy().tobytes()
    assert pack.classes == CLASSES


@pytest.mark.parametrize("size", [None, 14], ids=["original bytes", "14 px"])
def test_other_tools_read_the_shards(tmp_path: Path, size: int | None) -> None:
    """tarfile and Pillow, by names alone; and by the index, without tar."""
    src = tree(tmp_path / "src", train=70)
    pack = made(src, tmp_path / "pack", size=size)
    assert pack.train.files == ["train-00000.tar", "train-00001.tar"]
    names = sorted((src / "train").glob("*/*"))
    expected, labels = folder_pixels(src, 14)
    index = np.load(tmp_path / "pack" / "train.index.npy")
    seen = {}
    for shard in sorted((tmp_path / "pack").glob("train-*.tar")):
        with tarfile.open(shard) as opened:
            members = {member.name: content_of(opened, member) for member in opened}
        for name, content in members.items():
            key, ending = name.split(".")
            if ending == "cls":
                assert int(content) == labels[int(key)]
            else:
                seen[int(key)] = content
                assert f"{key}.cls" in members
    assert sorted(seen) == list(range(70))
    for k, row in enumerate(index):
        file = (tmp_path / "pack" / pack.train.files[row["shard"]]).read_bytes()
        assert file[row["offset"] : row["offset"] + row["length"]] == seen[k]
        pixels = np.asarray(Image.open(io.BytesIO(seen[k])).convert("RGB"))
        assert pixels.shape == (row["height"], row["width"], 3)
        if size is None:
            assert seen[k] == names[k].read_bytes()
        else:
            jpeg = io.BytesIO()
            Image.fromarray(expected[k].numpy()).save(jpeg, "JPEG", quality=90, subsampling="4:2:0")
            assert seen[k] == jpeg.getvalue()


def test_an_npy_pack_of_a_jpeg_pack_holds_what_its_jpegs_decode_to(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=20)
    (src / "train" / "n01" / "a0000.JPEG").write_bytes(b"")
    made(src, tmp_path / "jpeg", size=14)
    made(tmp_path / "jpeg", tmp_path / "npy", "npy")
    images, index = np.load(tmp_path / "npy" / "train.npy"), np.load(tmp_path / "jpeg" / "train.index.npy")
    for k, row in enumerate(index):
        if row["length"]:
            data = (tmp_path / "jpeg" / "train-00000.tar").read_bytes()[row["offset"] : row["offset"] + row["length"]]
            assert np.array_equal(images[k], np.asarray(Image.open(io.BytesIO(data))))
    quarantines = [(tmp_path / format / "unreadable.csv").read_text() for format in ("jpeg", "npy")]
    assert quarantines[0] == quarantines[1]
    with pytest.raises(UserError, match="is a pack in npy format: name a folder or a pack in jpeg format"):
        made(tmp_path / "npy", tmp_path / "again")


def test_bad_files_are_quarantined_and_nothing_moves(tmp_path: Path) -> None:
    src = tree(tmp_path / "src")
    names = sorted((src / "train").glob("*/*"))
    whole, _ = folder_pixels(src, 14)
    jpeg = io.BytesIO()
    noise(5, 64, 64).save(jpeg, "JPEG", quality=95)
    scan = jpeg.getvalue()
    bad = {
        3: (b"", "empty"),
        11: (names[11].read_bytes()[:-40], f"truncated at byte {len(names[11].read_bytes()) - 40:,}"),
        12: (b"<html>404</html>", "an HTML page, not an image"),
        30: (scan[:20] + b"\xff" * 20 + scan[40:], f"corrupt: marker {scan[40]:02X} at byte 39"),
    }
    for k, (content, _) in bad.items():
        names[k].write_bytes(content)
    misnamed = next(k for k, name in enumerate(names) if name.suffix == ".JPEG" and k not in bad)
    noise(77, 20, 20).save(names[misnamed], "PNG")  # a PNG under another name is an image all the same
    found, _ = damaged.find_damaged(
        src / "train", [str(n.relative_to(src / "train")) for n in names], torch.arange(40), workers=1, progress=None
    )
    assert found == [(k, reason) for k, (_, reason) in bad.items()]
    for format in ("jpeg", "npy"):
        pack = made(src, tmp_path / format, format, 14)
        listed = [(k, str(names[k].relative_to(src / "train")), reason) for k, (_, reason) in bad.items()]
        assert list(pack.train.quarantine) == listed
        rows = list(csv.reader((tmp_path / format / "unreadable.csv").read_text().splitlines()))
        assert rows == [["split", "index", "file", "reason"], *(["train", str(k), f, r] for k, f, r in listed)]
        assert [k for k, row in enumerate(pack.train.index) if row["length"] == 0] == list(bad)
        assert len(pack.train.index) == 40
    images = np.load(tmp_path / "npy" / "train.npy")
    for k in range(40):
        if k in bad:
            assert not images[k].any()
        elif k != misnamed:
            assert np.array_equal(images[k], whole[k].numpy())
    original = made(src, tmp_path / "original")
    with tarfile.open(tmp_path / "original" / original.train.files[0]) as opened:
        assert f"{misnamed:09}.png" in opened.getnames()


def test_a_huge_image(tmp_path: Path) -> None:
    """20,000 pixels wide, 300 MB decoded, beside small ones."""
    src = tree(tmp_path / "src", train=6, val=0)
    Image.new("L", (20_000, 5_000), 80).save(src / "train" / "n01" / "a0000.JPEG")
    pack = made(src, tmp_path / "pack", "npy", 14)
    assert not pack.train.quarantine
    assert (np.load(tmp_path / "pack" / "train.npy")[0] == 80).all()


def test_own_size(tmp_path: Path) -> None:
    """Without --size, images of one size are held whole; others are refused by their names."""
    src = tree(tmp_path / "one", same_size=True)
    pack = made(src, tmp_path / "pack", "npy")
    assert np.load(tmp_path / "pack" / "train.npy").shape == (40, 24, 24, 3)
    names = sorted((src / "train").glob("*/*"))
    images = np.load(tmp_path / "pack" / "train.npy")
    assert all(np.array_equal(image, np.asarray(Image.open(n))) for image, n in zip(images, names, strict=True))
    assert pack.size is None
    with pytest.raises(UserError, match=r"is \d+x\d+ pixels and other images are \d+x\d+: give a --size"):
        made(tree(tmp_path / "many"), tmp_path / "other", "npy")


@pytest.mark.slow
def test_many_processes_make_the_same_pack(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=200)
    made(src, tmp_path / "one", "npy", 14)
    made(src, tmp_path / "two", "npy", 14, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(("format", "size"), [("jpeg", None), ("jpeg", 14), ("npy", 14)])
def test_it_takes_what_was_stated(tmp_path: Path, format: str, size: int | None) -> None:
    src = tree(tmp_path / "src", train=300)
    plan = write.plan(src, tmp_path / "pack", format=format, size=size)
    write.write(plan, workers=1, progress=None)
    spent = sum(path.stat().st_size for path in (tmp_path / "pack").iterdir())
    assert spent <= plan.bytes <= 1.2 * spent


def test_refusals(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=6, val=0)
    with pytest.raises(UserError, match=r"(is no folder|does not exist): name a folder with train/CLASS"):
        made(tmp_path / "none", tmp_path / "pack")
    with pytest.raises(UserError, match=r"--size 5000 is out of range: choose one in \[1, 4096\]"):
        made(src, tmp_path / "pack", size=5000)
    with pytest.raises(UserError, match="format 'tar' is unknown: choose one of jpeg, npy"):
        made(src, tmp_path / "pack", "tar")
    made(src, tmp_path / "pack")
    with pytest.raises(UserError, match="exists already: choose another place, or remove it"):
        made(src, tmp_path / "pack")
    for file in (src / "train").glob("*/*"):
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"has no image that can be decoded"):
        made(src, tmp_path / "other", size=14)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        made(src, tmp_path / "file" / "pack")


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=6, val=0)
    (tmp_path / "pack.partial").mkdir()
    with (
        write.locked(tmp_path / "pack.partial"),
        pytest.raises(UserError, match="is being written by another process: wait for it, or stop it"),
    ):
        made(src, tmp_path / "pack")


@pytest.mark.parametrize("format", ["jpeg", "npy"])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path, format: str) -> None:
    pack = made(tree(tmp_path / "src"), tmp_path / "pack", format, 14)
    whole = contents(pack.path)
    assert pack_verify.verify(pack, workers=2, progress=None) == sum(
        len(whole[name]) for name in whole if name.endswith((".tar", ".npy")) and "index" not in name
    )
    choose = random.Random(format)
    for name, content in whole.items():
        for place in (0, len(content) - 1, choose.randrange(len(content)), choose.randrange(len(content))):
            flip(pack.path / name, place)
            with pytest.raises(UserError, match=r"damaged|does not describe|is a pack of") as caught:
                pack_verify.verify(pack_format.read_pack(pack.path), workers=1, progress=None)
            assert name in str(caught.value) or name == "pack.json"
            assert "\n" not in str(caught.value)
            flip(pack.path / name, place)
    pack_verify.verify(pack_format.read_pack(pack.path), workers=1, progress=None)


def test_a_pack_that_lacks_something_is_refused(tmp_path: Path) -> None:
    pack = made(tree(tmp_path / "src"), tmp_path / "pack", size=14)
    for name, content in contents(pack.path).items():
        (pack.path / name).unlink()
        with pytest.raises(UserError, match=rf"{name} cannot be read \(No such file or directory\)"):
            pack_format.read_pack(pack.path)
        (pack.path / name).write_bytes(content[:-1])
        with pytest.raises(UserError, match=r"damaged|bytes instead of|does not describe"):
            pack_format.read_pack(pack.path)
        (pack.path / name).write_bytes(content)
    pack_format.read_pack(pack.path)


@pytest.mark.parametrize("key", ["version", "contract"])
def test_another_version_is_refused(tmp_path: Path, key: str) -> None:
    pack = made(tree(tmp_path / "src"), tmp_path / "pack", size=14)
    values = json.loads((pack.path / "pack.json").read_text())
    values[key] += 1
    values["sha256"] = pack_format.checksum(values)
    (pack.path / "pack.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"version {values[key]}, and this program reads {values[key] - 1}: pack"):
        pack_format.read_pack(pack.path)


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=6, val=3)
    (src / "train" / "n01" / "a0000.JPEG").write_bytes(b"")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    done = run(src, tmp_path / "pack", "--size", 14, "--json", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "6 train and 3 test images, 3 classes" in done.stderr
    assert "format jpeg, at 14 px: about 0.0 MB will be written" in done.stderr
    assert "quarantined: train sample 0, n01/a0000.JPEG (empty)" in done.stderr
    assert json.loads(done.stdout)["splits"]["train"]["quarantine"] == [[0, "n01/a0000.JPEG", "empty"]]
    assert "is whole" in run("--verify", tmp_path / "pack").stdout
    flip(tmp_path / "pack" / "train-00000.tar", 700)
    done = run("--verify", tmp_path / "pack")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "train-00000.tar is damaged in bytes 0 to" in done.stderr
