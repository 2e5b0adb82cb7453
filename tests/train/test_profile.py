"""--profile: where the time goes adds up, is put where it belongs, and changes nothing of the run."""

from __future__ import annotations

import io
import json
import struct
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.patches import Rectangle
from rich.console import Console
from torch import Tensor

from rethink_fast.bench.console import ConsoleProgress
from rethink_fast.bench.profile_view import COLOURS, DOTS, INCHES, picture
from rethink_fast.bench.record_folder import RecordFolder
from rethink_fast.bench.seeds import run_one
from rethink_fast.bench.signals import GracefulStop
from rethink_fast.cli.app import main
from rethink_fast.config import Data, Run, Session, Train
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data.source import Images
from rethink_fast.defaults import resolve
from rethink_fast.stages import STAGES, STEP_STAGES, profiling, stage
from rethink_fast.train.arithmetic import Rooflines
from rethink_fast.train.gpu_monitor import gpu_state
from rethink_fast.train.profile import TRACED_STEPS, WARM_STEPS
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.stage_clock import StageClock
from rethink_fast.train.throughput import loader_rate, model_rate, training_flops

CPU = torch.device("cpu")
SMALL = ["bench", "mnist", "--data", "synthetic", "--max-samples", "300", "--corruption", "random", "--epochs", "6"]
PICTURES = ("profile.png", "profile.svg")


