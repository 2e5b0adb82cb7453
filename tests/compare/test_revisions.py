"""Two revisions: what git and the workers are asked, the real ones. That verdicts are right is the guard's to test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import rethink_fast
from rethink_fast.cli.app import main
from rethink_fast.compare import revisions, worktrees
from rethink_fast.compare.revisions import Timed, Worker
from rethink_fast.errors import UserError

TOP = Path(rethink_fast.__file__).resolve().parents[1]
CASE = "corrupt_labels 100000 / reference"


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *names, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two commits of something that looks like this project, but cannot be imported in the second."""
    package = tmp_path / "project" / "rethink_fast"
    package.mkdir(parents=True)
    git(package.parent, "init", "--quiet")
    for text in ("", "raise ImportError('it is broken')\n"):
        (package / "__init__.py").write_text(text)
        git(package.parent, "add", "-A")
        git(package.parent, "commit", "--quiet", "--allow-empty", "-m", "one")
    return package.parent


def test_revisions_are_found(checkout: Path) -> None:
    top = worktrees.repository(checkout / "rethink_fast")
    assert top.resolve() == checkout.resolve()
    assert worktrees.commit_of(top, "HEAD~1") == git(checkout, "rev-parse", "HEAD~1")
    assert worktrees.same_sources(top, "HEAD~1", "HEAD")


@pytest.mark.parametrize("revision", ["no-such-branch", "HEAD~99", "--help", "HEAD:rethink_fast"])
def test_a_missing_revision_is_one_line(
    checkout: Path, revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="is neither a file nor a git revision"):
        worktrees.commit_of(checkout, revision)
    if revision.startswith("-"):
        return
    monkeypatch.chdir(checkout)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", revision, "HEAD"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_outside_a_checkout_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="is in no git checkout of rethink_fast"):
        worktrees.repository(tmp_path)


def interrupted(checkout: Path) -> None:
    with worktrees.worktree(checkout, git(checkout, "rev-parse", "HEAD~1")) as tree:
        assert (tree / "rethink_fast" / "__init__.py").read_text() == ""
        assert str(tree) in git(checkout, "worktree", "list")
        raise KeyboardInterrupt(str(tree))


def test_a_worktree_is_thrown_away_whatever_happens(checkout: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        interrupted(checkout)
    assert not Path(str(stopped.value)).parent.exists()
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


def test_a_revision_that_does_not_import_is_one_line(checkout: Path) -> None:
    worker = Worker(checkout)
    try:
        with pytest.raises(UserError, match="project cannot be timed: ImportError: it is broken"):
            worker.hello()
    finally:
        worker.close()


def test_what_does_not_compile_is_one_line(checkout: Path) -> None:
    (checkout / "csrc").mkdir()
    (checkout / "setup.py").write_text("raise SystemExit('no compiler')\n")
    with pytest.raises(UserError, match=r"the C\+\+ of project could not be compiled here: no compiler"):
        worktrees.build(checkout)


def test_sigterm_is_an_interruption_and_what_was_found_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After two rounds; the rounds themselves are made up, the signal and the worktrees are real."""
    if not (TOP / ".git").exists():
        pytest.skip("needs a git checkout of the project")
    names = ("HEAD", "HEAD")
    trees: list[Path] = []

    def rounds(found: tuple[Path, Path], *_: Any, into: list[Timed], **__: Any) -> None:
        trees.extend(found)
        into.append(Timed("op", [[(1.0, 1.1)], [(1.0, 1.1)]]))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(revisions, "compare", rounds)
    monkeypatch.setattr(worktrees, "build", lambda tree: None)
    monkeypatch.chdir(TOP)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *names, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(trees) == 2
    assert not any(tree.exists() for tree in trees)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["lines"][0]["verdict"] == "ambiguous"
    assert found["lines"][0]["high"] is None
    assert any(note.startswith("interrupted") for note in found["notes"])


@pytest.mark.slow
def test_both_are_timed_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of this very tree with itself, in two processes."""
    monkeypatch.setattr(revisions, "ROUNDS_SCHEDULE", (1,))
    said: list[str] = []
    (timed,) = revisions.compare((TOP, TOP), 0.03, said.append, CASE)
    assert said == [f"round 1, 1 of 1: {CASE}"]
    assert (timed.absent, timed.wrong) == ("", "")
    (pairs,) = timed.rounds
    assert len(pairs) == revisions.ROUND_PAIRS
    assert all(1e-6 < seconds < 1.0 for pair in pairs for seconds in pair)
    assert 0.2 < timed.estimate().ratio < 5.0


@pytest.mark.slow
def test_what_cannot_be_made_is_left_out_and_what_is_wrong_is_not_timed(tmp_path: Path) -> None:
    """An older tree that lacks a function, and one whose labels are wrong."""
    package = tmp_path / "tree" / "rethink_fast"
    package.parent.mkdir()
    subprocess.run(["cp", "-r", str(TOP / "rethink_fast"), str(package)], check=True)
    labels = package / "corruptions" / "partially_corrupted_labels.py"
    text = labels.read_text()
    call = "    return torch.ops.rethink_fast.corrupt_labels("
    assert text.count(call) == 1
    labels.write_text(text.replace(call, call.replace("return ", "return 1 + ")))
    models = package / "models" / "__init__.py"
    models.write_text(models.read_text() + "\ndel build_model\n")
    workers = [Worker(TOP), Worker(package.parent)]
    try:
        assert CASE in workers[0].hello()
        workers[1].hello()
        wrong, absent = Timed(CASE), Timed("network mlp_1x512, both ways")
        revisions.time_case(wrong, *workers)
        assert wrong.wrong.startswith(f"in the new: {CASE}: ")
        assert "values differ: not timed" in wrong.wrong
        revisions.time_case(absent, *workers)
        assert absent.absent.startswith("in the new: ImportError")
        assert wrong.rounds == absent.rounds == []
    finally:
        for worker in workers:
            worker.close()
