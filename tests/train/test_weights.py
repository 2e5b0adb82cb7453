"""The network that a run leaves is that of its record, and what load_model cannot use it refuses in one line."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rethink_fast
from rethink_fast.data.loader import Loader
from rethink_fast.data.preprocess import Preprocessing
from rethink_fast.errors import UserError
from rethink_fast.models import MODELS
from rethink_fast.train.evaluate import evaluate
from rethink_fast.train.setup import RunContext
from rethink_fast.train.state import TrainState
from rethink_fast.train.step import Step
from rethink_fast.train.weights import MODEL, WEIGHTS, load_model, save_weights
from tests.bench.resumable import made, trained

CASES: dict[str, dict[str, Any]] = {
    "perceptron": {"limit": 60, "epochs": 8},
    "perceptron on gaussian noise": {"corruption": "gaussian"},
    "perceptron in bf16": {"precision": "bf16", "corruption": "random-pixels", "epochs": 6},
    "batch norm": {"dataset": "cifar10", "size": 16, "augment": ("crop", "flip"), "lr": 0.05, "epochs": 5},
    # 8 x 8 pixels: a CPU without bfloat16 emulates it
    "batch norm in bf16": {
        "dataset": "cifar10",
        "size": 8,
        "limit": 24,
        "precision": "bf16",
        "corruption": "shuffled-pixels",
        "lr": 0.05,
    },
    "local response": {"dataset": "cifar10", "model": "alexnet_small", "dropout": 0.5},
    "no batch norm": {"dataset": "cifar10", "size": 16, "model": "inception_small_no_bn"},
    "unit range": {"dataset": "imagenet", "size": 32, "model": "mlp_3x512", "augment": ("random-resized-crop",)},
}


def scored(model: nn.Module, how: Preprocessing, setup: RunContext, *, precision: str) -> float:
    """The accuracy on the training set with its corrupted labels, by the project's own evaluation."""
    loader = Loader(setup.dataset.train, setup.labels, setup.corrupted, how, batch_size=16)
    step = Step(model, torch.optim.SGD(model.parameters(), lr=1.0), precision=precision, compiled=False)
    return evaluate(step, loader, lambda: None).accuracy


def preprocess(model: nn.Module) -> partial[Tensor]:
    """The attribute that load_model adds. nn.Module's own types allow for parameters and modules alone."""
    found = model.preprocess
    assert isinstance(found, partial)
    return found


def preparation(model: nn.Module) -> Preprocessing:
    how = preprocess(model).args[0]
    assert isinstance(how, Preprocessing)
    return how


def kept(folder: Path, **options: Any) -> tuple[RunContext, TrainState]:
    setup = made(**options)
    outcome = trained(setup, folder)
    save_weights(folder, setup, outcome)
    return setup, outcome


@pytest.mark.parametrize("case", CASES)
def test_the_accuracy_of_the_network_that_is_loaded_is_the_records(case: str, tmp_path: Path) -> None:
    """To the last image in the run's own precision, on the same kind of device."""
    setup, outcome = kept(tmp_path, **CASES[case])
    assert outcome.evaluated is not None
    accuracy = outcome.evaluated.train_accuracy
    precision = setup.run.train.precision
    assert precision is not None
    before = torch.get_rng_state()
    model = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is left alone"
    assert not model.training
    assert json.loads((tmp_path / MODEL).read_text())["train_accuracy"] == accuracy
    how = replace(preparation(model), dtype=setup.train.preprocessing.dtype)
    assert scored(model, how, setup, precision=precision) == accuracy


@pytest.mark.parametrize("case", ["perceptron", "perceptron on gaussian noise", "batch norm", "unit range"])
def test_preprocess_feeds_the_network_as_the_evaluation_did(case: str, tmp_path: Path) -> None:
    setup, outcome = kept(tmp_path, **CASES[case])
    model, right = rethink_fast.load_model(str(tmp_path)), 0
    for images, rows in setup.dataset.train.images.read([setup.dataset.train.index]):
        index = setup.dataset.train.index
        logits = model(preprocess(model)(images[rows], index))
        right = int((logits.argmax(1) == setup.labels[index]).sum())
    assert outcome.evaluated is not None
    assert right / len(setup.dataset.train.index) == outcome.evaluated.train_accuracy


