"""`rethink-fast plan`: its formulas by hand-computed values, real records, and records that are of no use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_report import record as gpu_check_record
from rethink_fast.cli.plan import PlanOptions, estimate
from rethink_fast.errors import UserError
from rethink_fast.models.cost import cost_of
from tests.bench.helpers import cli, load, refused

FORWARD = 2 * (784 * 512 + 512 * 10)
"""Of the MLP with one hidden layer on MNIST. Training adds the gradients: of both weights, and of the hidden layer."""

TRAINING = FORWARD + 2 * 784 * 512 + 2 * 2 * 512 * 10
PARAMETERS = 784 * 512 + 512 + 512 * 10 + 10
GIVEN = "--gpus 4 --epochs 10 --eval-interval 3 --images-per-second 1000 --loader-images-per-second 400"


def planned(words: str, capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, float], list[str]]:
    """The value of each line, and the notes."""
    assert cli("plan", *words.split(), "--json") == 0
    out, error = capfd.readouterr()
    assert error == ""
    plan = json.loads(out)
    return {name: line["value"] for name, line in plan["lines"].items()}, plan["notes"]


def test_every_line_by_hand(capfd: pytest.CaptureFixture[str]) -> None:
    """4 x 400 = 1,600 images/s: 37.5 s an epoch of 60,000, and 43.75 s for an evaluation of 70,000, where the loader
    is the limit as well. Ten epochs and ceil(10 / 3) = 4 evaluations take 550 s."""
    values, notes = planned(f"mnist {GIVEN} --peak-tflops 2 --batch-size 100", capfd)
    work = 10 * 60_000 * TRAINING + 4 * 70_000 * FORWARD
    kept = cost_of("mlp_1x512", size=28, channels=1, num_classes=10, precision="bf16").kept_bytes
    assert values == pytest.approx(
        {
            "work": work,
            "rate": 1600,
            "epoch": 37.5,
            "evaluation": 43.75,
            "hours": 550 / 3600,
            "floor": work / (4 * 2e12) / 3600,
            "raw": 70_000 * 784,
            "checkpoint": 8 * PARAMETERS,
            "gpu_memory": 12 * PARAMETERS + 100 * kept,
            "host_memory": 5 * 100 * 784,
        }
    )
    assert notes == ["the loader is the bottleneck: the model is 2.50 times as fast"]


def test_evaluation_is_faster_than_training(capfd: pytest.CaptureFixture[str]) -> None:
    """At 3 x 1,000 images/s, unless the loader gives less."""
    for loader, seconds in (("", 70 / 3), ("--loader-images-per-second 2500", 28.0)):
        values, _ = planned(f"mnist --epochs 1 --images-per-second 1000 {loader}", capfd)
        assert values["rate"] == 1000
        assert values["evaluation"] == pytest.approx(seconds)


def test_without_a_rate_there_are_no_hours_and_nothing_is_assumed(capfd: pytest.CaptureFixture[str]) -> None:
    values, notes = planned("imagenet --gpus 8", capfd)
    assert set(values) == {"work", "raw", "checkpoint", "gpu_memory", "host_memory"}
    assert values["raw"] == 1_331_167 * 299 * 299 * 3
    assert values["checkpoint"] == 8 * 23_834_568
    assert len(notes) == 1
    assert "--images-per-second" in notes[0]


def test_the_arithmetic_is_counted() -> None:
    cost = cost_of("mlp_1x512", size=28, channels=1, num_classes=10, precision="fp32")
    assert (cost.forward_flops, cost.training_flops, cost.parameters) == (FORWARD, TRAINING, PARAMETERS)
    # the image and the hidden layer at 4 bytes, and for the loss the logits, at most three times over, and a label
    assert 4 * (784 + 512) <= cost.kept_bytes <= 4 * (784 + 2 * 512) + 3 * 40 + 16
    half = cost_of("mlp_1x512", size=28, channels=1, num_classes=10, precision="bf16")
    assert 2 * (784 + 512) <= half.kept_bytes < cost.kept_bytes
    # 5.71 GMAC forward as published, and three times that in training but for the gradient of the first layer's input
    cost = cost_of("inception_v3", size=299, channels=3, num_classes=1000, precision="bf16")
    assert cost.forward_flops / 2e9 == pytest.approx(5.71, abs=0.01)
    assert 2.98 < cost.training_flops / cost.forward_flops < 3


def test_the_plan_in_the_docs_is_the_programs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "rethink_fast" / "bench" / "README.md").read_text()
    shown = re.search(r"<!-- plan -->\n```\n\$ rethink-fast (.*?)\n(.*?)```\n<!-- /plan -->", readme, re.DOTALL)
    assert shown is not None
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(Path(__file__).parents[2])
    assert cli(*shown.group(1).split()) == 0
    assert capfd.readouterr().out == shown.group(2)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a real run with --profile."""
    folder = tmp_path_factory.mktemp("plan") / "run"
    words = "bench mnist --data synthetic --max-samples 400 --epochs 1 --device cpu --profile --out"
    assert cli(*words.split(), folder) == 0
    return load(folder)


