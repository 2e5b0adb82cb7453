"""The engine's promises: no recompilation, no reading back, a golden run, shared steps, evaluation's turn."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rethink_fast
from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.defaults import ResolvedRun, resolve
from rethink_fast.errors import UserError
from rethink_fast.train.compile import choose, warm_up
from rethink_fast.train.determinism import deterministic
from rethink_fast.train.evaluate import evaluate
from rethink_fast.train.setup import RunContext, build_run
from tests.bench.helpers import cli, load

CPU = torch.device("cpu")


def run_of(model: str = "mlp_1x512", *, limit: int = 100, seed: int = 0, **train: Any) -> ResolvedRun:
    run = Run("cifar10", Data(max_samples=limit), Corruption("random", seed=seed), Model(model), Train(**train))
    return resolve(run, on_gpu=False, cores=1)


def setup_of(run: ResolvedRun, like: RunContext | None = None) -> RunContext:
    if like is not None:
        return build_run(run, like.dataset, CPU, like=like)
    dataset = load_dataset("cifar10", DataOptions("synthetic", max_samples=run.data.max_samples, workers=1))
    return build_run(run, dataset, CPU)


def train(setup: RunContext, epochs: int) -> list[float]:
    """Mean loss of each epoch, as it was seen in training."""
    losses = []
    for epoch in range(epochs):
        setup.step.begin_epoch(epoch)
        for batch in setup.train.epoch(epoch):
            setup.step.train(setup.train, batch)
        losses.append(setup.step.online()[0])
    return losses


def scored(setup: RunContext) -> float:
    return evaluate(setup.step, setup.train, lambda: None).loss


GOLDEN = {
    "mlp_1x512": [2.547615, 1.721731, 0.461081, 0.104986, 0.021469],
    "inception_small": [2.311471, 2.283975, 2.198182, 2.125219, 1.925503],
}
"""Mean loss of each ten of the fifty steps, float32, on synthetic images: learning rate 0.01, batch 10."""


@pytest.mark.parametrize("model", ["mlp_1x512", pytest.param("inception_small", marks=pytest.mark.slow)])
def test_fifty_golden_steps(model: str) -> None:
    """A refactor must not move them. Sums in another order do: two threads in place of one by 3e-4, inception_small."""
    losses = train(setup_of(run_of(model, batch_size=10, lr=0.01)), epochs=5)
    assert losses == pytest.approx(GOLDEN[model], rel=1e-3)


@pytest.mark.slow
def test_nothing_is_compiled_after_the_warm_up_and_the_warm_up_leaves_no_trace() -> None:
    losses = []
    for compiled in ("off", "on"):
        # 100 images in batches of 32 leave a last one of 4; the flip is keyed by the epoch; so many an evaluation has
        setup = setup_of(run_of(batch_size=32, compile=compiled, augment=("flip",)))
        before = setup.step.state()
        assert choose(setup).enabled == setup.step.compiled == (compiled == "on")
        seconds = warm_up(setup)
        assert (seconds > 0) == (compiled == "on")
        after = setup.step.state()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], before[name]) for name in before)
        with torch.compiler.set_stance("fail_on_recompile"):
            losses.append([*train(setup, 3), scored(setup)])
            again = setup_of(run_of(batch_size=32, compile=compiled, augment=("flip",), seed=1), like=setup)
            train(again, 1)
    # the same sums in another order: float32 over twelve steps
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


class NoReading(TorchDispatchMode):
    """Refuses to bring a value from a tensor to Python: on a GPU that waits for the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a value was read back")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["mlp_1x512", "inception_small", "alexnet_small"])
def test_a_step_reads_nothing_back(model: str) -> None:
    """The network's part; tests/data/test_preprocess.py says the same of the preparation."""
    setup = setup_of(run_of(model, limit=8))
    inputs, labels = setup.train.preprocess(setup.train.warmup_batch(8), 0)
    with NoReading():
        setup.step.update(inputs, labels)
        with pytest.raises(AssertionError, match="read back"):
            setup.step.loss_sum.item()


