"""The table that `pytest benchmarks` ends with: time, the ratio to the baseline, and the share of what is possible."""

from __future__ import annotations

import os
from statistics import median
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

from rethink_fast.env import environment
from rethink_fast.files import user_path

torch.set_num_threads(1)  # of a shared machine, one core is what there is to rely on


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rethink_fast", "rows that are timed in place of the usual ones")
    group.addoption("--paper-shapes", action="store_true", help="the ops at the paper's shapes (minutes)")
    group.addoption("--photographs", type=user_path, metavar="FOLDER", help="reading FOLDER, class folders of JPEGs")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the package remembers about temporary data sets out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """The machine as every record of the package has it."""
    machine_info.clear()
    machine_info |= environment()


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Without the cases' own text, which holds addresses."""
    for case in output_json["benchmarks"]:
        case.pop("params", None)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = [row for row in session.benchmarks if row.stats and row.stats.data] if session is not None else []
    if not rows:
        return
    table = Table(header_style="bold")
    for place, column in enumerate(("case", "ms", "times as fast", "as", "at least", "of copy", "of matrix")):
        table.add_column(column, justify="left" if place in (0, 3) else "right")
    for row in rows:
        extra = row.extra_info
        share = [f"{extra[key][0]:.0%}" if key in extra else "" for key in ("share_of_copy", "share_of_matrix")]
        ratio = f"{median(extra['times_as_fast']):.2f}" if "times_as_fast" in extra else ""
        least = f"{extra['min_speedup']:g}" if extra.get("min_speedup") else ""
        name = row.name.removeprefix("test_case[").removesuffix("]")
        table.add_row(name, f"{1e3 * row.stats.median:.3f}", ratio, extra.get("baseline", ""), least, *share)
    terminalreporter.ensure_newline()
    Console(highlight=False, width=140).print(table)
