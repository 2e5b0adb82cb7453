"""The host's half of `make gpu-check`: cases, bytes, comparison, table and record. The device's half runs on a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu_check, gpu_engine, gpu_imagenet, gpu_measure
from benchmarks.engine import Clock
from benchmarks.gpu_cases import REFERENCES, Case, arguments, cases, difference, operator, smaller
from benchmarks.gpu_report import Row, Sample, kept, quantiles, record, table, timed_row, write
from benchmarks.reference_loop import open_cifar10
from rethink_fast.data.source import Dataset, Split
from rethink_fast.errors import Interrupted
from rethink_fast.train import throughput
from rethink_fast.train.gpu_monitor import ClockSampler

SMALL = [
    Case("corrupt_labels", 9),
    Case("gaussian", 2, 5, 3),
    Case("shuffled_pixels", 2, 5, 3),
    Case("random_pixels", 2, 5, 1),
    Case("max_pool_gradient", 2, 6, 3),
    Case("preprocess_distorted", 2, 6, 3, distortion="resized"),
    Case("preprocess_distorted", 2, 6, 3, distortion="jittered"),
    *(
        Case("prepare", 2, 6, 3, corruption, normalisation, dtype)
        for corruption in ("", "shuffled_pixels", "random_pixels", "gaussian")
        for normalisation in ("unit_range", "whiten")
        for dtype in (torch.bfloat16, torch.float32)
    ),
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_a_case_calls_its_op_as_its_reference(case: Case) -> None:
    op = operator(case)
    assert op is not None
    expected = REFERENCES[case.op](*arguments(case, "cpu"))
    assert difference(case, op(*arguments(case, "cpu")), expected) == ""


def test_a_difference_is_seen() -> None:
    exact, near = Case("random_pixels", 2, 5, 1), Case("gaussian", 2, 5, 3)
    pixels = torch.zeros(2, 5, 5, 1, dtype=torch.uint8)
    other = pixels.clone()
    other[1, 2, 3] = 1
    assert difference(exact, other, pixels) == "1 of 50 values differ"
    assert difference(exact, pixels[:1], pixels).startswith("torch.uint8 [1, 5, 5, 1]")
    noise = torch.zeros(2, 5, 5, 3)
    assert difference(near, noise + 0.013, noise) == ""
    assert "allowed" in difference(near, noise + 0.015, noise)
    assert difference(near, noise * float("nan"), noise) != ""


def test_bytes_are_read_plus_written() -> None:
    elements = 128 * 299 * 299 * 3
    assert Case("prepare", 128, 299, 3).bytes == elements * (1 + 2)
    assert Case("prepare", 128, 299, 3, dtype=torch.float32).bytes == elements * (1 + 4)
    assert Case("prepare", 128, 299, 3, "gaussian").bytes == elements * 2
    assert Case("preprocess_distorted", 128, 299, 3, distortion="jittered").bytes == elements * (1 + 2)
    assert Case("random_pixels", 128, 299, 3).bytes == elements * 2
    assert Case("gaussian", 128, 299, 3).bytes == elements * 4
    assert Case("corrupt_labels", 10).bytes == 240
    assert Case("max_pool_gradient", 2, 7, 5).bytes == 2 * 5 * (7 * 7 * 2 + 3 * 3 * 3)


def test_cases_are_distinct_and_hold_the_targets() -> None:
    every = cases()
    assert len({case.name for case in every}) == len(every)
    targets = {(case.size, case.corruption): case.target for case in every if case.target is not None}
    for size in (224, 299):
        assert [targets[size, kind] for kind in ("", "shuffled_pixels", "gaussian")] == [0.85] * 3
        assert targets[size, "random_pixels"] == 0.6
    assert all(smaller(case).elements <= 3 * 147 * 147 * 64 for case in every)


def test_quantiles() -> None:
    assert quantiles([float(n) for n in range(100, -1, -1)]) == (50.0, 20.0, 80.0)
    assert quantiles([4.0]) == (4.0, 4.0, 4.0)


ROWS = [
    Row("fast", 3_000_000, 0.85, {}, (1.0, 0.9, 1.1)),
    Row("slow", 1_000_000, 0.6, {}, (1.0, 0.9, 1.1)),
    Row("broken", 1_000_000, None, {"graph": "7 of 9 values differ"}),
]


def test_throttled_samples_are_dropped() -> None:
    fine = [Sample(10.0 + k, 1900, 0) for k in range(6)]
    throttled, slow = Sample(30.0, 1900, 4), Sample(40.0, 1000, 0)
    row = timed_row("op", 100, None, [*fine, throttled, slow])
    assert row.samples == (10.0, 11.0, 12.0, 13.0, 14.0, 15.0)
    assert row.sm_mhz == (1900,) * 6
    assert row.dropped == 2
    assert row.microseconds == quantiles(list(row.samples))
    # a GPU that is held back all the time is timed as it is, and the record says so
    assert kept([throttled] * 5 + fine[:2]) == [throttled] * 5 + fine[:2]
    unknown = [Sample(1.0), Sample(2.0)]
    assert kept(unknown) == unknown


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_clocks_are_unknown_without_nvml() -> None:
    with ClockSampler(torch.device("cpu")) as clocks:
        assert clocks.now() == (None, None)


def test_table() -> None:
    header, fast, slow, broken = table(ROWS, copy_gb_per_s=3200.0).splitlines()
    assert header.split()[:2] == ["case", "us"]
    assert fast.split() == ["fast", "1.0", "0.9", "1.1", "3000", "93.8%", "85%", "met", "right"]
    assert slow.split() == ["slow", "1.0", "0.9", "1.1", "1000", "31.2%", "60%", "no", "right"]
    assert broken.endswith("graph: 7 of 9 values differ")


def test_record_is_written_under_the_name_of_the_gpu(tmp_path: Path) -> None:
    facts = {"gpu": "NVIDIA H200", "date": "20250102-030405"}
    path = write(record(ROWS, 3200.0, 700.0, facts), tmp_path / "results")
    assert path.name == "nvidia-h200-20250102-030405.json"
    stored = json.loads(path.read_text())
    assert stored["copy_gb_per_s"] == 3200.0
    assert stored["rows"][0]["share_of_copy"] == pytest.approx(3000 / 3200)
    assert stored["rows"][2]["gb_per_s"] is None
    assert stored["rows"][2]["wrong"] == {"graph": "7 of 9 values differ"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    root = Path(gpu_check.__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks.gpu_check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert "needs a CUDA device" in done.stdout
    assert done.stderr == ""


def test_every_case_compiles_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch gives up at the 9th shape of one function, and in one graph that is an error."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for batch in range(1, 12):
        case = Case("shuffled_pixels", batch, 5, 3)
        op = operator(case)
        assert op is not None
        given = arguments(case, "cpu")
        assert torch.equal(gpu_measure.compiled(op)(*given), op(*given))


def test_a_case_is_timed_if_its_values_are_right_and_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    case, broken = Case("shuffled_pixels", 2, 5, 3), [False]
    op = operator(case)
    assert op is not None

    def captured(call: Callable[[], torch.Tensor]) -> tuple[SimpleNamespace, torch.Tensor]:
        out = call()
        return SimpleNamespace(replay=lambda: out.copy_(call())), out

    monkeypatch.setattr(gpu_measure, "arguments", lambda case, _: arguments(case, "cpu"))
    monkeypatch.setattr(gpu_measure, "operator", lambda _: lambda *given: op(*given) + broken[0])
    monkeypatch.setattr(gpu_measure, "captured", captured)
    monkeypatch.setattr(gpu_measure, "compiled", lambda _: pytest.fail("compiled"))
    monkeypatch.setattr(gpu_measure, "samples", lambda _: [Sample(2.0)])
    row = gpu_measure.measure(case)
    assert (row.wrong, row.samples) == ({}, (2.0,))
    broken[0] = True
    row = gpu_measure.measure(case)
    assert (set(row.wrong), row.samples) == ({"eager", "graph"}, ())


def test_a_library_that_does_not_load_is_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of that name is not enough: it may be of another torch."""
    package = Path(gpu_check.__file__).parents[1] / "rethink_fast"
    shutil.copytree(package, tmp_path / "rethink_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "rethink_fast" / "_native.so").write_bytes(b"\x7fELF of another torch")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "wanted", lambda: ["_native"])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "setup.py").write_text("open('built', 'w').close()")
    assert "does not load into torch" in gpu_check.build()[0]
    assert (tmp_path / "built").exists()


def test_facts_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Stub 1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 << 30))
    monkeypatch.setattr("rethink_fast.train.gpu_monitor.gpu_state", lambda _: {})
    found = gpu_check.facts()
    assert (found["commit"], found["gpu"], found["gpu_bytes"]) == ("unknown", "Stub 1", 80 << 30)


