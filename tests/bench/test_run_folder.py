"""The folder of a run: one owner, and a start over in it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from rethink_fast.bench import launch
from rethink_fast.bench.record_folder import FILES, RecordFolder, read_curve
from rethink_fast.config import Run
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.owned_folder import LOCK, OwnedFolder
from tests.bench.helpers import EPOCHS, SMALL, changed, check_whole, cli, load, losses, refused, unstarted

# One owner


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "o"
    with RecordFolder(folder):
        assert f"--out {folder} is in use by another process" in refused(capfd, *EPOCHS, "--out", folder)
        assert f"--resume {folder} is in use" in refused(capfd, *EPOCHS, "--resume", folder)
        assert f"--out {folder} is in use" in refused(capfd, *EPOCHS, "--seeds", "2", "--out", folder)
        assert f"--out {folder} is in use" in refused(capfd, "reproduce", "theorem1", "--out", folder)
        assert os.listdir(folder) == [LOCK]
    assert not list(folder.iterdir())
    with RecordFolder(tmp_path / "group" / "seed-0"):
        group = tmp_path / "group"
        assert f"{group / 'seed-0'} is in use" in refused(capfd, *EPOCHS, "--seeds", "2", "--resume", group)
    assert cli(*EPOCHS, "--out", folder) == 0
    assert set(FILES) <= set(os.listdir(folder))
    assert LOCK not in os.listdir(folder)


def test_of_processes_that_make_a_folder_at_once_one_owns_it(tmp_path: Path) -> None:
    for attempt in range(8):
        folder = tmp_path / "runs" / str(attempt)
        start, begin = os.pipe()
        end, finish = os.pipe()
        told, tell = os.pipe()
        children = []
        for _ in range(6):
            child = os.fork()
            if child == 0:
                os.close(begin)
                os.close(finish)
                os.read(start, 1)
                try:
                    owned = OwnedFolder(folder)
                except UserError:
                    os.write(tell, b"-")
                    os._exit(0)
                except BaseException:
                    os.write(tell, b"?")
                    os._exit(1)
                os.write(tell, b"+")
                os.read(end, 1)
                owned.close()
                os._exit(0)
            children.append(child)
        os.close(begin)
        answers = b"".join(os.read(told, 1) for _ in children)
        os.close(finish)
        for child in children:
            os.waitpid(child, 0)
        for handle in (start, end, told, tell):
            os.close(handle)
        assert sorted(answers) == sorted(b"+-----"), answers


def test_without_locks_in_the_file_system_a_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr("fcntl.flock", flock)
    assert cli(*EPOCHS, "--out", tmp_path / "o") == 0
    assert capfd.readouterr().out.count("on a file system without locks") == 1


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = resolve(Run("mnist"), on_gpu=False, cores=1)
    monkeypatch.setattr("rethink_fast.bench.launch.time.strftime", lambda how: "20260101-000000")
    assert len({launch.default_folder(run)[0] for _ in range(4)}) == 4


def test_a_folder_that_was_there_stays_when_a_run_fails(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in ("mine", "new"):
        assert cli(*SMALL, "--data", tmp_path / "nowhere", "--out", tmp_path / folder) == 2
    assert os.listdir(tmp_path) == ["mine"]
    assert not os.listdir(tmp_path / "mine")


@pytest.mark.parametrize("there", [False, True])
def test_bad_input_leaves_no_folder_that_was_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "runs").mkdir()
    for command in ([*SMALL, "--data", "nowhere"], ["compare", "nowhere", "nothing"]):
        assert cli(*command) == 2
        assert os.listdir(tmp_path) == (["runs"] if there else [])
    assert cli(*SMALL, "--data", "nowhere", "--out", "a/b/c") == 2
    assert not (tmp_path / "a").exists()


STATES: dict[str, dict[str, bytes | None]] = {
    "whole": {},
    "no config": {"config": None},
    "torn config": {"config": b'{"dataset": "mn'},
    "empty config": {"config": b""},
    "no record": {"result": None},
    "torn record": {"result": b'{"schema"'},
    "torn labels": {"labels": b"PK"},
    "nothing whole": {"config": b"\0", "result": b"\0", "labels": b""},
}


@pytest.mark.parametrize("state", STATES)
def test_a_run_without_a_checkpoint_starts_over_in_place(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    folder = unstarted(unbroken, tmp_path / "o", **STATES[state])
    assert cli(*EPOCHS, "--resume", folder) == 0
    assert "has no checkpoint: the run starts over there" in capfd.readouterr().out
    assert losses(folder) == losses(unbroken)
    assert load(folder)["n_sessions"] == 1
    check_whole(folder)


def test_an_empty_folder_starts_over_and_another_does_not(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli(*EPOCHS, "--resume", tmp_path / "empty") == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    assert "is not a run's folder, for it holds thesis.tex" in refused(capfd, *EPOCHS, "--resume", tmp_path / "other")
    folder = unstarted(unbroken, tmp_path / "o")
    line = refused(capfd, *changed("--lr", "0.5"), "--seed", "3", "--resume", folder)
    assert "is another run (seed 0 there, 3 here; lr 0.0001 there, 0.5 here)" in line
    assert cli(*changed("--epochs", "7"), "--workers", "1", "--resume", folder) == 0


def test_a_finished_run_does_not_start_over(unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = unstarted(unbroken, tmp_path / "o")
    record = {**load(unbroken), "stop_reason": "target_reached"}
    (folder / "result.json").write_text(json.dumps(record))
    assert "is a finished run, it reached its goal after" in refused(capfd, *EPOCHS, "--resume", folder)
    assert load(folder) == record


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config", b"[]", "has the value [], where an object is expected"),
        ("config", b'{"dataset": 3}', "has dataset 3, where text of at most 4,000 characters is expected"),
        ("config", b'{"dataset": "mnist", "data": [1]}', "has data [1], where an object is expected"),
        ("config", b'{"dataset": "mnist", "data": {}}', "lacks corruption"),
        ("config", b"[" * 40 + b"]" * 40, "is nested deeper than 32 levels"),
        ("config", b"[" * 10**6, "is not whole JSON"),
        ("result", b"3", "has the value 3"),
        ("result", b'{"schema": "x"}', "has schema x, where a whole number of at least 0 is expected"),
    ],
)
def test_strange_content_is_named(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    folder = unstarted(unbroken, tmp_path / "o", **{name: content})
    if said == "is not whole JSON":
        assert cli(*EPOCHS, "--resume", folder) == 0
        return
    line = refused(capfd, *EPOCHS, "--resume", folder)
    assert f"{folder / name}.json {said}" in line
    assert (folder / f"{name}.json").read_bytes() == content


def test_one_seed_without_a_checkpoint_does_not_stop_the_others(
    unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    group = tmp_path / "o"
    assert cli(*EPOCHS, "--seeds", "3", "--out", group) == 0
    first = load(group)
    shutil.rmtree(group / "seed-0")
    unstarted(unbroken, group / "seed-0")
    shutil.rmtree(group / "seed-2")
    (group / "result.json").write_text("{")
    assert cli(*EPOCHS, "--seeds", "3", "--resume", group) == 0
    assert [one["train_loss"] for one in load(group)["runs"]] == [one["train_loss"] for one in first["runs"]]
    assert load(group)["runs"][1] == first["runs"][1]
    assert "seed 1 is finished" in capfd.readouterr().out
    line = refused(capfd, *changed("--lr", "0.3"), "--seeds", "3", "--resume", group)
    assert "lr 0.0001 there, 0.3 here" in line
    assert "holds runs with several seeds: give --seeds" in refused(capfd, *EPOCHS, "--resume", group)
    assert "is a run with one seed" in refused(capfd, *EPOCHS, "--seeds", "2", "--resume", unbroken)
    (group / "seed-1" / "result.json").write_text(json.dumps({**load(group / "seed-1"), "time_to_memorize": [1]}))
    line = refused(capfd, *EPOCHS, "--seeds", "3", "--resume", group)
    assert f"{group / 'seed-1' / 'result.json'} has time_to_memorize [1], where an object is expected" in line


def test_the_curve_has_a_fixed_word_for_what_is_not_finite(unbroken: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,train_loss,test_loss,online_loss\n1,nan,,-inf\n")
    assert read_curve(path) == ({"epoch": 1.0, "train_loss": None, "test_loss": None, "online_loss": None},)
    assert [row["online_loss"] for row in read_curve(unbroken / "metrics.csv")] == [float(x) for x in losses(unbroken)]
    for wrong in ("epoch\nx\n", "epoch\n1,2\n", "epoch,b\n1\n", "epoch\n1\0\n", f"epoch\n{'1' * 200_000}\n"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"."):
            read_curve(path)
