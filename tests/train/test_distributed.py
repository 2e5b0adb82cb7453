"""Several ranks, as real processes under torchrun: the same run as one, and nothing lost when one of them dies."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast.bench.launch import check_launch
from rethink_fast.cli.app import app, main
from rethink_fast.config import Data, Model, Run, Session
from rethink_fast.data.loader import BatchShard
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.train.checkpoint import NEWEST
from rethink_fast.train.distributed import SINGLE_PROCESS, Distributed
from rethink_fast.train.process_group import device_for_rank
from rethink_fast.train.setup import check_ranks
from tests.train.distributed_worker import LIMIT, MODELS, work

HERE = Path(__file__).parent
EXACT = 1e-6
"""With the network in float64 its sums, in another order on several ranks, differ by 1e-14. The loss and its gradient
by the logits are float32: each sample's is rounded to 6e-8 of itself, some ten times on the way. Batch norm over each
rank's own samples, or gradients weighted by ranks in place of samples, are wrong by 1e-2."""

ROUNDING = 1e-4
"""In float32 a sum of n terms in another order differs by about sqrt(n) 6e-8: by 2e-6 over the 784 pixels of a unit of
the perceptron. Over some 270 steps these add up like a random walk, to 16 times as much; the momentum makes it 1e-4."""

WORDS = ["mnist", "--data", "synthetic", "--max-samples", "401", "--corruption", "random", "--batch-size", "50"]
WORDS += ["--lr", "1e-3", "--compile", "off", "--checkpoint-interval", "0", "--device", "cpu"]


def command(ranks: int, *words: str, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*launcher, "--max-restarts", str(restarts), *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(ranks, *words), capture_output=True, text=True, timeout=300, env=environment())


