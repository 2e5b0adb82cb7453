"""A network of one's own: all that works with the package's works with it, and a misfit is one line before training."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rethink_fast import Corruption, Data, Model, Record, Run, Session, Train, UserError, run
from rethink_fast.models import build_model, name_of, own
from rethink_fast.models.examples.resnet import resnet
from rethink_fast.models.examples.vit import vit
from tests.models import own_networks
from tests.models.own_networks import TwoHeads, same_as_inception, same_as_mlp, tiny

HERE = "tests.models.own_networks"


def build(name: str, size: int = 28) -> nn.Module:
    return build_model(name, num_classes=10, channels=3, size=(size, size))


def trained(model: Callable[..., nn.Module] | str, folder: Path, **train: Any) -> Record:
    options: dict[str, Any] = {"epochs": 3, "lr": 0.02, "batch_size": 20, "device": "cpu"} | train
    return run(
        Run("cifar10", Data("synthetic", max_samples=60), Corruption("random"), Model(model), Train(**options)),
        session=Session(out=folder),
    )


@pytest.mark.parametrize(
    ("model", "same"),
    [("mlp_1x512", same_as_mlp), pytest.param("inception_small", same_as_inception, marks=pytest.mark.slow)],
)
def test_one_of_ours_under_another_name_is_the_same_run(model: str, same: Any, tmp_path: Path) -> None:
    ours, theirs = trained(model, tmp_path / "a", epochs=1), trained(same, tmp_path / "b", epochs=1)
    assert ours["train_loss"] == theirs["train_loss"]
    assert ours["parameters"] == theirs["parameters"]
    assert (theirs["model"], ours["model_source"]) == (f"{HERE}:{same.__name__}", None)
    assert theirs["model_source"]["file"] == "own_networks.py"
    assert len(theirs["model_source"]["sha256"]) == 64


@pytest.mark.parametrize("network", [tiny, TwoHeads, resnet, vit])
def test_it_is_trained_kept_and_loaded(network: Any, tmp_path: Path) -> None:
    record = trained(network, tmp_path / "o")
    model = record.load_model()
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == record["parameters"]
    assert model(torch.zeros(2, 3, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("example", [vit, resnet])
def test_an_example_is_short_and_learns(example: Any, tmp_path: Path) -> None:
    assert len(Path(str(sys.modules[example.__module__].__file__)).read_text().splitlines()) < 60
    record = trained(example, tmp_path / "o", epochs=12, optimizer="adam", lr=3e-3)
    assert record["train_accuracy"] > 0.3


@pytest.mark.slow
def test_it_resumes_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_network.py").write_text(Path(str(own_networks.__file__)).read_text())
    words = ["mnist", "--data", "synthetic", "--max-samples", "60", "--batch-size", "20", "--target-loss", "0"]
    words += ["--model", "my_network:tiny"]

    def bench(*more: str) -> subprocess.CompletedProcess[str]:
        package = str(Path(own.__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": package}
        code = (
            "import sys; sys.path.remove(''); from rethink_fast.cli.app import main; main()"  # as the installed script
        )
        command = [sys.executable, "-c", code, "bench", *words, *more]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    done = bench("--epochs", "2", "--out", "o")
    assert done.returncode == 0, done.stderr
    done = bench("--epochs", "3", "--resume", "o")
    assert done.returncode == 0, done.stderr
    assert "resuming from step 6" in done.stdout
    with (tmp_path / "my_network.py").open("a") as file:
        file.write("# changed\n")
    done = bench("--epochs", "4", "--resume", "o")
    assert done.returncode == 2
    assert "model source" in done.stderr


def test_a_changed_file_is_said_when_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = trained(tiny, tmp_path / "o", epochs=1)
    with caplog.at_level(logging.WARNING):
        record.load_model()
        assert "changed" not in caplog.text
        monkeypatch.setattr("rethink_fast.train.weights.source_of", lambda name: {"file": "x", "sha256": "other"})
        record.load_model()
    assert "own_networks.py has changed since the run" in caplog.text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{HERE}:two_arguments", r"failed when called with \(10, 3, \(28, 28\)\): TypeError"),
        (f"{HERE}:no_module", "gives int, not torch.nn.Module"),
        (f"{HERE}:other_classes", r"gives \[2, 11\] for an input of \[2, 3, 28, 28\], not \[2, 10\]"),
        (f"{HERE}:no_flatten", r"gives \[2, 3, 28, 10\]"),
        (f"{HERE}:too_large", r"does not take an input of \[2, 3, 28, 28\] in eval mode: RuntimeError"),
        (f"{HERE}:frozen", "without trainable parameters"),
        (f"{HERE}:elsewhere", "parameters on meta"),
        (f"{HERE}:Predictions", r"gives torch.int64, torch\.strided, in eval mode"),
        (f"{HERE}:Sparse", r"torch\.sparse_coo, in eval mode, not a dense tensor of floats"),
        (f"{HERE}:WithoutGradients", "gives an output without gradients in training mode: omit no_grad"),
        (f"{HERE}:locked", "that copy.deepcopy does not copy: TypeError: cannot pickle"),
        (f"{HERE}:buffer_elsewhere", "parameters on meta"),
        (f"{HERE}:doubles", r"does not take an input of \[2, 3, 28, 28\] in eval mode: RuntimeError: .*dtype"),
        (f"{HERE}:leaves", r"failed when called with \(10, 3, \(28, 28\)\): SystemExit: no"),
        (f"{HERE}:Fails", "in eval mode: KeyError"),
        (f"{HERE}:NOT_CALLABLE", "has no function or class NOT_CALLABLE"),
        (f"{HERE}:missing", "has no function or class missing"),
        ("no_such_module:network", "there is no module no_such_module"),
        ("tests.models.no_such:network", "there is no module tests.models.no_such"),
        (":network", "is not of the form"),
        ("package.module:", "is not of the form"),
        (f"{HERE}:tiny.forward", "is not of the form"),
    ],
)
def test_a_misfit_is_one_line(name: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        build(name)
    assert "\n" not in str(raised.value)
    assert (raised.value.option, raised.value.value) == ("--model", name)


def test_a_module_that_fails_to_import_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_network.py").write_text("import no_such_library\n")
    (tmp_path / "failing_network.py").write_text("1 / 0\n")
    (tmp_path / "script_network.py").write_text("import argparse\nargparse.ArgumentParser().exit(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"importing broken_network failed: ModuleNotFoundError.*no_such_library"):
        build("broken_network:network")
    with pytest.raises(UserError, match="importing failing_network failed: ZeroDivisionError"):
        build("failing_network:network")
    with pytest.raises(UserError, match="importing script_network failed: SystemExit"):
        build("script_network:network")


def test_trying_it_out_moves_no_generator_and_no_statistics() -> None:
    torch.manual_seed(5)
    network = build(f"{HERE}:tiny")
    after = torch.rand(1)
    norm = network.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert torch.equal(norm.running_mean, torch.zeros(8))  # type: ignore[arg-type]
    torch.manual_seed(5)
    plain = tiny(10, 3, (28, 28))
    plain.eval()(torch.zeros(2, 3, 28, 28))
    assert torch.equal(after, torch.rand(1))


def test_only_what_another_process_can_find_has_a_name() -> None:
    assert name_of(tiny) == f"{HERE}:tiny"
    functions: tuple[Any, ...] = (lambda *_: nn.Identity(), TwoHeads.forward)
    for function in functions:
        with pytest.raises(UserError, match="has no name in a module"):
            Model(function)
    with pytest.raises(UserError, match="a Sequential is a network that is made already: give the function") as raised:
        Model(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"aux_head": True}])
def test_options_of_the_papers_networks_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no effect with --model"):
        run(Run("cifar10", Data("synthetic", max_samples=60), model=Model(tiny, **options)), session=Session(tmp_path))


def test_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        trained(tiny, tmp_path / "o", recipe="paper")
    assert raised.value.option == "--recipe"


def _package(name: str) -> ModuleType:
    """A package with timm's functions for two networks: one of any size, one of a fixed size."""
    module = ModuleType(name)

    def create_model(name: str, *, num_classes: int, in_chans: int, img_size: Any = (224, 224)) -> nn.Module:
        assert (img_size == (28, 28)) == (name == "fixed")
        return tiny(num_classes, in_chans, (28, 28))

    module.__dict__.update(
        __version__="1.2",
        is_model=lambda name: name in ("fixed", "any_size"),
        list_models=lambda: ["fixed", "any_size"],
        get_pretrained_cfg=lambda name: SimpleNamespace(fixed_input_size=name == "fixed"),
        create_model=create_model,
    )
    return module


def test_networks_of_timm_take_the_size_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", _package("timm"))
    for name in ("timm/fixed", "timm/any_size"):
        assert build(name).eval()(torch.zeros(2, 3, 28, 28)).shape == (2, 10)
        assert own.source_of(name) == {"file": "timm", "sha256": "version 1.2"}
    with pytest.raises(UserError, match=r"timm 1\.2 does not know it: choose a name of .*any_size"):
        build("timm/any_siz")


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        build("timm/resnet18")


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(("name", "size"), [("timm/resnet18", 28), ("timm/vit_tiny_patch16_224", 32)])
def test_timm_itself(name: str, size: int) -> None:
    assert build(name, size).eval()(torch.zeros(2, 3, size, size)).shape == (2, 10)
