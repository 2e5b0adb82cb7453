"""The command line: `rethink-fast bench ...` and `rethink-fast env`, made from the dataclasses of config.py."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..config import Corruption, Data, DatasetName, Model, Run, Session, Train
from ..env import Backend, backends, choose_device, environment
from ..errors import UserError
from ..experiments import EXPERIMENTS, scale_of
from ..kernels import native
from ..report import write_report
from .reproduce import default_out
from .reproduce import reproduce as run_reproduction
from .run import EXIT_BAD_INPUT, run_bench
from .sources import parse

ExperimentName = Literal[
    "all", "table1", "table2", "table3", "table4", "figure1", "figure2", "theorem1", "regularisers"
]

app = App(
    name="rethink-fast",
    help="Can this network memorise noise, and how fast? Zhang et al. (2017) as a high-throughput benchmark.",
    version=f"rethink-fast {__version__}",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)


def _section(name: str) -> Parameter:
    return Parameter(name="*", group=name)


@app.command
def bench(
    dataset: DatasetName,
    /,
    *,
    data: Annotated[Data, _section("Data")] = Data(),
    corruption: Annotated[Corruption, _section("Corruption")] = Corruption(),
    model: Annotated[Model, _section("Model")] = Model(),
    train: Annotated[Train, _section("Training")] = Train(),
    session: Annotated[Session, _section("Session")] = Session(),
    json: bool = False,
) -> int:
    """Train a network on a corrupted data set until it has memorised it, and measure how fast.

    Parameters
    ----------
    dataset:
        The data set.
    json:
        Print the record as JSON on stdout, and everything else on stderr.
    """
    run = Run(dataset=dataset, data=data, corruption=corruption, model=model, train=train)
    record, code = run_bench(run, session, Console(stderr=json, highlight=False))
    if json and record is not None:
        print(json_module.dumps(record, indent=2))
    return code


@app.command
def reproduce(
    experiment: ExperimentName,
    /,
    *,
    scale: Literal["full", "laptop"] | None = None,
    seeds: int = 1,
    data: tuple[str, ...] = (),
    download: bool = False,
    out: Path | None = None,
    device: str = "auto",
) -> int:
    """Reproduce a table or figure of the paper, or all of them; the same command goes on where it was stopped.

    Exit code: 0 if every run has a result and every finding holds, 1 if not, 2 if a data set was missing.

    Parameters
    ----------
    experiment:
        The table, figure or theorem; regularisers for the summary of those; or all.
    scale:
        full: the paper's sizes, for a GPU; laptop: half an hour on two cores. Default: full on a GPU.
    seeds:
        Run everything with so many seeds, for spreads that the paper does not have.
    data:
        Where a data set is, as cifar10=PATH, mnist=PATH or imagenet=PATH, once for each; by default the usual places.
    download:
        Fetch CIFAR-10 and MNIST where they are not found.
    out:
        Folder of the runs and the result. Default: reproductions/SCALE.
    device:
        cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
    """
    if not 1 <= seeds <= 1000:
        raise UserError(f"--seeds {seeds} is out of range: choose one in [1, 1000].")
    chosen = scale_of(scale or ("full" if choose_device(device).type == "cuda" else "laptop"))
    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    return run_reproduction(
        names,
        chosen,
        out or default_out(chosen),
        Console(highlight=False),
        seeds=seeds,
        paths=parse(data),
        download=download,
        device=device,
    )


@app.command
def report(folder: Path, /) -> int:
    """Make a page (report.html), a text (report.md) and pictures of what `rethink-fast reproduce` left in a folder.

    Parameters
    ----------
    folder:
        The folder that was --out of `rethink-fast reproduce`.
    """
    for path in write_report(folder):
        print(path)
    return 0


@app.command
def env(*, json: bool = False) -> int:
    """Show versions, processor and GPU, and which backends are usable; for each that is not, why and what to do.

    Parameters
    ----------
    json:
        Print it as JSON.
    """
    facts = environment()
    found = [*backends(), *_compiled_kernels()]
    if json:
        print(json_module.dumps({**facts, "backends": [asdict(backend) for backend in found]}, indent=2))
        return 0
    console = Console(highlight=False)
    gpu, git = facts["gpu"], facts["git"]
    lines = {
        "rethink-fast": facts["rethink_fast"],
        "python": facts["python"],
        **facts["packages"],
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "GPU": f"{gpu['name']}, driver {gpu['driver']}" if gpu else "none",
        "git": f"{git['revision']}{', with local changes' if git['dirty'] else ''}" if git["revision"] else "-",
    }
    versions = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        versions.add_row(name, str(value or "not installed"))
    console.print(versions)
    table = Table("backend", "usable", "why", "what to do", header_style="bold")
    for backend in found:
        table.add_row(backend.name, "yes" if backend.usable else "no", backend.why, backend.do)
    console.print(table)
    return 0


def _compiled_kernels() -> list[Backend]:
    names = {"C++ kernels": "_native", "CUDA C++ kernels": "_native_cuda"}
    loaded = {name: native.load(library) for name, library in names.items()}
    return [Backend(name, status.usable, status.why, status.do) for name, status in loaded.items()]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 for bad input (one line on stderr), 128 + N after signal N."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except (CycloptsError, UserError) as error:
        print(f"rethink-fast: {' '.join(str(error).split())}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