def run(*words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 0


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run with --profile and without."""
    folder = tmp_path_factory.mktemp("profile")
    run(*SMALL, "--profile", "--out", str(folder / "profiled"))
    run(*SMALL, "--out", str(folder / "plain"))
    return folder / "profiled", folder / "plain"


class SlowImages:
    """Images that take their time."""

    resident = False

    def __init__(self, images: Images, seconds: float) -> None:
        self.shape = images.shape
        self._images, self._seconds = images, seconds

    def read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for found in self._images.read(batches):
            time.sleep(self._seconds)
            yield found


def small_setup(*, slow: float = 0.0, epochs: int = 2) -> RunContext:
    given = Run("mnist", Data("synthetic", max_samples=500), train=Train(epochs=epochs, batch_size=100))
    options = resolve(given, on_gpu=False, cores=1)
    dataset = load_dataset("mnist", DataOptions("synthetic", max_samples=500, workers=1))
    if slow:
        dataset = replace(dataset, train=replace(dataset.train, images=SlowImages(dataset.train.images, slow)))
    return build_run(options, dataset, CPU)


def profiled(setup: RunContext, out: Path, **session: Any) -> dict[str, Any]:
    """The record of a run, made as the command line makes it."""
    screen = ConsoleProgress(Console(file=io.StringIO()))
    with RecordFolder(out) as folder:
        return run_one(setup, folder, Session(profile=True, **session), screen, GracefulStop(), resumed=False)


@pytest.mark.timing
def test_the_stages_are_all_of_the_wall_time(tmp_path: Path) -> None:
    start = time.perf_counter()
    record = profiled(small_setup(), tmp_path / "o")
    outside = time.perf_counter() - start
    profile = record["profile"]
    stages, wall = profile["stages"], profile["wall_seconds"]
    assert list(stages) == [*STAGES, "idle"]
    # sums of the same float64 numbers in another order
    assert sum(part["seconds"] for part in stages.values()) == pytest.approx(wall, rel=1e-9)
    assert sum(row["wall_seconds"] for row in profile["epochs"]) == pytest.approx(wall, rel=1e-9)
    for row in profile["epochs"]:
        assert sum(row["seconds"].values()) == pytest.approx(row["wall_seconds"], rel=1e-9)
        assert row["seconds"]["idle"] >= 0
    # the record's own clocks count what the stages are made of, and a few microseconds around them
    assert wall + profile["profiling_seconds"] < outside
    steps = sum(stages[name]["seconds"] for name in STEP_STAGES)
    assert steps < record["train_seconds"]
    for name in ("eval", "checkpoint"):
        full = {"eval": "evaluation"}.get(name, name)
        assert stages[full]["seconds"] >= 0.99 * record[f"{name}_seconds"] - 1e-3
    assert stages["evaluation"]["seconds"] <= record["eval_seconds"]
    assert record["train_seconds"] + record["eval_seconds"] < wall + profile["profiling_seconds"]


def test_an_epoch_has_a_row_and_its_images(folders: tuple[Path, Path]) -> None:
    profile = load(folders[0] / "result.json")["profile"]
    assert [(row["epoch"], row["images"]) for row in profile["epochs"]] == [(0, 0), *((n, 300) for n in range(1, 7))]
    assert profile["images"] == 1800
    for part in profile["stages"].values():
        assert part["microseconds_per_image"] == pytest.approx(1e6 * part["seconds"] / 1800)
    assert all(profile["stages"][name]["seconds"] > 0 for name in STAGES if name != "decode")


@pytest.mark.timing
def test_a_source_that_sleeps_is_seen_and_named(tmp_path: Path) -> None:
    slow, epochs = 0.05, 2
    record = profiled(small_setup(slow=slow, epochs=epochs), tmp_path / "o")
    profile = record["profile"]
    slept = slow * epochs * 5
    stages = {name: part["seconds"] for name, part in profile["stages"].items()}
    # a sleep is never shorter than asked for
    assert stages["load"] >= slept
    assert max(stages, key=stages.__getitem__) in ("load", "evaluation")  # which reads, and sleeps, as well
    assert stages["evaluation"] >= slow * epochs
    assert stages["idle"] < slow
    assert profile["bottleneck"]["what"] == "loader"
    assert profile["rates"]["loader"] <= 100 / slow
    assert profile["rates"]["combined"] <= 100 / slow
    assert profile["rates"]["model"] > 100 / slow


@pytest.mark.timing
def test_nested_stages_count_for_themselves_alone() -> None:
    clock = StageClock(CPU, lambda: None)
    with profiling(clock):
        with stage("decode"):
            time.sleep(0.02)
            with stage("load"):
                time.sleep(0.05)
        with stage("evaluation"), stage("forward"):
            time.sleep(0.03)
    seconds = clock.take()
    assert seconds["load"] >= 0.05
    assert seconds["decode"] >= 0.02
    assert seconds["evaluation"] >= 0.03
    assert seconds["forward"] == 0.0
    # each would be the sum of two sleeps if the inner one were counted twice; half a sleep is room for a busy machine
    assert seconds["decode"] < 0.02 + 0.025


def test_the_bottleneck_is_named_by_the_three_rates() -> None:
    limits = Rooflines(2 * 10**9, 10, "2048 x 2048 in fp32", 1e12, 1e10, model_rate=1000.0, loader_rate=9000.0)
    assert limits.figures(890.0)["bottleneck"]["what"] == "model"
    assert replace(limits, loader_rate=100.0).figures(90.0)["bottleneck"]["what"] == "loader"
    assert limits.figures(600.0)["bottleneck"]["what"] == "loop"
    assert limits.figures(None)["bottleneck"] is None
    arithmetic = limits.figures(500.0)["arithmetic"]
    assert arithmetic["training_share_of_matrix_rate"] == pytest.approx(0.1)
    assert arithmetic["model_share_of_matrix_rate"] == pytest.approx(0.2)


def test_the_operations_of_a_step_are_those_of_its_products() -> None:
    """2 per multiplication of weight and image, forward, to the weights' gradients, and to the hidden layer's."""
    flops, images = training_flops(small_setup())
    first, second = 784 * 512, 512 * 10
    assert (flops, images) == (2 * 100 * (2 * first + 3 * second), 100)


def test_measuring_leaves_no_trace() -> None:
    setup = small_setup(slow=1e-4)
    before = setup.step.state()
    generator = torch.get_rng_state()
    setup.train.wait_seconds = 7.0
    for measure in (training_flops, model_rate, loader_rate):
        measure(setup)
        after = setup.step.state()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert setup.train.wait_seconds == 7.0


def test_a_profiled_run_learns_the_same(folders: tuple[Path, Path], tmp_path: Path) -> None:
    timings = ("train_seconds", "images_per_second")
    curves = []
    for folder in folders:
        names, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
        keep = [column for column, name in enumerate(names) if name not in timings]
        curves.append([[row[column] for column in keep] for row in rows])
    assert curves[0] == curves[1]
    assert len(curves[0]) == 6
    is_profiling, plain = small_setup(), small_setup()
    profiled(is_profiling, tmp_path / "watched")
    screen = ConsoleProgress(Console(file=io.StringIO()))
    with RecordFolder(tmp_path / "plain") as plain_folder:
        run_one(plain, plain_folder, Session(), screen, GracefulStop(), resumed=False)
    there, here = is_profiling.step.state(), plain.step.state()
    assert all(torch.equal(there[name], here[name]) for name in here)


def test_the_trace_has_the_stages_of_ten_steps(folders: tuple[Path, Path]) -> None:
    assert load(folders[0] / "result.json")["profile"]["traced_steps"] == TRACED_STEPS
    events = [event for event in load(folders[0] / "trace.json")["traceEvents"] if event["ph"] == "X"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    for name in ("corruption and augmentation", "forward", "backward", "update"):
        assert names.count(name) == TRACED_STEPS
    assert {"order", "load", "copy", "evaluation"} <= set(names)
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in events)
    assert any(event["name"] == "aten::addmm" for event in events)


def test_a_run_too_short_for_a_trace_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    limit = str(128 * WARM_STEPS)
    words = ["bench", "mnist", "--data", "synthetic", "--max-samples", limit, "--epochs", "1"]
    run(*words, "--profile", "--out", str(tmp_path / "o"))
    out, err = capfd.readouterr()
    assert "there is no trace" in out
    assert err == ""
    assert not (tmp_path / "o" / "trace.json").exists()
    assert (tmp_path / "o" / "profile.png").exists()


def test_the_pictures_are_pictures(folders: tuple[Path, Path]) -> None:
    png = (folders[0] / "profile.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == tuple(round(side * DOTS) for side in INCHES)
    svg = ElementTree.parse(folders[0] / "profile.svg").getroot()
    assert svg.tag.endswith("svg")
    text = " ".join(svg.itertext())
    for words in ("mlp_1x512 on mnist", "seconds", "epoch", "forward", "evaluation"):
        assert words in text


def test_the_bars_are_as_high_as_their_epochs(folders: tuple[Path, Path]) -> None:
    record = load(folders[0] / "result.json")
    assert list(COLOURS) == [*STAGES, "idle"]
    axes = picture(record).axes[0]
    tops: dict[float, float] = {}
    for bar in axes.patches:
        assert isinstance(bar, Rectangle)
        tops[round(bar.get_x() + bar.get_width() / 2)] = bar.get_y() + bar.get_height()
    rows = {row["epoch"]: row["wall_seconds"] for row in record["profile"]["epochs"] if row["images"]}
    assert tops == pytest.approx(rows, rel=1e-9)


def test_without_the_option_there_is_nothing(folders: tuple[Path, Path]) -> None:
    assert load(folders[1] / "result.json")["profile"] is None
    for name in (*PICTURES, "trace.json"):
        assert (folders[0] / name).stat().st_size > 0
        assert not (folders[1] / name).exists()


@pytest.mark.slow
def test_each_seed_has_its_own(tmp_path: Path) -> None:
    run(*SMALL, "--profile", "--seeds", "2", "--out", str(tmp_path / "o"))
    for seed in (0, 1):
        folder = tmp_path / "o" / f"seed-{seed}"
        assert load(folder / "result.json")["profile"]["images"] == 1800
        for name in (*PICTURES, "trace.json"):
            assert (folder / name).stat().st_size > 0


def test_a_resumed_run_is_profiled_from_where_it_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL[:-1], "3", "--checkpoint-interval", "0", "--target-accuracy", "1", "--lr", "1e-6"]
    run(*words, "--out", str(tmp_path / "o"))
    words[words.index("--epochs") + 1] = "5"
    run(*words, "--profile", "--resume", str(tmp_path / "o"))
    profile = load(tmp_path / "o" / "result.json")["profile"]
    assert [(row["epoch"], row["images"]) for row in profile["epochs"] if row["images"]] == [(4, 300), (5, 300)]
    assert profile["images"] == 600
    assert profile["sessions_before"] == 1
    assert "this session alone" in capfd.readouterr().out


def test_where_nvml_is_missing_it_says_why() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    assert list(gpu_state(CPU)) == ["unavailable"]
    assert gpu_state(CPU)["unavailable"]