def test_fused_sgd_does_what_the_plain_loop_does() -> None:
    """Weights in channels_last, with weight decay, over five steps."""
    setup = setup_of(run_of("inception_small", limit=16, lr=0.05, weight_decay=0.01))
    inputs, labels = setup.train.preprocess(setup.train.warmup_batch(16), 0)
    step = setup.step
    state = step.state()
    plain = torch.optim.SGD(
        [{"params": g["params"], "weight_decay": g["weight_decay"]} for g in step.optimizer.param_groups],
        lr=0.05,
        momentum=0.9,
        foreach=False,
        fused=False,
    )
    results = []
    for optimizer in (step.optimizer, plain):
        step.load_state(state)
        step.optimizer, kept = optimizer, step.optimizer
        for _ in range(5):
            step.model.train()
            step.update(inputs, labels)
        step.optimizer = kept
        results.append([p.detach().clone() for p in setup.model.parameters()])
    for fused, simple in zip(*results, strict=True):
        # float32 over five steps: a fused multiply-add rounds once where the plain loop rounds twice
        torch.testing.assert_close(fused, simple, rtol=1e-3, atol=1e-5)


def test_a_restarted_setup_is_the_same_as_a_new_one() -> None:
    first = setup_of(run_of(seed=1))
    train(first, 2)
    second = setup_of(run_of(seed=2), like=first)
    fresh = setup_of(run_of(seed=2))
    assert second.step is first.step
    assert torch.equal(second.labels, fresh.labels)
    torch.manual_seed(0)
    losses = train(second, 2)
    torch.manual_seed(0)
    assert losses == train(fresh, 2)
    assert scored(second) == scored(fresh)


@pytest.mark.parametrize(("wanted", "compiled"), [("auto", False), ("on", True), ("off", False)])
def test_no_clock_decides_whether_the_step_is_compiled(
    wanted: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(run_of(compile=wanted, epochs=10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: pytest.fail("a clock was read"))
    choice = choose(setup)
    assert choice.enabled == setup.step.compiled == compiled
    assert choice.reason.startswith(f"--compile {wanted}")


def test_evaluation_has_its_turn_and_the_last_word(tmp_path: Path) -> None:
    words = [
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "300",
        "--lr",
        "1e-6",
        "--eval-interval",
        "3",
        "--epochs",
        "5",
    ]
    assert cli("bench", *words, "--out", str(tmp_path / "o")) == 0
    with (tmp_path / "o" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["train_accuracy"]) for row in rows] == [False, False, True, False, True]
    assert [bool(row["test_loss"]) for row in rows] == [False, False, True, False, True]
    assert all(row["online_loss"] for row in rows)
    assert load(tmp_path / "o")["train_accuracy"] == float(rows[-1]["train_accuracy"])


def test_an_epoch_whose_batches_reach_the_goal_is_evaluated(tmp_path: Path) -> None:
    words = ["mnist", "--data", "synthetic", "--max-samples", "300", "--corruption", "true", "--target-accuracy", "0.9"]
    assert cli("bench", *words, "--eval-interval", "1000", "--out", str(tmp_path / "o")) == 0
    record = load(tmp_path / "o")
    assert record["stop_reason"] == "target_reached"
    assert record["epochs"] < 100


def test_a_run_that_goes_on_is_evaluated_in_its_turn_again_once_every_milestone_is_passed(tmp_path: Path) -> None:
    words = ["mnist", "--data", "synthetic", "--max-samples", "300", "--target-loss", "0", "--epochs", "30"]
    assert cli("bench", *words, "--eval-interval", "20", "--out", str(tmp_path / "o")) == 0
    last = max(moment["epochs"] for moment in load(tmp_path / "o")["time_to_memorize"].values())
    assert last < 20
    with (tmp_path / "o" / "metrics.csv").open(newline="") as file:
        evaluated = [int(row["epoch"]) for row in csv.DictReader(file) if row["train_accuracy"]]
    assert evaluated[-3:] == [last, 20, 30]


def test_several_seeds_give_mean_and_spread(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "300",
        "--corruption",
        "random",
        "--epochs",
        "3",
        "--seed",
        "7",
    ]
    assert cli("bench", *words, "--seeds", "3", "--json", "--out", str(tmp_path / "o")) == 0
    record = json.loads(capfd.readouterr().out)
    assert record == load(tmp_path / "o")
    assert record["seeds"] == [7, 8, 9]
    losses = [run["train_loss"] for run in record["runs"]]
    assert len(set(losses)) == 3
    spread = record["summary"]["train_loss"]
    assert spread["n"] == 3
    assert spread["mean"] == pytest.approx(sum(losses) / 3)
    assert (spread["min"], spread["max"]) == (min(losses), max(losses))
    assert cli("bench", *words[:-2], "--seed", "8", "--out", str(tmp_path / "alone")) == 0
    assert load(tmp_path / "alone")["train_loss"] == losses[1]
    assert load(tmp_path / "o" / "seed-8")["train_loss"] == losses[1]


@pytest.mark.slow
def test_deterministic_runs_agree(tmp_path: Path) -> None:
    words = ["cifar10", "--data", "synthetic", "--max-samples", "64", "--epochs", "2", "--deterministic"]
    for name in "ab":
        assert cli("bench", *words, "--out", str(tmp_path / name)) == 0
        assert load(tmp_path / name)["deterministic"]
    curves = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in "ab"]
    kept = [[line.split(",")[4:12] for line in curve] for curve in curves]
    assert kept[0] == kept[1]
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True), pytest.raises(RuntimeError, match="deterministic"):
        torch.ones(3).put_(torch.tensor([0]), torch.ones(1), accumulate=False)


