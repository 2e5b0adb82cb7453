"""`rethink-fast env`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from ..env import Backend, backends, environment
from ..kernels import native
from ..output import print_json
from ..terminal import Terminal


def env(*, json: bool = False) -> int:
    """Show versions, processor and GPU, and which backends are usable; for each that is not, why and what to do.

    Parameters
    ----------
    json:
        Print it as JSON.
    """
    facts = environment()
    available = [*backends(), *_compiled_kernels()]
    if json:
        return print_json({**facts, "backends": [asdict(backend) for backend in available]})
    console = Terminal()
    console.print(_versions(facts))
    table = Table("backend", "usable", "why", "what to do", header_style="bold")
    for backend in available:
        table.add_row(backend.name, "yes" if backend.usable else "no", backend.why, backend.do)
    console.print(table)
    return 0


def _versions(facts: dict[str, Any]) -> Table:
    gpu, git = facts["gpu"], facts["git"]
    lines = {
        "rethink-fast": facts["rethink_fast"],
        "python": facts["python"],
        **facts["packages"],
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "GPU": f"{gpu['name']}, driver {gpu['driver']}" if gpu else "none",
        "git": f"{git['revision']}{', with local changes' if git['dirty'] else ''}" if git["revision"] else "-",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        table.add_row(name, str(value or "not installed"))
    return table


def _compiled_kernels() -> list[Backend]:
    names = {"C++ kernels": "_native", "CUDA C++ kernels": "_native_cuda"}
    loaded = {name: native.load(library) for name, library in names.items()}
    return [Backend(name, status.usable, status.why, status.do) for name, status in loaded.items()]
