"""gpu-check for scarce time: tasks in processes of their own, lines on the disk, limits, and what may be absent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check, gpu_report, gpu_steps, gpu_tasks
from benchmarks.gpu_cases import cases
from benchmarks.gpu_report import Row
from benchmarks.gpu_tasks import PARTS, Task
from rethink_fast import schema
from rethink_fast.compare.shapes import SHAPES

CHILD = """
import json, os, signal, sys, time
name, file = sys.argv[1:]
with open({journal!r}, "a") as journal:
    journal.write(name + "\\n")
if "fails" in name:
    print("an illegal memory access", file=sys.stderr)
    sys.exit(3)
if "crashes" in name:
    os.kill(os.getpid(), signal.SIGSEGV)
if "hangs" in name:
    time.sleep(60)
while "meets" in name and open({journal!r}).read().count("meets") < 2:
    time.sleep(0.01)
found = {{"wrong": {{"op": {{"graph": "7 values differ"}}}}}} if "wrong" in name else {{"wrong": {{}}}}
if "row" in name:
    found = {{"rows": [{row!r}], "copy_gb_per_s": 1000.0, "matrix_rate": 5e14}}
json.dump(found, open(file, "w"))
"""
FACTS = {
    "gpu": "NVIDIA H100",
    "date": "20260102-030405",
    "commit": "abc",
    "contract": 1,
    "versions": {"torch": "2"},
    "condition_before": {},
}


class Device:
    """A GPU for gpu_check.main. Its tasks are real processes of a script that does what the task's name says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
        self.folder, self.journal = folder, folder / "journal"
        row = Row("op", 1000, None, {}, (1.0, 1.0, 1.0)).__dict__
        script = folder / "child.py"
        script.write_text(CHILD.format(journal=str(self.journal), row=row))
        parts = [name.split(": ") for name in names]
        self.tasks = [Task(part, what, 1.0, dict) for part, what in parts]
        self.facts = dict(FACTS)
        monkeypatch.setattr(gpu_check, "CHILD", (sys.executable, str(script)))
        monkeypatch.setattr(gpu_check, "tasks", lambda: self.tasks)
        monkeypatch.setattr(gpu_check, "facts", lambda: dict(self.facts))
        monkeypatch.setattr(gpu_check, "unsuitable", str)
        monkeypatch.setattr(gpu_check, "build", list)
        monkeypatch.setattr(gpu_check, "RESULTS", folder / "results")

    def run(self, *words: str) -> int:
        return gpu_check.main([*words, "--out", str(self.folder / "out")])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "out/gpu-check.jsonl").read_text().splitlines()]

    def done(self) -> list[str]:
        return self.journal.read_text().splitlines()

    def record(self) -> dict[str, Any]:
        (path,) = (self.folder / "results").glob("*.json")
        return json.loads(path.read_text())


def test_no_task_stops_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("v3: fails", "v3: crashes", "v3: hangs", "memorize: right", "bandwidth: row")
    device = Device(monkeypatch, tmp_path, *names)
    device.tasks[2] = Task("v3", "hangs", 0.02, dict)
    assert device.run() == 1
    assert device.done() == list(names)
    assert [line["status"] for line in device.lines()] == ["failed", "failed", "out of time", "done", "done"]
    assert device.lines()[0]["output"] == ["an illegal memory access"]
    assert device.record()["rows"][0]["share_of_copy"] == 0.001
    failures = device.record()["failures"]
    assert [failure.split(": ")[1] for failure in failures] == ["fails", "crashes", "hangs"]
    assert "exit status -11" in failures[1]
    assert "an illegal memory access" in capsys.readouterr().out


def test_what_was_found_is_on_the_disk_when_the_call_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = Device(monkeypatch, tmp_path, "v3: one", "v3: two")
    real = gpu_check.carry_out

    def carry_out(task: Task, seconds: float, folder: Path) -> dict[str, Any]:
        if task.what == "two":
            assert [line["task"] for line in device.lines()] == ["v3: one"]
            raise KeyboardInterrupt
        return real(task, seconds, folder)

    monkeypatch.setattr(gpu_check, "carry_out", carry_out)
    with pytest.raises(KeyboardInterrupt):
        device.run()
    monkeypatch.setattr(gpu_check, "carry_out", real)
    assert device.run("--resume") == 0
    assert device.done() == ["v3: one", "v3: two"]
    assert [line["task"] for line in device.record()["tasks"]] == ["v3: one", "v3: two"]


def test_resume_repeats_what_failed_and_what_is_of_another_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = Device(monkeypatch, tmp_path, "v3: right", "v3: fails")
    device.run()
    with (tmp_path / "out/gpu-check.jsonl").open("a") as file:
        file.write('{"task": "v3: cut o')  # a line that was cut off
    device.run("--resume")
    assert device.done() == ["v3: right", "v3: fails", "v3: fails"]
    device.facts["gpu"] = "NVIDIA H200"
    device.run("--resume")
    assert device.done()[3:] == ["v3: right", "v3: fails"]
    device.run()  # over again
    assert device.done()[5:] == ["v3: right", "v3: fails"]
    assert len(device.lines()) == 2


def test_it_ends_before_its_minutes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(monkeypatch, tmp_path, "v3: hangs", "memorize: long", "bandwidth: short")
    device.tasks[1] = Task("memorize", "long", 10, dict)
    device.tasks[2] = Task("bandwidth", "short", 0.0001, dict)
    start = time.monotonic()
    device.tasks[0] = Task("v3", "hangs", 0.05, dict)
    assert device.run("--minutes", "0.06") == 1
    assert time.monotonic() - start < 0.06 * 60 + 2
    assert "memorize: long" not in device.done()
    assert "memorize: long: left for a later call" in capsys.readouterr().out
    assert any("memorize: long: there was no time" in failure for failure in device.record()["failures"])


