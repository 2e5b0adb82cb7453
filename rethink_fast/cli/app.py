"""The command line: one file a command in this folder."""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError, Parameter

from .. import __version__
from ..crash import EXIT_BAD_INPUT, complain, flat, guarded
from ..env import limit_threads
from ..train.distributed import Distributed
from .bench import bench
from .compare import compare
from .env import env
from .evaluate import evaluate
from .measure import measure
from .memorize import memorize
from .pack import pack
from .plan import plan
from .report import report
from .reproduce import reproduce
from .show import show

app = App(
    name="rethink-fast",
    help="Can this network memorise noise, and how fast? Zhang et al. (2017) as a high-throughput benchmark.",
    version=f"rethink-fast {__version__}",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)
for command in (bench, measure, evaluate, memorize, reproduce, report, compare, pack, show, plan, env):
    app.command(command)


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
