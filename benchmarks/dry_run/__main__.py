"""`python -m benchmarks.dry_run [--update] [--folder FOLDER] [NETWORK...]`: the libraries, and all counts compared.

With networks, only their counts are printed.

Exit status: 0 where everything is as committed, 1 where something differs or fails, 2 where something is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.counts import Part, Unavailable, check
from rethink_fast.files import read_json, write_json
from rethink_fast.models import MODELS

from .absent_h100 import shims
from .environments import FOLDER, ROOT, environment, missing_tools, supported
from .libraries import crosswise

NETWORKS = [name for name in MODELS if name not in ("wrn_28_1", "inception_small_quarter")]
"""The paper's, whose steps are counted."""


def versions(python: Path) -> dict[str, str | None]:
    """What the counts depend on."""
    code = "import torch, triton; print(torch.__version__, triton.__version__)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(zip(("torch", "triton"), said.split(), strict=True))


def count(python: Path, folder: Path, networks: list[str]) -> dict[str, Any]:
    """Return the counts of step.py by network, one process after another.

    Each network's counts are kept in folder/counts, and taken from there while the code and the versions are the same:
    a run that was stopped goes on where it was.

    Raises RuntimeError, after the last network, with the errors of those whose step failed.
    """
    caches = {name: str(folder / name.lower()) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    child = {**os.environ, **shims(folder / "shims"), **caches, "PYTHONPATH": str(ROOT)}
    child.pop("TRITON_INTERPRET", None)
    kept = folder / "counts" / digest(versions(python))
    kept.mkdir(parents=True, exist_ok=True)
    failures = []
    for network in networks:
        if (path := kept / f"{network}.json").exists():
            print(f"{network} is counted: {path}", flush=True)
            continue
        print(f"compiling the step of {network}", flush=True)
        command = [str(python), "-m", "benchmarks.dry_run.step", network]
        done = subprocess.run(command, cwd=ROOT, env=child, capture_output=True, text=True, check=False)
        if done.returncode:
            failures.append(f"{network}: exit status {done.returncode}\n{done.stderr}")
        else:
            write_json(path, json.loads(done.stdout))
    if failures:
        raise RuntimeError("\n".join(failures))
    return {network: read_json(kept / f"{network}.json") for network in networks}


def digest(versions: dict[str, str | None]) -> str:
    """Return a name for what the counts depend on: these versions, and the code of the package and of the dry run."""
    said = hashlib.sha256(repr(versions).encode())
    for path in sorted(path for name in ("rethink_fast", "benchmarks") for path in (ROOT / name).rglob("*.py")):
        said.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return said.hexdigest()[:12]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.dry_run", description="What a GPU would be given, without one.")
    alone = f"print the counts of these alone, of {', '.join(MODELS)}"
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=alone)
    parser.add_argument("--update", action="store_true", help="write the counts in place of those committed")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for the environments, 12 GB")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.networks if name not in MODELS]
    if unknown:
        parser.error(f"network {unknown[0]!r} is unknown: choose of {', '.join(MODELS)}")
    if given.update and given.networks:
        parser.error("--update writes the counts of all networks: name none")
    folder = given.folder.resolve()
    if lacking := missing_tools():
        print("\n".join(lacking))
        return 2
    try:
        pythons = {version: environment(version, folder) for version in supported()}
    except Unavailable as error:
        print(error)
        return 2
    newest = pythons[supported()[1]]
    if given.networks:
        print(json.dumps(count(newest, folder, given.networks), indent=1))
        return 0
    failures = crosswise(pythons, folder)
    print("\n".join(failures) or f"both libraries load into torch {' and '.join(pythons)}, whichever built them")
    part = Part(
        "gpu_step",
        "launches, bytes, registers and spills of a training step on an H100",
        partial(versions, newest),
        partial(count, newest, folder, NETWORKS),
    )
    outcome = check(part, update=given.update)
    print(f"gpu_step: {outcome.said}", *outcome.lines, sep="\n  ")
    return 1 if failures or outcome.said in ("differs", "not compared") else 0


if __name__ == "__main__":
    sys.exit(main())