def test_the_weights_are_a_plain_state_dict(tmp_path: Path) -> None:
    setup, _ = kept(tmp_path, dataset="cifar10", limit=8, epochs=1)
    weights = torch.load(tmp_path / WEIGHTS, weights_only=True)
    assert list(weights) == list(setup.model.state_dict())
    for name, value in weights.items():
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.nbytes
        assert torch.equal(value, setup.model.state_dict()[name])
    about = json.loads((tmp_path / MODEL).read_text())
    assert about["parameters"] == 1_649_402
    assert about["classes"] == list(setup.dataset.classes)
    assert about["sha256"] == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()


def test_a_run_interrupted_within_an_epoch_leaves_its_last_state(tmp_path: Path) -> None:
    setup = made()
    outcome = trained(setup, tmp_path, stop_after=7)
    save_weights(tmp_path, setup, outcome)
    about = json.loads((tmp_path / MODEL).read_text())
    assert (about["steps"], about["train_accuracy"]) == (outcome.steps, None)
    for name, value in load_model(tmp_path).state_dict().items():
        assert torch.equal(value, setup.model.state_dict()[name])


def test_a_network_can_be_copied_and_used_without_indices(tmp_path: Path) -> None:
    kept(tmp_path, epochs=1)
    model = copy.deepcopy(load_model(tmp_path))
    images = torch.randint(0, 256, (3, 28, 28, 1), dtype=torch.uint8)
    assert model(preprocess(model)(images)).shape == (3, 10)
    with pytest.raises(ValueError, match=r"give uint8 \[B, 28, 28, 1\]"):
        preprocess(model)(images[..., 0])
    kept(tmp_path, epochs=1, corruption="random-pixels")
    with pytest.raises(ValueError, match="function of the sample index: give index"):
        preprocess(load_model(tmp_path))(images)


def test_loading_draws_no_weights(tmp_path: Path) -> None:
    """A normal draw on the meta device imports sympy, which took a hundred times as long as all else."""
    kept(tmp_path, dataset="cifar10", limit=8, epochs=1, model="wrn_28_1")
    code = "import sys; from rethink_fast import load_model; load_model(sys.argv[1]); sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


@pytest.mark.slow
def test_every_architecture_comes_back(tmp_path: Path) -> None:
    kept(tmp_path, dataset="cifar10", limit=8, epochs=1, model="mlp_1x512")
    about = json.loads((tmp_path / MODEL).read_text())
    for name, entry in MODELS.items():
        for aux_head in (False, True)[: 1 + (entry.smallest_aux is not None)]:
            side = max((entry.smallest_aux if aux_head else 0) or 0, entry.smallest, 28)
            options: dict[str, Any] = {"name": name, "num_classes": 10, "channels": 3, "dropout": 0.5}
            options["aux_head"] = aux_head
            model = rethink_fast.models.build_model(**options, size=(side, side))
            file = io.BytesIO()
            torch.save(model.state_dict(), file)
            (tmp_path / WEIGHTS).write_bytes(file.getvalue())
            changed = {
                **about,
                "architecture": {**options, "size": [side, side]},
                "parameters": sum(p.numel() for p in model.parameters()),
                "sha256": hashlib.sha256(file.getvalue()).hexdigest(),
                "preprocessing": {
                    **about["preprocessing"],
                    "image_shape": [side, side, 3],
                    "window": [0, 0, side, side],
                },
            }
            (tmp_path / MODEL).write_text(json.dumps(changed))
            images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
            loaded = load_model(tmp_path)
            inputs = preprocess(loaded)(images)
            assert torch.equal(loaded(inputs), model.eval()(inputs))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    kept(folder, epochs=1)
    return folder


