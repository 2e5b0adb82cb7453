"""A run whose folder takes no more, is read-only or is removed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.helpers import EPOCHS, changed, check_whole, cli, fill, load, losses, refused, unstarted

# Whole files


@pytest.mark.parametrize("free", [0, 1, 4096, 8192])
def test_a_start_without_room_is_one_line_and_leaves_nothing(
    small_disk: Callable[[str], Path], free: int, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk("64k")
    fill(disk, free=free)
    assert "cannot be written (No space left on device)" in refused(capfd, *EPOCHS, "--out", disk / "o")
    assert os.listdir(disk) == ["filler"]
    (disk / "mine").mkdir()
    refused(capfd, *EPOCHS, "--out", disk / "mine")
    assert not os.listdir(disk / "mine")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_record_that_did_not_reach_the_disk_is_kept_elsewhere(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    unbroken: Path,
    places: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("16m")
    at_epoch(3, lambda: fill(disk))
    assert cli(*EPOCHS, "--json", "--out", disk / "o") == 1
    out, err = capfd.readouterr()
    place = next(places.iterdir())
    assert f"could not be written to {disk / 'o'} (No space left on device)" in err
    assert f"everything is in {place}" in err
    assert load(place) == json.loads(out)
    assert losses(place) == losses(unbroken)
    assert losses(disk / "o") == losses(unbroken)[: len(losses(disk / "o"))]
    check_whole(disk / "o")
    check_whole(place)
    (disk / "filler").unlink()
    longer = changed("--epochs", "8")
    assert cli(*longer, "--resume", place) == 0, "a run whose epochs are used up can go on with more"
    assert losses(place)[:6] == losses(unbroken)
    assert load(place)["epochs"] == 8


def test_a_record_that_has_no_place_at_all_ends_with_1(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("16m")
    (disk / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk / "tmp"))
    at_epoch(3, lambda: fill(disk))
    assert cli(*EPOCHS, "--out", disk / "o") == 1
    assert "nor to" in capfd.readouterr().out
    assert not os.listdir(disk / "tmp")
    check_whole(disk / "o")


def test_a_folder_made_read_only_leaves_checkpoint_and_record_elsewhere(
    small_disk: Callable[[str], Path],
    at_epoch: Callable[..., None],
    unbroken: Path,
    places: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = small_disk("16m")

    def lock_and_stop() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
        os.kill(os.getpid(), signal.SIGTERM)

    at_epoch(3, lock_and_stop)
    assert cli(*EPOCHS, "--out", folder) == 143
    subprocess.run(["umount", "-l", str(folder)], check=True)
    place = next(places.iterdir())
    assert f"(Read-only file system): everything is in {place}; continue by --resume {place}" in (
        capfd.readouterr().out
    )
    assert load(place)["epochs"] == 3
    monkeypatch.undo()
    assert cli(*EPOCHS, "--resume", place) == 0
    assert losses(place) == losses(unbroken)


def test_a_folder_that_is_removed_during_the_run_is_made_again(
    unbroken: Path, at_epoch: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at_epoch(3, lambda: shutil.rmtree(tmp_path / "o"))
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    assert "was removed while the run went on: it was made again" in capfd.readouterr().out
    assert losses(tmp_path / "o") == losses(unbroken)
    check_whole(tmp_path / "o")


def test_a_resume_does_not_rewrite_what_is_the_same(unbroken: Path, tmp_path: Path) -> None:
    folder = unstarted(unbroken, tmp_path / "o")
    before = {name: (folder / name).stat().st_ino for name in ("config.json", "labels.npz")}
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert {name: (folder / name).stat().st_ino for name in before} == before