@pytest.fixture
def path(record: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    return path


def test_a_real_record(record: dict[str, Any], path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rates, peak and precision come from it, and what is given goes before what was measured."""
    values, notes = planned(f"mnist --gpus 2 --record {path}", capfd)
    assert values["rate"] == pytest.approx(2 * record["profile"]["rates"]["combined"])
    peak = record["profile"]["arithmetic"]["matrix_flops_per_second"]
    assert values["floor"] == pytest.approx(values["work"] / (2 * peak) / 3600)
    assert len(notes) == 3  # the bottleneck, a CPU, and synthetic images
    values, _ = planned(f"mnist --images-per-second 7 --record {path}", capfd)
    assert values["rate"] == 7
    path.write_text(json.dumps({**record, "device": "cuda:0", "peak_memory_bytes": 12345}))
    assert planned(f"mnist --record {path}", capfd)[0]["gpu_memory"] == 12345
    assert planned(f"mnist --record {path} --batch-size 7", capfd)[0]["gpu_memory"] != 12345


def test_a_gpu_check_record(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As gpu_report writes it: the matmul peak, and no rate of images."""
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(gpu_check_record([], 4000.0, 500.0, {"gpu": "A GPU"})))
    values, notes = planned(f"mnist --record {path}", capfd)
    assert values["floor"] == pytest.approx(values["work"] / 5e14 / 3600)
    assert "hours" not in values
    assert "A GPU" in notes[0]


def test_a_gpu_check_record_with_inception_v3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, sources = tmp_path / "gpu.json", [("resident", 5000.0, 4900.0), (".npy", 5000.0, 4000.0)]
    found = [dict(zip(("source", "model", "combined"), source, strict=True)) for source in sources]
    record = gpu_check_record([], 4000.0, 500.0, {"gpu": "A GPU"}) | {"imagenet": {"sources": found}}
    path.write_text(json.dumps(record))
    values, notes = planned(f"imagenet --gpus 2 --record {path}", capfd)
    assert values["rate"] == 2 * 4900
    assert values["evaluation"] == pytest.approx(1_331_167 / (2 * 3 * 5000))
    assert "on images resident: reading files was not measured" in notes[0]
    assert "hours" not in planned(f"mnist --record {path}", capfd)[0]
    found = [{**found[0], "source": f"resident, batches of {size}", "combined": 4000.0 + size} for size in (128, 256)]
    path.write_text(json.dumps(record | {"imagenet": {"sources": found}}))
    rates = {size: planned(f"imagenet {size} --record {path}", capfd) for size in ("", "--batch-size 128")}
    assert [values["rate"] for values, _ in rates.values()] == [4256, 4128]
    (best, _), (given, _) = rates.values()
    assert best["host_memory"] == 2 * given["host_memory"], "of the batches that were measured"
    path.write_text(json.dumps(record | {"imagenet": {"sources": [{"source": "resident", "model": "fast"}]}}))
    with pytest.raises(UserError, match="imagenet"):
        estimate("imagenet", PlanOptions(record=path))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"model": "mlp_3x512"}, "--model"),
        ({"size": 20}, "--size"),
        ({"precision": "bf16"}, "--precision"),
    ],
)
def test_a_record_of_another_run(options: dict[str, Any], option: str, path: Path) -> None:
    with pytest.raises(UserError) as raised:
        estimate("mnist", PlanOptions(record=path, **options))
    assert (raised.value.option, raised.value.value) == (option, *options.values())
    with pytest.raises(UserError) as raised:
        estimate("cifar10", PlanOptions(record=path))
    assert (raised.value.option, raised.value.value) == ("--record", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": None}, "is not a record with a profile"),
        ({"profile": {"rates": {}}}, "lacks profile.arithmetic"),
        ({"profile": {"rates": {"model": 0}}}, "has profile.rates.model 0"),
        ({"profile": {"rates": {"model": "fast"}}}, "has profile.rates.model fast"),
        ({"model": "mlp"}, "'mlp' is unknown"),
        ({"image_size": 10**9}, "has image_size 1000000000"),
    ],
)
def test_a_record_of_no_use(record: dict[str, Any], path: Path, change: dict[str, Any], message: str) -> None:
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match=message) as raised:
        estimate("mnist", PlanOptions(record=path))
    assert raised.value.value == path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ('{"profile": {"rates"', "is not whole JSON"),
        ("", "is not whole JSON"),
        ("[1, 2]", "has the value [1, 2], where an object is expected"),
        ('{"epochs": 3}', "is not a record"),
        ("\0\xff", "is not whole JSON"),
    ],
)
def test_a_file_that_is_no_record(
    content: str | None, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    assert message in refused(capfd, "plan", "mnist", "--record", path)


@pytest.mark.parametrize(
    "words",
    ["--gpus 0", "--epochs 0", "--images-per-second -1.0", "--loader-images-per-second nan", "--size 0"],
)
def test_out_of_range(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"{words} is out of range: choose one in [" in refused(capfd, "plan", "mnist", *words.split())


def test_a_size_that_the_model_does_not_take(capfd: pytest.CaptureFixture[str]) -> None:
    assert "too small for inception_v3" in refused(capfd, "plan", "imagenet", "--size", "32")
