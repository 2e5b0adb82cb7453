"""What cannot be written is said before the work whose result it takes: one line, exit code 2, nothing left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from rethink_fast import UserError
from rethink_fast.files import check_writable
from rethink_fast.pack.dataset import pack_dataset
from tests.bench.helpers import cli, fill, refused

DATA = ("mnist", "--data", "synthetic", "--max-samples", "30", "--device", "cpu")
WORK = {
    "measure": "rethink_fast.measures.finished.open_run",
    "memorize": "rethink_fast.memorize.run.open_data",
    "report": "rethink_fast.report.write.open_runs",
    "reproduce": "rethink_fast.experiments.runner.Reproduction._enter",
    "compare": "rethink_fast.compare.run.compare_revisions",
    "show": "rethink_fast.cli.show.load_dataset",
    "pack": "rethink_fast.pack.plan.open_tree",
    "bench": "rethink_fast.bench.run.open_data",
}
"""What takes the time, by verb."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    assert cli("bench", *DATA, "--epochs", "1", "--out", tmp_path / "run") == 0
    return tmp_path / "run"


def words(verb: str, run: Path, out: Path) -> list[str | Path]:
    """A command that writes to `out`, or to the run."""
    commands: dict[str, list[str | Path]] = {
        "measure": ["measure", run],
        "memorize": ["memorize", *DATA, "--models", "12", "--ratio", "0.5", "--out", out],
        "report": ["report", run, "--out", out],
        "reproduce": ["reproduce", "measures", "--scale", "laptop", "--device", "cpu", "--out", out],
        "compare": ["compare", "HEAD~1", "HEAD", "--out", out],
        "show": ["show", "mnist", "--data", "synthetic", "--out", out / "sheet.png"],
        "pack": ["pack", run, out / "pack"],
        "bench": ["bench", *DATA, "--out", out],
    }
    return commands[verb]


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def is_refused_at_once(
    verb: str, run: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    with monkeypatch.context() as patched:
        patched.setattr(WORK[verb], lambda *_, **__: pytest.fail("the work has begun"))
        return refused(capfd, *words(verb, run, out))


@pytest.mark.parametrize("verb", [verb for verb in WORK if verb != "measure"])
def test_a_file_where_the_folder_should_be(
    verb: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    said = is_refused_at_once(verb, run, tmp_path / "file" / "out", monkeypatch, capfd)
    assert "cannot be written (Not a directory)" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("measure", "measures.json"),
        ("report", "report.html"),
        ("report", "report.md"),
        ("reproduce", "reproduction.json"),
        ("reproduce", "grid.csv"),
        ("show", "sheet.png"),
    ],
)
def test_a_folder_where_the_file_should_be(
    verb: str, name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = (run if verb == "measure" else tmp_path / "out") / name
    place.mkdir(parents=True)
    before = tree(tmp_path)
    said = is_refused_at_once(verb, run, tmp_path / "out", monkeypatch, capfd)
    assert f"{place} cannot be written (Is a directory)" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["scores.csv", "predictions.npz", "influence.npz", "contact-sheet.png"])
def test_a_population_looks_at_every_result_before_it_trains(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = words("memorize", run, tmp_path / "out")
    assert cli(*command) == 0
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).mkdir()
    monkeypatch.setattr("rethink_fast.memorize.run._train", lambda *_: pytest.fail("the work has begun"))
    assert f"{name} cannot be written (Is a directory)" in refused(capfd, *command)


@pytest.mark.parametrize("verb", WORK)
def test_a_full_disk(
    verb: str,
    run: Path,
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    disk = small_disk("32m")
    moved = Path(shutil.copytree(run, disk / "run"))
    fill(disk)
    before = tree(disk)
    assert "(No space left on device)" in is_refused_at_once(verb, moved, disk / "out", monkeypatch, capfd)
    assert tree(disk) == before


def test_a_data_set_is_not_read_for_a_pack_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    images = TensorDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rethink_fast.pack.dataset.load_own", lambda *_: pytest.fail("the work has begun"))
        with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"):
            pack_dataset(images, tmp_path / "file" / "pack")


def test_the_attempt_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    check_writable(tmp_path / "a.json", "make room")
    check_writable(tmp_path / "new" / "deep" / "a.json", "make room")
    assert tree(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"--out .*gone/a.json cannot be written .*: make room"):
        check_writable(tmp_path / "gone" / "a.json", "make room", option="--out")
