"""A pack goes on from what an interrupted one left, or makes it again where it is not right."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rethink_fast.data import pack_format
from rethink_fast.errors import UserError
from rethink_fast.pack import write
from tests.pack.helpers import contents, made, tree

pytest.importorskip("nvidia.dali")


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[write.PackPlan, dict[str, bytes]]:
    """All parts are made, and the run ended before the description; and the pack that it is to become."""
    src = tree(tmp_path / "src", train=70, val=5)
    expected = contents(made(src, tmp_path / "expected", size=14).path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "_describe", stop)
        with pytest.raises(KeyboardInterrupt):
            made(src, tmp_path / "pack", size=14)
    return write.plan(src, tmp_path / "pack", format="jpeg", size=14), expected


def reseal(record: dict[str, Any]) -> str:
    record["sha256"] = pack_format.checksum(record)
    return json.dumps(record)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        record = json.loads(text)
        change(record)
        return reseal(record)

    return apply


RECORDS: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "not JSON": lambda text: "<html>",
    "a list": lambda text: "[]",
    "deep": lambda text: "[" * 100_000,
    "a flipped digit": lambda text: text.replace('"rows": [[0, 512', '"rows": [[0, 513', 1),
    "another checksum": lambda text: text.replace(json.loads(text)["part"]["sha256"], "0" * 64),
    "another label": changed(lambda record: record["rows"][0].__setitem__(3, 2)),
    "another offset": changed(lambda record: record["rows"][0].__setitem__(1, 1024)),
    "another length": changed(lambda record: record["rows"][0].__setitem__(2, 10**6)),
    "another height": changed(lambda record: record["rows"][0].__setitem__(4, 15)),
    "a huge number": changed(lambda record: record["rows"][0].__setitem__(1, 10**30)),
    "a text": changed(lambda record: record["rows"][0].__setitem__(1, "x")),
    "a row less": changed(lambda record: record["rows"].pop()),
    "no rows": changed(lambda record: record.update(rows=[])),
    "a quarantined image": changed(lambda record: record["quarantine"].append([0, "a", "empty"])),
    "a strange quarantine": changed(lambda record: record.update(quarantine=[[0, 1, None]])),
    "another file": changed(lambda record: record["part"].update(file="../x")),
    "another count": changed(lambda record: record["part"].update(bytes=1)),
    "no checksum": changed(lambda record: record["part"].pop("sha256")),
    "no part": changed(lambda record: record.pop("part")),
}


@pytest.mark.parametrize("format", RECORDS)
def test_a_record_that_is_not_right_has_its_part_made_again(
    interrupted: tuple[write.PackPlan, dict[str, bytes]], format: str
) -> None:
    plan, expected = interrupted
    record = plan.folder / "parts" / "train-00000.json"
    record.write_text(RECORDS[format](record.read_text()))
    progress: list[int] = []
    pack = write.write(plan, workers=1, progress=lambda what, done, total: progress.append(done))
    assert progress == [75], "one part is made again, and the others are not"
    assert contents(pack.path) == expected


@pytest.mark.parametrize("change", ["gone", "shorter", "longer"])
def test_a_part_whose_file_is_not_right_is_made_again(
    interrupted: tuple[write.PackPlan, dict[str, bytes]], change: str
) -> None:
    plan, expected = interrupted
    shard = plan.folder / "train-00000.tar"
    content = shard.read_bytes()
    shard.unlink()
    if change != "gone":
        shard.write_bytes(content[:-512] if change == "shorter" else content + bytes(512))
    assert contents(write.write(plan, workers=1, progress=None).path) == expected


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"x"', "[" * 100_000, "fifo", "folder"])
def test_a_plan_that_is_not_right_is_refused(
    interrupted: tuple[write.PackPlan, dict[str, bytes]], content: str
) -> None:
    plan, _ = interrupted
    file = plan.folder / "plan.json"
    file.unlink()
    if content == "fifo":
        os.mkfifo(file)
    elif content == "folder":
        file.mkdir()
    else:
        file.write_text(content)
    with pytest.raises(
        UserError, match=r"pack\.partial.* remove (it|.*pack\.partial), or choose another place"
    ) as caught:
        write.write(plan, workers=1, progress=None)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    src = tree(tmp_path / "src", train=6, val=0)
    (tmp_path / "pack.partial").mkdir()
    (tmp_path / "pack.partial" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"pack\.partial holds thesis\.tex and no plan\.json: remove it, or choose"):
        made(src, tmp_path / "pack")


def test_a_finished_pack_that_went_bad_keeps_its_name_partial(
    interrupted: tuple[write.PackPlan, dict[str, bytes]], tmp_path: Path
) -> None:
    plan, _ = interrupted
    write.write(plan, workers=1, progress=None).path.rename(plan.folder)
    (plan.folder / "train.index.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"train\.index\.npy is damaged.*: remove .*pack\.partial"):
        write.write(plan, workers=1, progress=None)
    assert not plan.dest.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    src, notes = tree(tmp_path / "src", train=6, val=0), list[str]()
    plan = write.plan(src, tmp_path / "pack", format="jpeg", size=None)
    write.write(plan, workers=1, progress=None, note=notes.append)
    assert notes == [f"the file system of {tmp_path}/pack.partial has no locks: do not run this command twice at once"]
    assert len(pack_format.read_pack(tmp_path / "pack").train.index) == 6
