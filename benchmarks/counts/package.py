"""What the package weighs: files, bytes, modules that an import loads, and its time as a share of torch's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import rethink_fast
from rethink_fast.env import version_of

from . import FOLDER, Part

IMPORT = """
import resource, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
start, before = spent(), set(sys.modules)
import torch
middle, torch_modules = spent(), set(sys.modules)
import {name}
end = spent()
ours = [m for m in set(sys.modules) - torch_modules if m.split(".")[0] == "rethink_fast"]
others = {{m.split(".")[0] for m in set(sys.modules) - torch_modules}} - {{"rethink_fast"}}
print(len(ours), len(others - set(sys.stdlib_module_names)), (end - middle) / (middle - start))
"""
TURNS = 3


def imported(name: str) -> dict[str, Any]:
    """What `import name` adds to `import torch`: the least of a few, because a busy machine only ever adds."""
    shares = []
    for _ in range(TURNS):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT.format(name=name)], capture_output=True, text=True, check=True
        )
        ours, others, share = done.stdout.split()
        shares.append(float(share))
    return {"own modules": int(ours), "other packages": int(others), "share of torch's time": round(min(shares), 3)}


def size() -> dict[str, int]:
    """Of what is installed, the compiled libraries left out: they depend on the compiler."""
    root = Path(rethink_fast.__file__).parent
    kept = [path for path in root.rglob("*") if path.suffix in (".py", ".md") and "__pycache__" not in path.parts]
    csrc = [path for path in (FOLDER.parents[1] / "csrc").rglob("*") if path.is_file()]
    return {"files": len(kept), "bytes": sum(map(_bytes, kept)), "csrc bytes": sum(map(_bytes, csrc))}


def _bytes(path: Path) -> int:
    return path.stat().st_size


def versions() -> dict[str, str | None]:
    return {"torch": version_of("torch"), "python": f"{sys.version_info.major}.{sys.version_info.minor}"}


def count() -> dict[str, Any]:
    bare = imported("rethink_fast")
    del bare["share of torch's time"]  # nothing, and so without a margin relative to it
    cli = imported("rethink_fast.bench.cli")
    return {"installed": size(), "import rethink_fast": bare, "import rethink_fast.bench.cli": cli}


MARGINS = {"bytes": 0.1, "files": 0.1, "own modules": 0.1, "share of torch's time": 0.5}
"""A package grows: what is guarded is that it does not do so by a tenth unseen. Seconds, even as a share, are noisy."""

PART = Part("package", "size, and what an import loads and takes", versions, count, MARGINS)
