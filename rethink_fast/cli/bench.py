"""`rethink-fast bench`; its options are the dataclasses of config.py."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..bench.run import run_bench
from ..config import Corruption, Data, Model, Run, RunDatasetName, Session, Train
from ..output import print_json
from ..terminal import Terminal
from ..train.distributed import Distributed


def section(name: str) -> Parameter:
    """Annotates a section of config.py, whose fields are options in a group of the help."""
    return Parameter(name="*", group=name)


def bench(
    dataset: RunDatasetName,
    /,
    *,
    data: Annotated[Data, section("Data")] = Data(),
    corruption: Annotated[Corruption, section("Corruption")] = Corruption(),
    model: Annotated[Model, section("Model")] = Model(),
    train: Annotated[Train, section("Training")] = Train(),
    session: Annotated[Session, section("Output and resuming")] = Session(),
    json: bool = False,
) -> int:
    """Train a network on a corrupted data set until it has memorised it, and measure how fast.

    Parameters
    ----------
    dataset:
        The data set; own is a pack of your own, with --data.
    json:
        Print the record as JSON on stdout, and everything else on stderr.
    """
    run = Run(dataset=dataset, data=data, corruption=corruption, model=model, train=train)
    record, code = run_bench(run, session, Terminal(stderr=json))
    wanted = json and record is not None and Distributed.from_environment().is_rank0
    printed = print_json(record) if wanted else 0
    return code or printed
