"""The command line: `rethink-fast bench ...` and `rethink-fast env`, made from the dataclasses of config.py."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..config import Corruption, Data, DatasetName, Model, Run, Session, Train
from ..env import Backend, backends, environment
from ..errors import UserError
from ..kernels import native
from .reproduce_cli import report, reproduce
from .run import EXIT_BAD_INPUT, run_bench

app = App(
    name="rethink-fast",
    help="Can this network memorise noise, and how fast? Zhang et al. (2017) as a high-throughput benchmark.",
    version=f"rethink-fast {__version__}",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)

app.command(reproduce)
app.command(report)


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