def test_advice_to_use_tf32_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch gives it for every float32 step that it compiles on a GPU; other warnings are shown, and errors here."""
    setup, said = setup_of(run_of()), ["TensorFloat32 tensor cores for float32 matrix multiplication available but ..."]
    setup.step.compiled = True
    monkeypatch.setattr(setup.step, "train", lambda *_: [warnings.warn(each, stacklevel=1) for each in said])
    monkeypatch.setattr(setup.step, "score", lambda *_: None)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert warm_up(setup) > 0
    assert not shown
    said.append("something else")
    with pytest.raises(UserWarning, match="something else"):
        warm_up(setup)


@pytest.mark.parametrize("repeatable", [False, True])
def test_every_run_sets_the_backends(repeatable: bool) -> None:
    """bench, reproduce and gpu-check all build their runs alike; nothing else may set these, or they would differ."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = repeatable, True, True
    setup_of(run_of(deterministic=repeatable))
    assert (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == (not repeatable, False, False)
    root = Path(rethink_fast.__file__).parents[1]
    paths = [path for place in ("rethink_fast", "benchmarks") for path in (root / place).rglob("*.py")]
    settings, step = re.compile("cudnn.benchmark|allow_tf32|matmul_precision"), re.compile(r"(?<!\w)Step\(")
    assert [path.name for path in paths if settings.search(path.read_text())] == ["determinism.py"]
    made = [path.name for path in paths if step.search(path.read_text())]
    assert sorted(made) == ["setup.py", "step.py"], "the second is the dry run's, without a device"


LIMITED = """
import resource, sys
from rethink_fast.bench import run
from rethink_fast.cli.app import main
load = run.load_dataset
def load_and_limit(*arguments, **options):
    dataset = load(*arguments, **options)
    mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 100 * 2**20,) * 2)
    return dataset
run.load_dataset = load_and_limit
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_batch_too_large_for_memory_names_one_that_fits(tmp_path: Path) -> None:
    """The system really refuses the memory: the process may map 100 MB more than it does with its data loaded."""
    words = "cifar10 --data synthetic --max-samples 12288 --batch-size 12288 --model mlp_1x512 --compile off"
    words += " --workers 1 --epochs 1 --out"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "bench", *words.split(), str(tmp_path / "o")],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # a thread maps memory too
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert "--batch-size 12288 does not fit in memory:" in line
    assert int(line.split(": ")[-1].split(" ")[0]) < 12288


def test_a_run_goes_on_until_its_loss_is_low_as_well(tmp_path: Path) -> None:
    words = [
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "100",
        "--corruption",
        "random",
        "--epochs",
        "60",
        "--batch-size",
        "20",
    ]
    lengths = []
    for place, loss in enumerate([[], ["--target-loss", "0.05"], ["--target-loss", "0"]]):
        out = tmp_path / str(place)
        assert cli("bench", *words, *loss, "--out", str(out)) == 0
        lengths.append((load(out)["epochs"], load(out)["stop_reason"], load(out)["train_loss"]))
    (accurate, _, high), (low, stopped, loss_then), (all_, by_epochs, _) = lengths
    assert accurate < low < all_ == 60
    assert (stopped, by_epochs) == ("target_reached", "max_epochs")
    assert loss_then <= 0.05 < high


def test_an_operation_without_a_deterministic_algorithm_is_one_line() -> None:
    torch_says = "avg_pool3d_backward_cuda does not have a deterministic implementation, but you set ..."
    with pytest.raises(UserError, match="no deterministic avg_pool3d_backward_cuda") as refused, deterministic(True):
        raise RuntimeError(torch_says)
    assert refused.value.option == "--deterministic"
    assert refused.value.fix.startswith("omit --deterministic")
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="other"), deterministic(True):
        raise RuntimeError("other")
