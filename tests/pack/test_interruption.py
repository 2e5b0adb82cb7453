"""A pack that is killed, or whose disk is full, goes on later."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rethink_fast.errors import UserError
from rethink_fast.pack import write
from tests.pack.helpers import command, contents, made, noise, tree

pytest.importorskip("nvidia.dali")


ROOT = Path(__file__).parents[2]


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
