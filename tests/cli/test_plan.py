"""`rethink-fast plan`: its formulas by hand-computed values, real records, and records that are of no use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_report import record as gpu_check_record
from rethink_fast.cli.app import main
from rethink_fast.cli.plan_count import count

FORWARD = 2 * (784 * 512 + 512 * 10)
"""Of the MLP with one hidden layer on MNIST. Training adds the gradients: of both weights, and of the hidden layer."""

TRAINING = FORWARD + 2 * 784 * 512 + 2 * 2 * 512 * 10
PARAMETERS = 784 * 512 + 512 + 512 * 10 + 10
GIVEN = "--gpus 4 --epochs 10 --eval-interval 3 --model-rate 1000 --loader-rate 800 --efficiency 0.5 --watts 500"


def planned(words: str, capfd: pytest.CaptureFixture) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *words.split(), "--json"])
    out, error = capfd.readouterr()
    assert (stopped.value.code, error) == (0, "")
    return json.loads(out)


def refused(words: list[str], capfd: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *words])
    error = capfd.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("rethink-fast: ")
    assert error.count("\n") == 1
    return error


def test_every_line_by_hand(capfd: pytest.CaptureFixture) -> None:
    """4 x 800 x 0.5 = 1,600 images/s: 37.5 s an epoch of 60,000, and 43.75 s for an evaluation of 70,000, where the
    loader is the limit as well. Ten epochs and ceil(10 / 3) = 4 evaluations take 550 s."""
    found = planned(f"mnist {GIVEN} --peak-tflops 2 --file-bytes 1000 --batch-size 100", capfd)
    values = {name: line["value"] for name, line in found["lines"].items()}
    work = 10 * 60_000 * TRAINING + 4 * 70_000 * FORWARD
    assert values == pytest.approx(
        {
            "rate": 1600,
            "epoch": 37.5,
            "evaluation": 43.75,
            "hours": 550 / 3600,
            "energy": 4 * 0.5 * 550 / 3600,
            "floor": work / (4 * 2e12) / 3600,
            "files": 70e6,
            "raw": 70_000 * 784,
            "checkpoint": 8 * PARAMETERS,
            "gpu_memory": 12 * PARAMETERS + 100 * found["inputs"]["count"]["kept_bytes"],
            "host_memory": 5 * 100 * 784,
        }
    )
    assert found["bottleneck"] == "the loader is the bottleneck: the model is 1.25 times as fast"
    assert found["inputs"]["model_rate"] == {"value": 1000, "source": "given", "whence": "--model-rate"}


def test_one_gpu_keeps_its_whole_rate_and_evaluates_faster_than_it_trains(capfd: pytest.CaptureFixture) -> None:
    """Evaluation at 3 x 1,000 images/s where the loader gives 2,500 goes at 2,500."""
    found = planned("mnist --epochs 1 --model-rate 1000 --loader-rate 2500", capfd)["lines"]
    assert found["rate"]["value"] == 1000
    assert found["evaluation"]["value"] == pytest.approx(28.0)
    assert planned("mnist --model-rate 1000 --loader-rate 5000", capfd)["lines"]["evaluation"][
        "value"
    ] == pytest.approx(70 / 3)


def test_the_arithmetic_is_counted() -> None:
    found = count("mlp_1x512", size=28, channels=1, num_classes=10, precision="fp32")
    assert (found.forward_flops, found.training_flops, found.parameters) == (FORWARD, TRAINING, PARAMETERS)
    # the image and the hidden layer at 4 bytes, and for the loss the logits, at most three times over, and a label
    assert 4 * (784 + 512) <= found.kept_bytes <= 4 * (784 + 2 * 512) + 3 * 40 + 16
    half = count("mlp_1x512", size=28, channels=1, num_classes=10, precision="bf16")
    assert 2 * (784 + 512) <= half.kept_bytes < found.kept_bytes


def test_inception_v3_is_the_published_size(capfd: pytest.CaptureFixture) -> None:
    """5.71 GMAC forward, and three times that in training but for the gradient of the first layer's input."""
    found = planned("imagenet --gpus 8", capfd)
    inputs = found["inputs"]
    assert inputs["images"] == 1_281_167
    assert inputs["count"]["parameters"] == 23_834_568
    assert inputs["count"]["forward_flops"] / 2e9 == pytest.approx(5.71, abs=0.01)
    assert 2.98 < inputs["count"]["training_flops"] / inputs["count"]["forward_flops"] < 3
    assert {inputs[name]["source"] for name in ("model_rate", "loader_rate", "peak", "watts")} == {"assumed"}
    assert found["lines"]["raw"]["value"] == 1_331_167 * 299 * 299 * 3
    assert "assumptions" in found["bottleneck"]


def test_every_line_shows_its_arithmetic(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["plan", "mnist", *GIVEN.split()])
    text = capfd.readouterr().out
    for words in (
        "4 x min(1,000 model, 800 loader) x 0.5 (efficiency)",
        "60,000 images / 1,600 images/s",
        "(10 epochs x 37.5 s + 4 evaluations x 43.8 s) / 3600",
        "4 x 500 W x 0.153 h / 1000",
        "70,000 x 28 x 28 x 1 bytes",
        "given, --model-rate",
        "assumed, an H100's or H200's data sheet",
    ):
        assert words in text
    sources = re.findall(r"│ [^│]*│ [^│]*│ (measured|given|counted|assumed), ", text)
    assert len(sources) == 8


