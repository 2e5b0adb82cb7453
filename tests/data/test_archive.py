"""Archives that are bombs, damaged or none: one line, little memory, and no waiting."""

from __future__ import annotations

import io
import lzma
import os
import random
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rethink_fast.data import archive
from rethink_fast.data.tar_tree import TarTree
from rethink_fast.errors import UserError


def tree(path: Path) -> TarTree:
    return TarTree(path, lambda name: name.endswith(".png"))


def write(path: Path, names: list[str], content: bytes = b"x" * 700, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def zeros(path: Path, start: bytes, gigabytes: int) -> Path:
    """An xz file of a start and so many GB of zeros."""
    block = lzma.compress(bytes(2**26), preset=0)
    path.write_bytes(lzma.compress(start) + block * (16 * gigabytes))
    return path


BOMBS = {
    "a huge file that is wanted": header("train/a/x.png", 8 * 2**30),
    "a huge file that is not wanted": header("x.bin", 8 * 2**30),
    "a huge extended header": header("x", 3 * 2**30, tarfile.XHDTYPE),
    "a huge long name": header("x", 3 * 2**30, tarfile.GNUTYPE_LONGNAME),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_little_memory(tmp_path: Path, bomb: str) -> None:
    path = zeros(tmp_path / "bomb.tar.xz", BOMBS[bomb], 1)
    assert path.stat().st_size < 2 * 2**20
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30,) * 2)\n"
        "from pathlib import Path; from rethink_fast.data import archive, tar_tree\n"
        "archive.MAX_BYTES = 2**29\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: tar_tree.TarTree(Path(sys.argv[1]), lambda name: name.endswith('.png'))\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, grown = done.stdout.splitlines()
    assert said.startswith(f"UserError {path} is too large to read into memory"), said
    assert int(grown) < 600, "MB"


def test_zeros_behind_the_end_are_not_read_for_ever(tmp_path: Path) -> None:
    made = tree(zeros(tmp_path / "zeros.tar.xz", b"", 1))
    assert made.listing("").files == ()
    assert "holds something behind its end" in made.notes[0]


def test_too_many_entries_and_too_much_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "many.tar", [f"train/a/{k}.png" for k in range(30)])
    monkeypatch.setattr(archive, "MAX_ENTRIES", 29)
    with pytest.raises(UserError, match="more than 29 entries"):
        tree(path)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 30)
    monkeypatch.setattr(archive, "MAX_BYTES", 30 * 700 - 1)
    with pytest.raises(UserError, match=r"its files have more than 20,999 bytes\): unpack it and open the folder"):
        tree(path)
    monkeypatch.setattr(archive, "MAX_BYTES", 30 * 700)
    assert len(tree(path).listing("train/a").images) == 30


def test_a_sparse_file_that_claims_8_gb(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(8 * 2**30)
    subprocess.run(["tar", "-S", "-cf", tmp_path / "sparse.tar", "-C", tmp_path, "x.png"], check=True)
    assert (tmp_path / "sparse.tar").stat().st_size < 20_000
    with pytest.raises(UserError, match=r"x\.png has 8,589,934,592 bytes, at most 268,435,456 are allowed"):
        tree(tmp_path / "sparse.tar")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "broken link", "zip", "zstd", "empty", "text"])
def test_what_is_no_tar(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "set.tar"
    make = {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "broken link": lambda: path.symlink_to("nowhere"),
        "zip": lambda: path.write_bytes(b"PK\x03\x04 and more"),
        "zstd": lambda: path.write_bytes(b"\x28\xb5\x2f\xfd and more"),
        "empty": lambda: path.write_bytes(b""),
        "text": lambda: path.write_text("<html>404</html>\n" * 100),
    }
    make[kind]()
    expected = {
        "zip": "is a zip archive, not a tar",
        "zstd": "is a zstd archive",
        "empty": "is no tar archive",
        "text": "is no tar archive",
    }
    with pytest.raises(UserError, match=f"{path} {expected.get(kind, 'cannot be read')}"):
        tree(path)


def test_damage_in_the_middle_is_found(tmp_path: Path) -> None:
    """tarfile takes a header that is damaged, but not the first, for the end of the archive."""
    path = write(tmp_path / "set.tar", [f"train/a/{k}.png" for k in range(5)])
    content = bytearray(path.read_bytes())
    content[2 * 3 * 512 + 5] ^= 1  # in the name of the third
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no tar archive, or a truncated one"):
        tree(path)


def test_a_wrong_checksum_behind_the_last_file_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "set.tar.gz", ["train/a/0.png"], mode="w:gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no tar archive, or a damaged one"):
        tree(path)


def test_what_is_behind_the_end_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "set.tar", ["train/a/0.png"])
    assert tree(path).notes == []
    path.write_bytes(path.read_bytes() + write(tmp_path / "second.tar", ["train/b/0.png"]).read_bytes())
    assert tree(path).notes == [f"{path} holds something behind its end (another archive?), which is not read"]


def test_names_that_lead_out_and_names_that_clash(tmp_path: Path) -> None:
    made = tree(write(tmp_path / "out.tar", ["../x.png", "a/../../y.png", "/abs/z.png"]))
    assert made.listing("").folders == ("abs",)
    assert made.notes == [f"not used in {made.path}: 2 entries with .. in their names"]
    with pytest.raises(UserError, match=r"has train/a/0\.png below train/a, which is no folder"):
        tree(write(tmp_path / "below.tar", ["train/a", "train/a/0.png"]))
    with pytest.raises(UserError, match="has train/a both as a folder and as a file"):
        tree(write(tmp_path / "both.tar", ["train/a/0.png", "train/a"]))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_no_damage_gives_another_error(tmp_path: Path, mode: str) -> None:
    """Bytes changed, cut or doubled at random: read, or refused in one line."""
    path = write(tmp_path / "set.tar", [f"train/{'n' * (40 * k)}/{k}.png" for k in range(6)], b"y" * 300, mode)
    whole, chance = path.read_bytes(), random.Random(0)
    refused = []
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 20))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.5:
            start = chance.randrange(len(content))
            del content[start : start + 512]
        path.write_bytes(content)
        try:
            tree(path)
        except UserError as error:
            refused.append(str(error))
    assert not any("\n" in line for line in refused)
    assert len(refused) > 20


def test_peak_memory_is_what_is_kept(tmp_path: Path) -> None:
    """Not the whole archive: what is skipped is not held."""
    path = write(tmp_path / "set.tar", [f"{k}.bin" for k in range(40)], bytes(10 * 2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tree(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
