"""Runs in one process, one after another: memory, file descriptors and threads stay where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROUNDS, SETTLED = 8, 2
REPEATED = """
import json, os, sys
from contextlib import redirect_stdout
from rethink_fast.cli.app import main

def facts():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    kib = {name: int(status[name].split()[0]) for name in ("VmRSS", "Threads")}
    return [kib["VmRSS"] / 1024, kib["Threads"], len(os.listdir("/proc/self/fd"))]

found = []
for k in range(int(sys.argv[1])):
    with open(os.devnull, "w") as null, redirect_stdout(null):
        try:
            main(["bench", *sys.argv[3:], "--model", "mlp_1x512", "--out", f"{sys.argv[2]}/{k}"])
        except SystemExit as end:
            assert not end.code
    found.append(facts())
print(json.dumps(found))
"""
RUNS = {
    "resident": "mnist --data synthetic --max-samples 300 --corruption random --epochs 2",
    "decoded": "imagenet --data {tree} --size 75 --cache-images none --corruption random --epochs 2",
    "augmented": "cifar10 --data synthetic --max-samples 200 --corruption gaussian --augment crop --augment flip "
    "--epochs 2",
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", RUNS)
def test_repeated_runs_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    """After the first rounds, in which libraries set themselves up, all runs together add less than 2 MB.

    A network with its gradients and momentum is 5 MB or more, which a reference cycle would keep until Python's
    collector comes by. Large blocks are mapped separately here: else the allocator keeps 20 MB or gives them back,
    from run to run.
    """
    for k in range(30):
        file = tmp_path / "tree" / "train" / f"class{k % 2}" / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (90, 90, 3), np.uint8)).save(file)
    words = RUNS[name].format(tree=tmp_path / "tree").split()
    command = [sys.executable, "-c", REPEATED, str(ROUNDS), str(tmp_path), *words]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    settled = found[SETTLED:]
    assert settled[-1][1:] == settled[0][1:], found
    assert settled[-1][0] - settled[0][0] < 2, found