def bench(ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    return launch(ranks, "-m", "rethink_fast.bench", *words)


def alone(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


class Running:
    """A run of several ranks that is under way, with what it has said so far in a file."""

    def __init__(self, folder: Path, ranks: int, *words: str, restarts: int = 0) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        words = ("-m", "rethink_fast.bench", *words, "--out", str(folder))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(ranks, *words, restarts=restarts), stdout=log, stderr=subprocess.STDOUT, env=environment()
            )

    def workers(self) -> list[int]:
        """The process numbers of the ranks, in order."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found: dict[int, int] = {}
        for child in map(int, children):
            words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            ranks = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
            found |= dict.fromkeys(ranks, child)
        return [found[rank] for rank in sorted(found)]

    def wait_for_checkpoint(self) -> None:
        end = time.monotonic() + 120
        while not (self.folder / NEWEST).exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end
            time.sleep(0.02)

    def end(self) -> str:
        self.process.wait(timeout=120)
        return self.log.read_text()


@pytest.fixture(scope="module")
def single() -> dict[str, Any]:
    """What one process reads, feeds and computes, by model."""
    return {model: work(model, SINGLE_PROCESS) for model in MODELS}


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What two and four ranks read, feed and compute: by model, by rank."""
    out = tmp_path_factory.mktemp("ranks")
    done = launch(request.param, str(HERE / "distributed_worker.py"), str(out))
    assert done.returncode == 0, done.stderr
    ranks = range(request.param)
    results: dict[str, list[Any]] = {
        model: [torch.load(out / f"{model}-{rank}.pt") for rank in ranks] for model in MODELS
    }
    return results | {"resumed": [(out / f"resumed-{rank}").read_text() for rank in ranks]}


@pytest.mark.parametrize("model", MODELS)
def test_any_number_of_ranks_has_the_same_losses(
    model: str, single: dict[str, Any], several: dict[str, list[Any]]
) -> None:
    """The last batch holds 3 samples: two ranks have 2 and 1, and the fourth of four has none."""
    one = single[model]
    for rank in several[model]:
        assert rank["losses"] == pytest.approx(one["losses"], rel=EXACT)
        assert rank["online"] == pytest.approx(one["online"], rel=EXACT)
        assert rank["scores"] == pytest.approx(one["scores"], rel=EXACT)
        assert list(rank["state"]) == list(one["state"])
        for name, value in rank["state"].items():
            torch.testing.assert_close(value, one["state"][name], rtol=EXACT, atol=EXACT)
            assert torch.equal(value, several[model][0]["state"][name]), name


def test_each_rank_reads_its_share_of_the_same_batches(single: dict[str, Any], several: dict[str, list[Any]]) -> None:
    """And sees the same pixels, labels and flips in it, to the bit."""
    one, ranks = single["mlp_1x512"], several["mlp_1x512"]
    assert sum(len(batch) for batch in one["asked"]) == LIMIT
    for rank in ranks:
        read = torch.cat(rank["asked"])
        assert torch.equal(read, torch.cat([fed[0] for fed in rank["fed"]]))
        assert len(read) <= LIMIT / len(ranks) + 2  # one more at most in each of the three batches
    for number, whole in enumerate(one["fed"]):
        shares = [rank["fed"][number] for rank in ranks]
        sizes = [len(share[0]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        for part, together in enumerate(whole):
            assert torch.equal(torch.cat([share[part] for share in shares]), together)


def test_a_resumed_session_makes_the_steps_of_an_unbroken_one(several: dict[str, list[Any]]) -> None:
    """To the bit, also on four ranks, where the sum of a gradient depends on its place in its bucket."""
    assert set(several["resumed"]) == {"True"}


def test_a_share_is_part_of_a_partition() -> None:
    for size in (0, 1, 3, 7, 8, 128):
        for ranks in (1, 2, 3, 8):
            parts = [BatchShard(rank, ranks).of(torch.arange(size)) for rank in range(ranks)]
            assert torch.equal(torch.cat(parts), torch.arange(size))


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        kept = ("epoch", "step", "train_loss", "train_accuracy", "test_loss", "online_loss")
        return [{name: float(row[name]) for name in kept if row[name]} for row in csv.DictReader(file)]


def same_curves(folder: Path, other: Path) -> None:
    assert len(rows(folder)) == len(rows(other))
    for mine, theirs in zip(rows(folder), rows(other), strict=True):
        assert mine == pytest.approx(theirs, rel=ROUNDING)


def load(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return record


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one rank over thirty epochs."""
    folder = tmp_path_factory.mktemp("unbroken") / "o"
    assert alone(*WORDS, "--epochs", "30", "--out", str(folder)) == 0
    return folder


@pytest.mark.slow
def test_a_run_stopped_on_two_ranks_goes_on_with_one(unbroken: Path, tmp_path: Path) -> None:
    """SIGTERM reaches rank 1 alone; both stop, and rank 0 leaves what rank 0 of one leaves."""
    folder = tmp_path / "o"
    running = Running(folder, 2, *WORDS, "--epochs", "30")
    running.wait_for_checkpoint()
    os.kill(running.workers()[1], signal.SIGTERM)
    said = running.end()
    assert running.process.returncode != 0
    assert "Traceback" not in said.split("torch/distributed/elastic")[0]
    assert said.count("interrupted") == 1, said
    assert said.count("exitcode  : 143") >= 1
    record = load(folder)
    assert (record["interrupted"], record["stop_reason"], record["world_size"]) == (True, "interrupted", 2)
    assert 0 < record["steps"] < load(unbroken)["steps"]
    assert {path.name for path in folder.iterdir()} <= {path.name for path in unbroken.iterdir()}
    with np.load(folder / "labels.npz") as mine, np.load(unbroken / "labels.npz") as theirs:
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    assert alone(*WORDS, "--epochs", "30", "--resume", str(folder)) == 0
    assert load(folder)["world_size"] == 1
    assert load(folder)["n_sessions"] == 2
    same_curves(folder, unbroken)


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_with_one_line_and_more_ranks_go_on(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "o"
    running = Running(folder, 2, *WORDS, "--epochs", "30")
    running.wait_for_checkpoint()
    os.kill(running.workers()[1], signal.SIGKILL)
    start = time.monotonic()
    said = running.end()
    assert time.monotonic() - start < 20
    assert running.process.returncode != 0
    assert said.count("rethink-fast: rank 0 lost another rank and stops (") == 1, said
    assert "Signal 9 (SIGKILL) received" in said
    assert load(folder)["interrupted"]
    done = bench(4, *WORDS, "--epochs", "30", "--resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resuming from step") == 1
    same_curves(folder, unbroken)


@pytest.mark.slow
def test_the_launcher_starts_a_broken_run_anew_and_it_goes_on_by_itself(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "o"
    running = Running(folder, 2, *WORDS, "--epochs", "30", restarts=1)
    running.wait_for_checkpoint()
    os.kill(running.workers()[0], signal.SIGKILL)
    said = running.end()
    assert running.process.returncode == 0, said
    assert "resuming from step" in said
    assert load(folder)["n_sessions"] == 2
    assert not load(folder)["interrupted"]
    same_curves(folder, unbroken)


@pytest.mark.slow
def test_bad_use_is_one_line_from_all_ranks_together(tmp_path: Path) -> None:
    done = bench(2, *[{"50": "1"}.get(word, word) for word in WORDS], "--out", str(tmp_path / "o"))
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("rethink-fast: ")]
    assert lines == [
        "rethink-fast: --batch-size 1 is that of all ranks together and smaller than their number, 2: choose a larger "
        "one, or fewer ranks."
    ]
    assert not (tmp_path / "o").exists()


def test_the_commands_in_the_docs_parse() -> None:
    text = (HERE.parents[1] / "rethink_fast" / "train" / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^(?:srun )?torchrun .* -m rethink_fast\.bench (.*)$", text, re.MULTILINE)
    assert len(found) == 3
    for words in found:
        assert app.parse_args(["bench", *shlex.split(words)], exit_on_error=False, print_error=False)[1].arguments


TWO = Distributed(rank=1, world_size=2)


@pytest.mark.parametrize(
    ("session", "data", "ranks", "option"),
    [
        (Session(profile=True), Data(), TWO, "--profile"),
        (Session(seeds=3), Data(), TWO, "--seeds"),
        (Session(), Data(download=True), TWO, "--download"),
        (Session(), Data(), Distributed(may_restart=True), "--out"),
    ],
    ids=["profile", "seeds", "download", "restarts"],
)
def test_what_ranks_cannot_do_is_refused(session: Session, data: Data, ranks: Distributed, option: str) -> None:
    with pytest.raises(UserError) as raised:
        check_launch(session, Run("cifar10", data=data), ranks)
    assert raised.value.option == option


def test_dropout_would_depend_on_the_ranks() -> None:
    run = resolve(Run("cifar10", model=Model(dropout=0.5)), on_gpu=False, cores=1)
    check_ranks(run, SINGLE_PROCESS)
    with pytest.raises(UserError, match="draws from one generator") as refused:
        check_ranks(run, TWO)
    assert (refused.value.option, refused.value.value, refused.value.allowed) == ("--dropout", 0.5, "0")


def test_a_device_by_number_is_for_one_rank() -> None:
    assert device_for_rank(TWO, "cpu").type == "cpu"
    with pytest.raises(UserError, match="cannot serve 2 ranks") as refused:
        device_for_rank(TWO, "cuda:1")
    assert (refused.value.option, refused.value.value) == ("--device", "cuda:1")
