"""Making packs: what is in them, what other tools read there, and what survives a kill, a full disk and bad files."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rethink_fast.data import DataOptions, damaged, imagenet, pack_format
from rethink_fast.data.pack_format import Pack
from rethink_fast.errors import UserError
from rethink_fast.pack import write

pytest.importorskip("nvidia.dali")

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
CLASSES = ("n01", "n02", "n03")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(k: int, height: int, width: int) -> Image.Image:
    """A smooth picture that no other has, so that JPEG does it no great harm."""
    coarse = np.random.default_rng(k).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def tree(root: Path, train: int = 40, val: int = 9, same_size: bool = False) -> Path:
    """Class folders of JPEGs and PNGs of many sizes."""
    for split, count in (("train", train), ("val", val)):
        for k in range(count):
            path = root / split / CLASSES[k % 3] / f"{'b' if k % 2 else 'a'}{k:04}.{('JPEG', 'jpg', 'png')[k % 5 % 3]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (24, 24) if same_size else (20 + k % 7, 30 - k % 5)
            noise(k + (1000 if split == "val" else 0), *size).save(path)
    return root


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def made(src: Path, dest: Path, format: str = "jpeg", size: int | None = None, workers: int = 1) -> Pack:
    return write.write(write.plan(src, dest, format=format, size=size), workers=workers, progress=None)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


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


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rethink_fast", "pack", *map(str, words)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "workers", "moments"),
    [("jpeg", 2, (1, 9)), ("npy", 1, (0, 3, 9))],
)
def test_killed_at_any_moment_it_goes_on(tmp_path: Path, format: str, workers: int, moments: tuple[int, ...]) -> None:
    """SIGKILL, several times, wherever it stands; the end is the same pack, byte for byte."""
    src = tree(tmp_path / "src", train=1300, val=70)
    words = command(src, tmp_path / "pack", "--format", format, "--size", 14, "--workers", workers)
    partial, choose = tmp_path / "pack.partial", random.Random(format)
    killed = 0
    for parts in moments:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list(partial.glob("parts/*.json"))) <= parts:
            time.sleep(0.002)
        time.sleep(choose.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if process.stderr is not None:
            process.stderr.close()
        assert (tmp_path / "pack").exists() != partial.exists()
    assert killed >= len(moments) - 1
    if partial.exists():
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    made(src, tmp_path / "expected", format, 14)
    assert contents(tmp_path / "pack") == contents(tmp_path / "expected")
    assert not partial.exists()


def test_killed_between_the_last_write_and_the_name(tmp_path: Path) -> None:
    src = tree(tmp_path / "src")
    expected = contents(made(src, tmp_path / "pack", size=14).path)
    (tmp_path / "pack").rename(tmp_path / "pack.partial")
    with pytest.raises(UserError, match="holds an unfinished pack of other images, --format or --size"):
        made(src, tmp_path / "pack", size=15)
    made(src, tmp_path / "pack", size=14)
    assert contents(tmp_path / "pack") == expected


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["jpeg", "npy"])
def test_a_file_that_cannot_grow_is_one_line_and_the_run_goes_on_later(tmp_path: Path, format: str) -> None:
    src = tree(tmp_path / "src", train=130)
    words = command(src, tmp_path / "pack", "--format", format, "--size", 14, "--workers", 1)
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit_file_size, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written (File too large): make room" in done.stderr
    assert not (tmp_path / "pack").exists()
    made(src, tmp_path / "pack", format, 14)
    made(src, tmp_path / "expected", format, 14)
    assert contents(tmp_path / "pack") == contents(tmp_path / "expected")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("format", "workers"), [("jpeg", 1), ("npy", 1), pytest.param("jpeg", 2, marks=pytest.mark.slow)]
)
def test_a_disk_that_fills_while_packing(small_disk: Path, tmp_path: Path, format: str, workers: int) -> None:
    src = tree(tmp_path / "src", train=300)
    plan = write.plan(src, small_disk / "pack", format=format, size=14)
    hog = small_disk / "hog"
    whole, progress = [], []

    def fill(what: str, done: int, total: int) -> None:
        progress.append(done)
        if not hog.exists():
            free = shutil.disk_usage(small_disk).free
            hog.write_bytes(bytes(free - 8192 if format == "npy" else free - 30_000))

    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\).*the same command resumes it"):
        write.write(plan, workers=workers, progress=fill)
    assert not (small_disk / "pack").exists()
    assert not list((small_disk / "pack.partial").glob(".train*")), "what is of no use still takes room"
    hog.unlink()
    pack = write.write(plan, workers=workers, progress=lambda what, done, total: whole.append(done))
    assert whole[0] > 64, "what was made is made again"
    made(src, tmp_path / "expected", format, 14)
    assert contents(pack.path) == contents(tmp_path / "expected")


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """So many names of one small file that their pixels at 4096 x 4096 are more than is free here."""
    (tmp_path / "src" / "n01").mkdir(parents=True)
    (tmp_path / "src" / "n02").mkdir()
    noise(0, 20, 20).save(tmp_path / "src" / "n02" / "0.jpg")
    first = tmp_path / "src" / "n01" / "0.jpg"
    noise(0, 20, 20).save(first)
    for k in range(1, shutil.disk_usage(tmp_path).free // (4096 * 4096 * 3) + 2):
        os.link(first, first.with_name(f"{k}.jpg"))
    with pytest.raises(UserError, match=r"needs [\d,]+ bytes and [\d,]+ are free in .*: make room"):
        made(tmp_path / "src", tmp_path / "pack", "npy", 4096)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


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
        write._locked(tmp_path / "pack.partial"),
        pytest.raises(UserError, match="is being written by another process: wait for it, or stop it"),
    ):
        made(src, tmp_path / "pack")


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("format", ["jpeg", "npy"])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path, format: str) -> None:
    pack = made(tree(tmp_path / "src"), tmp_path / "pack", format, 14)
    whole = contents(pack.path)
    assert pack_format.verify(pack, workers=2, progress=None) == sum(
        len(whole[name]) for name in whole if name.endswith((".tar", ".npy")) and "index" not in name
    )
    choose = random.Random(format)
    for name, content in whole.items():
        for place in (0, len(content) - 1, choose.randrange(len(content)), choose.randrange(len(content))):
            flip(pack.path / name, place)
            with pytest.raises(UserError, match=r"damaged|does not describe|is a pack of") as caught:
                pack_format.verify(pack_format.read_pack(pack.path), workers=1, progress=None)
            assert name in str(caught.value) or name == "pack.json"
            assert "\n" not in str(caught.value)
            flip(pack.path / name, place)
    pack_format.verify(pack_format.read_pack(pack.path), workers=1, progress=None)


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