def test_what_is_not_timed_runs_side_by_side_and_before_what_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = Device(monkeypatch, tmp_path, "v3: timed", "values: one", "steps: meets", "compile: meets")
    device.tasks[2:] = [Task(part, "meets", 1.2, dict) for part in ("steps", "compile")]  # the longest come first
    monkeypatch.setattr("rethink_fast.env.cores", lambda: 2)
    assert device.run() == 0  # those that meet wait for each other
    assert sorted(device.done()[:2]) == ["compile: meets", "steps: meets"]
    assert device.done()[2:] == ["values: one", "v3: timed"]


def test_parts_are_chosen_and_wrong_values_end_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = Device(monkeypatch, tmp_path, "values: wrong", "v3: right")
    assert device.run("v3") == 0
    assert device.done() == ["v3: right"]
    assert device.run("values") == 1
    with pytest.raises(SystemExit) as stopped:
        device.run("kernels")
    assert stopped.value.code == 2


def test_the_record_is_one_that_compare_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = Device(monkeypatch, tmp_path, "bandwidth: row")
    assert device.run() == 0
    record = device.record()
    schema.check(record, SHAPES["gpu-check"])
    assert (record["gpu"], record["copy_gb_per_s"], record["bf16_matrix_tflop_per_s"]) == ("NVIDIA H100", 1000.0, 500.0)


@pytest.mark.parametrize("nvcc", [None, "/usr/bin/nvcc"])
def test_an_op_that_is_missing_is_a_fault_where_it_could_be_built(
    nvcc: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: nvcc)
    line = {"status": "done", "found": {"wrong": {"moved_pixels": {"build": "no such op"}}}}
    assert bool(gpu_report.fault(line)) == (nvcc is not None)
    line["found"] = {"rows": [{"case": "op", "wrong": {"graph": "7 of 9 values differ"}}]}
    assert "7 of 9" in gpu_report.fault(line)
    line["found"] = {"wrong": "loss 2.1 of step 3"}
    assert gpu_report.fault(line) == '"loss 2.1 of step 3"'


def test_tasks_are_in_the_order_of_the_parts_and_distinct() -> None:
    every = gpu_tasks.tasks()
    assert len({task.name for task in every}) == len(every)
    assert list(dict.fromkeys(task.part for task in every)) == list(PARTS)
    assert {task.what for task in every if task.part == "values"} == {case.op for case in cases()}


def test_the_plan_and_an_old_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--plan"]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in PARTS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().out == (
        "gpu-check needs a GPU of compute capability 8.0 or more, and Tesla T4 has 7.5.\n"
    )


WITHOUT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        blocked = ("cyclopts", "rich", "PIL", "nvidia.dali", "matplotlib", "markdown_it", "pynvml", "pytest", "scipy")
        if any(name == one or name.startswith(one + ".") for one in blocked):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import torch
from benchmarks import gpu_check, gpu_engine, gpu_imagenet, gpu_measure, gpu_steps, gpu_tasks
found = gpu_steps.compare("mlp_1x512", "fp32", torch.device("cpu"))
assert not found["wrong"], found
print(gpu_check.main([]), gpu_check.main(["--plan"]))
"""


def test_only_torch_and_numpy_are_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=gpu_tasks.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 0\n")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ten_steps_agree_with_themselves_and_not_with_others(precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    found = gpu_steps.compare("mlp_1x512", precision, cpu)
    assert (len(found["found"]), found["wrong"]) == (gpu_steps.STEPS, "")
    expected = gpu_steps.losses(gpu_steps.setup_of("mlp_1x512", precision, cpu))
    other = gpu_steps.losses(gpu_steps.setup_of("mlp_1x512", precision, cpu), reverse=True)
    setup = gpu_steps.setup_of("mlp_1x512", precision, cpu)
    real = setup.step.optimizer.step
    monkeypatch.setattr(setup.step.optimizer, "step", lambda *given: (real(*given), real(*given)))
    twice = gpu_steps.losses(setup)  # an update that is made twice
    why = gpu_steps.difference(expected, other, twice, gpu_steps.ROUNDING[precision])
    assert ("of step 2" if precision == "fp32" else "of step ") in why


def test_both_sides_of_inception_v3_have_the_same_images_and_classes() -> None:
    setup = gpu_steps.setup_of("inception_v3", "fp32", torch.device("cpu"))
    assert (len(setup.dataset.classes), len(setup.train)) == (1000, gpu_steps.STEPS)
    assert setup.dataset.data_source != "synthetic"  # which has other sizes on a GPU


def test_steps_in_one_graph_are_compared_with_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = gpu_steps.setup_of("mlp_1x512", "fp32", torch.device("cpu"))
    for group in setup.step.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
    assert gpu_steps.together(setup) == ""
    real = setup.step.train_several
    monkeypatch.setattr(setup.step, "train_several", lambda loader, batch, rates: real(loader, batch, rates[::-1]))
    assert gpu_steps.together(setup).startswith("10 steps in one graph differ from single ones in model.")


def test_a_loss_that_is_not_finite_is_a_difference() -> None:
    assert gpu_steps.difference([1.0, 1.0], [1.0, 1.0], [1.0, float("nan")], 2.0**-20).startswith("loss nan of step 2")
    assert gpu_steps.difference([1.0], [1.0], [1.0 + 2.0**-17], 2.0**-20) == ""
    assert gpu_steps.difference([1.0], [1.0], [1.0 + 2.0**-15], 2.0**-20) != ""
