"""`rethink-fast memorize`: trains the models of a population that are not there yet, and scores every sample."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from ..bench.console import ConsoleProgress
from ..bench.launch import check_launch
from ..bench.run import launched, open_data, with_size
from ..bench.signals import GracefulStop
from ..config import Run, Session
from ..crash import save_in
from ..data import Dataset
from ..data.digest import key_of
from ..data.own import OwnData
from ..defaults import ResolvedRun, resolve
from ..env import cores, unused_gpu
from ..errors import Interrupted, UserError, in_range
from ..files import check_writable
from ..train.determinism import deterministic
from ..train.distributed import Distributed
from ..train.process_group import device_for_rank
from ..train.setup import RunContext, build_run
from . import folder as files
from . import result, sheet, view
from .influence import check_whole
from .plan import check_covered, missing
from .population import MOST, side_by_side
from .result import InfluenceName, Memorization
from .scores import score
from .training import train_models

LONG = timedelta(days=30)
"""How long a rank waits for another that still trains; one that died is noticed at once."""


@dataclass(frozen=True)
class Options:
    """models: how many. ratio: of the samples in each one's training set. out: None for a folder by the settings.

    influence: "top" keeps the samples of largest influence on each test image, "all" the whole matrix.
    """

    models: int = 40
    ratio: float = 0.7
    influence: InfluenceName = "top"
    out: Path | None = None


def run_memorize(
    run: Run, options: Options, console: Console | None, own: OwnData | None = None
) -> tuple[Memorization | None, int]:
    """Train a population, and return the result with an exit code: 0, or 128 + N after signal N, with None.

    Under torchrun the ranks share the models; those that are not the first return None.

    console: where to print; None prints nothing and logs warnings.
    own: the data sets of Run("own").
    Raises UserError for bad input.
    """
    with launched(console) as (ranks, screen, stop):
        try:
            found = _run(run, options, screen, stop, ranks, own)
        except Interrupted:
            return None, 128 + (stop.signal or signal.SIGTERM)
    return found, 0


def _run(
    run: Run, options: Options, screen: ConsoleProgress, stop: GracefulStop, ranks: Distributed, own: OwnData | None
) -> Memorization | None:
    with ranks.raise_together():
        check_options(run, options)
        check_launch(Session(out=options.out or Path()), run, ranks)
        run = with_size(run, own)
        device = device_for_rank(ranks, run.train.device)
        if device.index is not None:
            torch.cuda.set_device(device)
        resolved = resolve(run, on_gpu=device.type == "cuda", cores=max(1, cores() // ranks.local_world_size))
    if (out := options.out) is not None:
        ranks.on_rank0(lambda: check_writable(out / files.SETTINGS, "choose another folder", option="--out"))
    with ExitStack() as stack:
        stack.enter_context(deterministic(resolved.train.deterministic))
        stack.enter_context(screen)
        with ranks.raise_together():
            setup = _open(resolved, device, options, screen, stop, ranks, own)
        settings = files.identity(setup, options.ratio)
        ranks.assert_same({name: settings[name] for name in ("samples", "device")})
        path = options.out or default_out(settings)

        def take() -> list[range]:
            owned = stack.enter_context(files.own(path, settings))
            for note in (unused_gpu(run.train.device), *setup.dataset.notes, owned.note):
                if note:
                    screen.warn(note)
            return _there(path, options.models, setup, screen)

        there = ranks.on_rank0(take)
        save_in(path)
        if ranks.is_rank0:
            view.begin(screen, setup, options.models, options.ratio, sum(map(len, there)))
        try:
            _train(path, there, setup, options, screen, stop, ranks)
        except Interrupted:
            screen.print(
                f"stopped: the models that are done are kept in {path}, and the same command goes on from there"
            )
            raise
        with ranks.raise_together():
            if not ranks.is_rank0:
                return None
            found = finish(path, setup, settings, options.influence, stop.check)
            view.show(screen, found.values, path)
            return found


def check_options(run: Run, options: Options) -> None:
    """Raise UserError for a value out of range, or an option of bench that has no effect here."""
    in_range("--models", options.models, 2, 100_000)
    if not 0 < options.ratio < 1:
        raise UserError(
            f"--ratio {options.ratio} is out of range",
            "choose one between 0 and 1, neither of them",
            option="--ratio",
            value=options.ratio,
            allowed="(0, 1)",
        )
    for name, value, why in (
        (
            "--eval-interval",
            run.train.eval_interval,
            "a model is evaluated when its online accuracy is near the target",
        ),
        ("--compile", None if run.train.compile != "on" else "on", "the steps of a population are not compiled"),
    ):
        if value is not None:
            raise UserError(f"{name} {value} has no effect here", f"omit it: {why}", option=name, value=value)


def _open(
    run: ResolvedRun,
    device: torch.device,
    options: Options,
    screen: ConsoleProgress,
    stop: GracefulStop,
    ranks: Distributed,
    own: OwnData | None,
) -> RunContext:
    dataset: Dataset = open_data(run, device, screen, stop, processes=ranks.local_world_size, own=own)
    if not dataset.train.images.resident:
        raise UserError(
            f"the images of {dataset.data_source} stream, and {options.models} models would decode them in every epoch",
            "add --cache-images device, or --max-samples with as many as fit into memory",
            option="--cache-images",
            value=run.data.cache_images,
            allowed="device",
        )
    setup = build_run(run, dataset, device)
    check_covered(setup, options.models, options.ratio, stop.check)
    if options.influence == "all" and dataset.test is not None:
        check_whole(len(dataset.test.index), len(dataset.train.index))
    return setup


def default_out(settings: dict[str, Any]) -> Path:
    """Return memorized/DATASET-MODEL-KEY in the current folder, the key by all settings: the same command finds it."""
    name = re.sub(r"[^\w.]+", "-", settings["model"])
    return Path("memorized") / f"{settings['dataset']}-{name}-{key_of(settings)[:8]}"


def _there(path: Path, models: int, setup: RunContext, screen: ConsoleProgress) -> list[range]:
    """Return the models that are there and whole; files that are not are removed, saying so. Raises UserError."""
    for group in files.groups_in(path):
        if group.stop > models:
            raise UserError(
                f"--out {path} holds models up to {group.stop - 1} already, and --models is {models}",
                f"give --models {group.stop} or more, or choose another folder by --out",
                option="--models",
                value=models,
                allowed=f"at least {group.stop}",
            )
    return files.usable_groups(path, setup, screen.warn)


def _train(
    path: Path,
    there: list[range],
    setup: RunContext,
    options: Options,
    screen: ConsoleProgress,
    stop: GracefulStop,
    ranks: Distributed,
) -> None:
    """Train this rank's share of the models that are missing, and wait for the others'."""
    done = dist.new_group(backend="gloo", timeout=LONG) if ranks.is_distributed else None
    most = min(MOST, -(-options.models // ranks.world_size)) if side_by_side(setup.run) else 1
    groups = missing(there, options.models, most)
    mine = list(itertools.islice(groups, ranks.rank, None, ranks.world_size))
    progress = view.Progress(screen, sum(map(len, mine)), setup.run.train.epochs)
    error: UserError | Interrupted | None = None
    try:
        for group in mine:
            progress.begin(group)
            files.save(path, group, train_models(setup, group, options.ratio, stop.check, progress.tick))
            progress.end()
    except (UserError, Interrupted) as caught:
        error = caught
    if done is not None:
        dist.barrier(done)
    with ranks.raise_together():
        if error is not None:
            raise error


def finish(
    path: Path,
    setup: RunContext,
    settings: dict[str, Any],
    influence: InfluenceName,
    check: Callable[[], None],
) -> Memorization:
    """Score the samples by all models in a folder, write the results there, and return them. Raises UserError.

    settings: from `folder.identity`. influence: as in Options. check: raises Interrupted to stop.
    """
    parts = []
    for group in files.groups_in(path):
        check()
        parts.append(files.load(path, group, setup))
    scores = score(setup, parts)
    found = Memorization(path, result.summary(setup, settings, scores, parts), scores)
    sheet.save(path / "contact-sheet.png", setup, scores)
    result.keep(path, found, parts, setup, influence)
    return found