def test_an_evaluation_takes_nothing_of_a_run_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, model = [0.0], torch.nn.Linear(1, 1)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock(10.0, model)
    for seconds, training in ((0, True), (4, True), (100, False), (100, False), (100, True), (5, True)):
        now[0] += seconds
        model.train(training)
        clock()
    now[0] += 2
    with pytest.raises(Interrupted):
        clock()


def test_an_epoch_of_imagenet_is_long_enough() -> None:
    train = Split(torch.zeros(3), torch.zeros(3), torch.tensor([0, 2, 3]))  # type: ignore[arg-type]
    repeated = gpu_imagenet.repeated(Dataset("imagenet", "", (), train, None), 7)
    assert repeated.train.index.tolist() == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    assert gpu_imagenet.FULL.epoch >= 40_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_kernels_on_the_gpu(case: Case) -> None:
    from benchmarks.gpu_measure import wrong_values

    if operator(case) is None:
        pytest.skip("this build has no such op")
    assert wrong_values(case) == {}


@pytest.mark.slow
def test_a_run_of_the_engine_stops_at_its_goal_or_its_time() -> None:
    cpu = torch.device("cpu")
    few, many = (open_cifar10("synthetic", cpu, limit) for limit in (100, 1000))
    done = gpu_engine.run_case(gpu_engine.Case("mlp_1x512", "fast", 600), few, cpu, 1e12, precision="fp32")
    assert done.seconds is not None
    assert done.train_accuracy is not None
    assert done.train_accuracy >= gpu_engine.UNTIL
    assert done.share_of_matrix == pytest.approx(done.images_per_second * done.flops_per_image / 1e12)
    cut = gpu_engine.run_case(gpu_engine.Case("mlp_1x512", "fast", 0.01), many, cpu, 1e12, precision="fp32")
    assert cut.seconds is None
    assert cut.train_accuracy is None
    shown = gpu_engine.table([done, cut]).splitlines()
    assert len({len(line) for line in shown[1:]}) == 1
    assert f"{done.seconds:.2f}" in shown[1]
    assert " - " in shown[2]


