"""The command line: bench, compare, pack, show, plan and env; the options of bench are the dataclasses of config.py."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.table import Table

from .. import __version__
from ..bench.run import run_bench
from ..config import DATA, PATH, AugmentName, Corruption, Data, DatasetName, Model, Run, Session, Train
from ..crash import EXIT_BAD_INPUT, complain, flat, guarded
from ..env import Backend, backends, cores, environment, limit_threads
from ..errors import UserError, in_range
from ..kernels import native
from ..output import print_json
from ..terminal import Terminal
from ..train.distributed import Distributed
from . import pack as pack_view
from . import plan as planning
from .compare import compare
from .measure import measure
from .plan_inputs import Plan, gather
from .reproduce import report, reproduce
from .show import SHOWN, ShownName, run_show

app = App(
    name="rethink-fast",
    help="Can this network memorise noise, and how fast? Zhang et al. (2017) as a high-throughput benchmark.",
    version=f"rethink-fast {__version__}",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)

app.command(compare)
app.command(measure)
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
    record, code = run_bench(run, session, Terminal(stderr=json))
    printed = print_json(record) if json and record is not None else 0
    return code or printed


@app.command
def pack(
    src: Annotated[Path | None, PATH] = None,
    dest: Annotated[Path | None, PATH] = None,
    /,
    *,
    verify: Annotated[Path | None, PATH] = None,
    format: Literal["jpeg", "npy"] = "jpeg",
    size: int | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Make an image tree ready once: verified, numbered for life, and in few large files that train at full speed.

    A run that is stopped goes on by the same command. Then: rethink-fast bench imagenet --data DEST

    Parameters
    ----------
    src:
        A folder with train/CLASS and val/ or test/, any folder of class folders, or a pack in jpeg format.
    dest:
        The pack, a folder that appears once it is whole.
    verify:
        Only check the bytes of this pack.
    format:
        jpeg: tar shards in the WebDataset convention; npy: decoded images in one .npy file per split.
    size:
        Bring the images to this height and width, as for the run. Default: as they are, jpeg with the bytes they have.
    workers:
        Processes. Default: the number of cores.
    json:
        Print what is in the pack as JSON on stdout, and everything else on stderr.
    """
    console = Terminal(stderr=json)
    processes = min(cores(), 1024) if workers is None else in_range("--workers", workers, 1, 1024)
    if verify is not None:
        if src is not None:
            raise UserError(f"--verify {verify} only checks a pack: leave out {src}.")
        made = pack_view.check(verify, workers=processes, console=console)
    elif src is None or dest is None:
        raise UserError("pack needs SRC and DEST, or --verify DEST.")
    else:
        made = pack_view.make(src, dest, format=format, size=size, workers=processes, console=console)
    return print_json(pack_view.as_dict(made)) if json else 0


@app.command
def show(
    dataset: DatasetName,
    /,
    *,
    corruption: Annotated[tuple[ShownName, ...], SHOWN] = ("all",),
    samples: Annotated[int, Parameter(name=("--samples", "-n"))] = 4,
    out: Annotated[Path, PATH] = Path("sheet.png"),
    data: Annotated[str, DATA] = "auto",
    size: int | None = None,
    augment: tuple[AugmentName, ...] = (),
    seed: int = 0,
    probability: float | None = None,
) -> int:
    """Draw some training samples under the corruptions, as the network sees them, with their labels before and after.

    Parameters
    ----------
    dataset:
        The data set.
    corruption:
        The randomization, a row; all of them by default. May be given several times.
    samples:
        How many samples, a column each.
    out:
        The picture, a PNG.
    data:
        A path, auto or synthetic, as in bench.
    size:
        Height and width of the network's input, in pixels.
    augment:
        Show each sample with this random augmentation as well. May be given several times.
    seed:
        Seed of the corruption and the augmentation.
    probability:
        With partial: the probability that a label is drawn anew. Default: 0.5.
    """
    console = Terminal()
    run_show(dataset, corruption, samples, out, data, size, augment, seed, probability, console)
    return 0


@app.command
def plan(dataset: DatasetName, /, *, plan: Annotated[Plan, Parameter(name="*")] = Plan(), json: bool = False) -> int:
    """Say what a full run will take: hours, energy, disk, memory, the bottleneck, and the floor of its arithmetic.

    Parameters
    ----------
    dataset:
        The data set.
    json:
        Print it as JSON.
    """
    inputs = gather(dataset, plan)
    if json:
        return print_json(planning.as_dict(inputs))
    planning.show(inputs, Terminal())
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
        return print_json({**facts, "backends": [asdict(backend) for backend in found]})
    console = Terminal()
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


def run(arguments: list[str] | None) -> int:
    """Carry out the command line and return the exit code. Raises what a command raises."""
    limit_threads(Distributed.from_environment().local_world_size)
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        # Every rank has the same words on its command line, and one line is enough.
        if Distributed.from_environment().is_rank0:
            complain(flat(error))
        return EXIT_BAD_INPUT
    return code if isinstance(code, int) else 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit, as `rethink-fast` does."""
    sys.exit(guarded(lambda: run(arguments)))