def test_the_plan_in_the_docs_is_the_programs(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "rethink_fast" / "bench" / "README.md").read_text()
    found = re.search(r"<!-- plan -->\n```\n\$ rethink-fast (.*?)\n(.*?)```\n<!-- /plan -->", readme, re.DOTALL)
    assert found is not None
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        main(found.group(1).split())
    assert capfd.readouterr().out == found.group(2)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a real run with --profile."""
    folder = tmp_path_factory.mktemp("plan") / "run"
    words = "bench mnist --data synthetic --max-samples 400 --epochs 1 --device cpu --profile --out"
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), str(folder)])
    assert stopped.value.code == 0
    return json.loads((folder / "result.json").read_text())


def test_a_real_record(record: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    found = planned(f"mnist --precision fp32 --gpus 2 --efficiency 1 --record {path}", capfd)
    inputs, rates = found["inputs"], record["profile"]["rates"]
    for name, value in (
        ("model_rate", rates["model"]),
        ("loader_rate", rates["loader"]),
        ("combined", rates["combined"]),
        ("peak", record["profile"]["arithmetic"]["matrix_flops_per_second"]),
    ):
        assert inputs[name] == {"value": value, "source": "measured", "whence": str(path)}
    assert inputs["watts"]["source"] == "assumed"
    assert found["lines"]["rate"]["value"] == pytest.approx(2 * rates["combined"])
    assert inputs["count"]["training_flops"] == record["profile"]["arithmetic"]["flops_per_image"]
    assert len(found["notes"]) == 2  # a CPU, and synthetic images
    assert "assumptions" not in found["bottleneck"]
    given = planned(f"mnist --precision fp32 --model-rate 7 --record {path}", capfd)
    assert given["lines"]["rate"]["value"] == 7
    assert given["inputs"]["model_rate"]["source"] == "given"


def test_a_gpu_check_record(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """As gpu_report writes it: the matrix rate, of which a share is assumed, and no rate of images."""
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(gpu_check_record([], 4000.0, 500.0, {"gpu": "A GPU"})))
    found = planned(f"mnist --utilisation 0.1 --record {path}", capfd)
    assert found["inputs"]["peak"] == {"value": 5e14, "source": "measured", "whence": str(path)}
    assert found["inputs"]["model_rate"]["source"] == "assumed"
    assert found["inputs"]["model_rate"]["value"] == pytest.approx(0.1 * 5e14 / TRAINING)
    assert "A GPU" in found["notes"][0]


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({"profile": None}, "", "holds no rates"),
        ({"model": "mlp_3x512"}, "", "has the model mlp_3x512, the plan mlp_1x512"),
        ({}, "--model mlp_3x512", "has the model mlp_1x512, the plan mlp_3x512"),
        ({"dataset": "cifar10"}, "", "has the data set cifar10"),
        ({"image_size": 20}, "", "has the size 20, the plan 28"),
        ({"precision": "bf16"}, "", "has the precision bf16"),
        ({"profile": {}}, "", "lacks profile.rates"),
        ({"profile": {"rates": {"model": 0, "loader": 1, "combined": 1}}}, "", "lacks profile.arithmetic"),
    ],
)
def test_a_record_of_no_use(
    record: dict[str, Any], change: dict, words: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**record, **change}))
    given = ["mnist", "--precision", "fp32", "--record", str(path), *words.split()]
    assert said in refused(given, capfd)


def test_a_rate_that_is_none(record: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "result.json"
    for wrong, said in ((0, "has the model rate 0"), (-3.0, "model -3.0"), ("fast", "has profile.rates.model fast")):
        profile = {**record["profile"], "rates": {**record["profile"]["rates"], "model": wrong}}
        path.write_text(json.dumps({**record, "profile": profile}))
        assert said in refused(["mnist", "--precision", "fp32", "--record", str(path)], capfd)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ('{"profile": {"rates"', "is not whole JSON"),
        ("", "is not whole JSON"),
        ("[1, 2]", "has the value [1, 2], where an object is expected"),
        ('{"epochs": 3}', "is no record"),
        ("\0\xff", "is not whole JSON"),
    ],
)
def test_a_file_that_is_no_record(content: str | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    assert said in refused(["mnist", "--record", str(path)], capfd)


@pytest.mark.parametrize(
    "words",
    ["--gpus 0", "--epochs 0", "--model-rate -1.0", "--loader-rate nan", "--efficiency 2.0", "--watts 0.0", "--size 0"],
)
def test_out_of_range(words: str, capfd: pytest.CaptureFixture) -> None:
    assert f"{words} is out of range: choose one in [" in refused(["mnist", *words.split()], capfd)


def test_a_size_that_the_model_does_not_take(capfd: pytest.CaptureFixture) -> None:
    assert "too small for inception_v3" in refused(["imagenet", "--size", "32"], capfd)