def test_photographs_are_as_large_as_imagenets() -> None:
    """110 kB each, 0.585 bytes a pixel, on average of 200 originals; these come near without being fitted closer."""
    made = [gpu_imagenet.photograph(number) for number in range(len(gpu_imagenet.SIZES))]
    pixels = sum(width * height for width, height in gpu_imagenet.SIZES)
    assert sum(map(len, made)) / pixels == pytest.approx(0.585, rel=0.05)
    assert gpu_imagenet.photograph(3) == made[3] != made[4]


def test_imagenet_needs_no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """From memory and from a .npy, without DALI, by the same measurement."""
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    monkeypatch.setattr("rethink_fast.train.throughput.RATE_SECONDS", 0.05)
    scale = gpu_imagenet.Scale(images=4, size=75, batch_size=2)
    for measure in (gpu_imagenet.measure_resident, gpu_imagenet.measure_npy):
        (found,) = measure(scale, torch.device("cpu"), 1e12, seconds=0.05)
        assert min(found.loader, found.model, found.combined) > 0
        assert "batches of 2" in gpu_imagenet.table([found])


@pytest.mark.slow
def test_learning_rates_are_swept_with_one_step() -> None:
    dataset = open_cifar10("auto", torch.device("cpu"), 200)
    runs = gpu_engine.sweep("mlp_1x512", 50, (1e-3, 1e-9), dataset, torch.device("cpu"), epochs=30, seconds=600)
    assert [run["lr"] for run in runs] == [1e-3, 1e-9]
    assert runs[0]["train_accuracy"] is not None
    assert runs[0]["train_accuracy"] >= gpu_engine.UNTIL
    assert runs[0]["epochs"] is not None
    assert (runs[1]["seconds"], runs[1]["epochs"]) == (None, None), "the weights of the first are not kept"
    assert runs[1]["epochs_trained"] == 30


@pytest.mark.slow
def test_imagenet_is_fed_from_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setattr(throughput, "RATE_SECONDS", 0.01)
    scale = gpu_imagenet.Scale(images=8, size=75, batch_size=2)
    found = gpu_imagenet.measure_decoded(scale, torch.device("cpu"), 1e12, seconds=0.01)
    assert [result.source for result in found] == ["files", "jpeg pack", "npy pack"]
    assert all(min(result.loader, result.model, result.combined) > 0 for result in found)
    shown = gpu_imagenet.table(found).splitlines()
    assert len({len(line) for line in shown}) == 1
