"""The rows of the suite: which are chosen, and that those of photographs give the pixels of their references."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.suite import cases, compared_cases, loader, photographs
from benchmarks.timing import IncorrectResult, checked


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(photographs, "RAW_IMAGES", 96)
    return Path(loader.jpegs().name)


def test_rows_that_take_minutes_or_data_are_chosen_by_an_option(folder: Path) -> None:
    usual, shapes = cases(), cases(paper_shapes=True)
    both = cases(paper_shapes=True, photographs=folder)
    assert {case.name for case in both} == {case.name for case in [*shapes, *photographs.cases(folder)]}
    names = [case.name for case in [*usual, *both]]
    assert len(names) == len(set(names))
    assert {case.name for case in compared_cases()} == {case.name for case in usual if case.compared}


@pytest.mark.slow
def test_rows_of_photographs_are_right(folder: Path) -> None:
    for case in photographs.cases(folder):
        made = checked(case.name, case.make())
        made.call()
        assert made.baseline is not None
        made.baseline()


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (photographs.from_folder, photographs.windows_of_whole),
        (photographs.windows, photographs.centres_of_whole),
        (photographs.decoded_jpegs, photographs.from_folder),
        (photographs.by_pil, photographs.windows_of_whole),
    ],
)
def test_other_pixels_are_not_timed(ours: photographs.Way, reference: photographs.Way, folder: Path) -> None:
    with pytest.raises(IncorrectResult, match="other values"):
        checked("a row", photographs.make(folder, ours, photographs.by_pil, "PIL", reference))
