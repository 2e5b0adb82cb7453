"""The data sets of a reproduction: each opened once, whole, and handed out as large as a task wants it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from ..config import data_path
from ..data import DATASETS, DataOptions, Dataset, load_dataset, search_path, subset
from ..data.source import Progress, Split
from ..defaults import DEFAULTS
from ..errors import UserError, one_of
from ..train.preprocessing import wants_windows
from .cache import data_identity
from .spec import ResolvedTask, Task, TheoryTask


def parse(data: Sequence[str]) -> dict[str, str]:
    """Return the paths of --data cifar10=PATH ... by data set. Raises UserError."""
    paths = {}
    for word in data:
        dataset, equals, path = word.partition("=")
        if not equals or not path:
            raise UserError(
                f"--data {word} names no data set",
                "write --data cifar10=PATH, and the same for the others",
                option="--data",
                value=word,
            )
        paths[one_of("data set", dataset, DATASETS)] = data_path(path)
    return paths


class Sources:
    """Opens data sets when they are first asked for, as large as any task needs them, and remembers which cannot be.

    tasks: all tasks that will ask.
    paths: where data sets are, by name; the others are looked for in the usual places.
    workers: threads that read and decode.
    download: fetch what is not found.
    """

    def __init__(
        self, tasks: Iterable[Task], paths: dict[str, str], device: torch.device, workers: int, *, download: bool
    ) -> None:
        self._largest: dict[tuple[str, bool], int | None] = {}
        for name, windows, limit in map(_wanted, tasks):
            before = self._largest.get((name, windows), 0)
            self._largest[name, windows] = None if limit is None or before is None else max(limit, before)
        self._paths, self._device, self._workers, self._download = paths, device, workers, download
        self._open: dict[tuple[str, bool], Dataset | UserError] = {}
        self._identities: dict[tuple[str, bool, int | None], str] = {}

    def dataset(self, task: Task | ResolvedTask, progress: Progress | None = None) -> Dataset:
        """Return the data of a task, as large as the task needs it. Raises UserError where it cannot be opened."""
        name, windows, limit = _wanted(task)
        if (name, windows) not in self._open:
            try:
                self._open[name, windows] = self._load(name, windows, progress)
            except UserError as error:
                self._open[name, windows] = error
        opened = self._open[name, windows]
        if isinstance(opened, UserError):
            raise opened
        return replace(opened, train=_limited(opened.train, limit), test=opened.test and _limited(opened.test, limit))

    def identity(self, task: Task | ResolvedTask) -> str:
        """Return the identity of the data of a task (experiments/cache.py)."""
        wanted = _wanted(task)
        if wanted not in self._identities:
            self._identities[wanted] = data_identity(self.dataset(task))
        return self._identities[wanted]

    def _load(self, name: str, windows: bool, progress: Progress | None) -> Dataset:
        path = self._paths.get(name, "auto")
        if path == "auto" and search_path.find(name) is None and not self._download:
            looked = ", ".join(str(place) for place in search_path.folders(name))
            raise UserError(f"no {name} found at {looked}", f"give --data {name}=PATH", option="--data", value=looked)
        options = DataOptions(
            path=path,
            size=DEFAULTS[name].size,
            max_samples=self._largest[name, windows],
            device=self._device,
            workers=self._workers,
            random_windows=windows,
            download=self._download and path == "auto",
            progress=progress,
        )
        return load_dataset(name, options)


def _wanted(task: Task | ResolvedTask) -> tuple[str, bool, int | None]:
    """Data set, whether random windows of its images are wanted (which only ImageNet's opening has to know), limit."""
    if not isinstance(task, TheoryTask):
        return task.dataset, task.dataset == "imagenet" and wants_windows(task), task.data.max_samples
    return task.dataset, False, None


def _limited(split: Split, limit: int | None) -> Split:
    chosen = subset(len(split.labels), limit)
    whole = split.index
    return replace(split, index=chosen if len(whole) == len(split.labels) else whole[torch.isin(whole, chosen)])