def written(folder: Path, weights: Any) -> None:
    """Put other weights in place, with their right digest."""
    file = io.BytesIO()
    torch.save(weights, file)
    (folder / WEIGHTS).write_bytes(file.getvalue())
    about = json.loads((folder / MODEL).read_text())
    about["sha256"] = hashlib.sha256(file.getvalue()).hexdigest()
    (folder / MODEL).write_text(json.dumps(about))


def edited(*keys: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        about = part = json.loads((folder / MODEL).read_text())
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (folder / MODEL).write_text(json.dumps(about))

    return edit


def flipped(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / WEIGHTS).write_bytes(data)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def other(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    return lambda folder: written(folder, change(torch.load(folder / WEIGHTS, weights_only=True)))


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "holds no model.json"),
    "no description": (without(MODEL), "holds no model.json: name the folder of a run that has ended"),
    "no weights": (without(WEIGHTS), "model.pt cannot be read"),
    "a flipped bit": (flipped, "model.pt is damaged"),
    "no bytes": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "model.pt is damaged"),
    "a terabyte": (lambda folder: os.truncate(folder / WEIGHTS, 2**40), "at most"),
    "no JSON": (lambda folder: (folder / MODEL).write_text("{"), "is not whole JSON"),
    "a list": (lambda folder: (folder / MODEL).write_text("[]"), "an object is expected"),
    "another contract": (edited("contract_version", value=99), "is of contract version 99"),
    "another format": (edited("format", value=7), "is of format 7"),
    "unknown architecture": (edited("architecture", "name", value="mlp_9"), "model 'mlp_9' is unknown: choose one of"),
    "another architecture": (edited("architecture", "name", value="mlp_3x512"), "has or lacks"),
    "more classes": (edited("architecture", "num_classes", value=2**39), "model"),
    "a huge size": (edited("architecture", "size", value=[60000, 60000]), "model"),
    "a size in words": (edited("architecture", "size", value="28"), "a list of 2 is expected"),
    "dropout of 2": (edited("architecture", "dropout", value=2), "architecture.dropout 2"),
    "dropout of 1": (edited("architecture", "dropout", value=1), "dropout 1 is out of range"),
    "no classes": (edited("classes", value=[]), "its classes cannot"),
    "a window that does not fit": (edited("preprocessing", "window", value=[0, 0, 8, 8]), "size .28, 28. is out of"),
    "a window beyond the image": (edited("preprocessing", "window", value=[9, 9, 28, 28]), "its window cannot"),
    "a mean of four channels": (edited("preprocessing", "mean", value=[1.0] * 4), "its mean and std cannot"),
    "no mean at all": (edited("preprocessing", "mean", value=[]), "its mean and std cannot"),
    "an unknown corruption": (edited("preprocessing", "corruption", value="noise"), "corruption noise"),
    "gaussian without its mean": (edited("preprocessing", "corruption", value="gaussian"), "needs the mean and std"),
    "weights that are a list": (lambda folder: written(folder, [1]), "an object is expected"),
    "a weight in words": (other(lambda w: {**w, next(iter(w)): "zeros"}), "no tensor of numbers"),
    "a weight too few": (other(lambda w: dict(list(w.items())[1:])), "has or lacks 1.weight"),
    "a weight of another shape": (
        other(lambda w: {k: v[..., :1] for k, v in w.items()}),
        "not torch.float32 ",
    ),
    "a weight of another type": (other(lambda w: {k: v.double() for k, v in w.items()}), "torch.float64"),
    "a module": (lambda folder: written(folder, nn.Linear(2, 2)), "is not as torch.save writes it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_loaded_is_one_line(name: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "o"
    shutil.copytree(good, folder)
    change, said = WRONG[name]
    change(folder)
    with pytest.raises(UserError, match=said) as refused:
        load_model(folder)
    line = str(refused.value)
    assert str(folder) in line
    assert "\n" not in line
    assert len(line) < 700
