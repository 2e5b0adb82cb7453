"""The data sets of a reproduction: each opened once, whole, and handed out as large as a task wants it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from ..config import data_path
from ..data import DATASETS, DataOptions, Dataset, load_dataset, search_path
from ..data.digest import data_identity
from ..data.source import Progress, limited
from ..defaults import DEFAULTS
from ..errors import UserError, one_of
from ..measures.finished import CPU
from ..train.preprocessing import wants_windows
from .spec import ResolvedTask, Task, TheoryTask
from .theory_tasks import ON_CPU

WINDOWS, ON_THE_CPU = "windows", "cpu"
"""How a data set is opened: with random windows of its images from the source, and on the CPU whatever the device."""


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
        self._paths, self._device, self._workers, self._download = paths, device, workers, download
        self._largest: dict[tuple[str, str], int | None] = {}
        for name, kind, limit in map(self._wanted, tasks):
            before = self._largest.get((name, kind), 0)
            self._largest[name, kind] = None if limit is None or before is None else max(limit, before)
        self._open: dict[tuple[str, str], Dataset | UserError] = {}
        self._identities: dict[tuple[str, str, int | None], str] = {}

    def dataset(self, task: Task | ResolvedTask, progress: Progress | None = None) -> Dataset:
        """Return the data of a task, as large as the task needs it. Raises UserError where it cannot be opened."""
        name, kind, limit = self._wanted(task)
        if (name, kind) not in self._open:
            try:
                self._open[name, kind] = self._load(name, kind, progress)
            except UserError as error:
                self._open[name, kind] = error
        opened = self._open[name, kind]
        if isinstance(opened, UserError):
            raise opened
        return replace(opened, train=limited(opened.train, limit), test=opened.test and limited(opened.test, limit))

    def identity(self, task: Task | ResolvedTask) -> str:
        """Return the identity of the data of a task (experiments/cache.py)."""
        wanted = self._wanted(task)
        if wanted not in self._identities:
            self._identities[wanted] = data_identity(self.dataset(task))
        return self._identities[wanted]

    def _load(self, name: str, kind: str, progress: Progress | None) -> Dataset:
        path = self._paths.get(name, "auto")
        if path == "auto" and search_path.find(name) is None and not self._download:
            looked = ", ".join(str(place) for place in search_path.folders(name))
            raise UserError(f"no {name} found at {looked}", f"give --data {name}=PATH", option="--data", value=looked)
        options = DataOptions(
            path=path,
            size=DEFAULTS[name].size,
            max_samples=self._largest[name, kind],
            device=CPU if kind == ON_THE_CPU else self._device,
            workers=self._workers,
            random_windows=kind == WINDOWS,
            download=self._download and path == "auto",
            progress=progress,
        )
        return load_dataset(name, options)

    def _wanted(self, task: Task | ResolvedTask) -> tuple[str, str, int | None]:
        """Return the data set, how it is opened where that is not the usual way, and how many images are wanted."""
        if isinstance(task, TheoryTask):
            moved = task.name in ON_CPU and self._device.type != "cpu"
            limit = dict(task.options)["images"] if task.name == "memorization" else None
            return task.dataset, ON_THE_CPU if moved else "", limit
        windows = task.dataset == "imagenet" and wants_windows(task)
        return task.dataset, WINDOWS if windows else "", task.data.max_samples
