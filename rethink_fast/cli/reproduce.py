"""`rethink-fast reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from ..config import PATH
from ..env import choose_device
from ..errors import in_range
from ..experiments import EXPERIMENTS, scale_of
from ..experiments.datasets import parse
from ..experiments.runner import default_out
from ..experiments.runner import reproduce as run_reproduction
from ..terminal import Terminal
from ..text import split_names

ExperimentName = Literal[
    "all",
    "table1",
    "table2",
    "table3",
    "table4",
    "figure1",
    "figure2",
    "theorem1",
    "regularisers",
    "measures",
    "stability",
    "memorization",
]


def reproduce(
    experiment: ExperimentName,
    /,
    *,
    scale: Literal["full", "laptop"] | None = None,
    seeds: int = 1,
    models: str = "",
    data: tuple[str, ...] = (),
    download: bool = False,
    out: Annotated[Path | None, PATH] = None,
    device: str = "auto",
) -> int:
    """Reproduce a table or figure of the paper, or all of them; the same command resumes where it was stopped.

    Exit code: 0 if every run asked for has a result and no finding fails, 1 if not, 2 if a data set was missing.

    Parameters
    ----------
    experiment:
        The table, figure or theorem; regularisers for the summary of those; measures for which measure predicts the
        gap; stability for what one label changes; memorization for which samples are memorised; or all.
    scale:
        full: the paper's sizes, for a GPU; laptop: an hour or two on two cores. Default: full on a GPU.
    seeds:
        Run everything with so many seeds, for spreads that the paper does not have.
    models:
        Networks, separated by commas: run theirs only, and keep what there is of the others. Default: all.
    data:
        Where a data set is, as cifar10=PATH, mnist=PATH or imagenet=PATH, once for each; by default the usual places.
    download:
        Fetch CIFAR-10 and MNIST where they are not found.
    out:
        Folder of the runs and the result. Default: reproductions/SCALE.
    device:
        cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
    """
    in_range("--seeds", seeds, 1, 1000)
    chosen = scale_of(scale or ("full" if choose_device(device).type == "cuda" else "laptop"))
    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    return run_reproduction(
        names,
        chosen,
        out or default_out(chosen),
        Terminal(),
        seeds=seeds,
        models=split_names(models),
        paths=parse(data),
        download=download,
        device=device,
    )
