"""A run on a data set given in Python is the run that a data set of the package's makes of the same images."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import rethink_fast
from rethink_fast import Corruption, Data, DataOptions, Model, Record, Run, Session, Train, UserError, load_dataset
from rethink_fast.bench import seeds
from rethink_fast.bench.console import ConsoleProgress
from rethink_fast.defaults import resolve
from rethink_fast.memorize import memorize
from tests.bench.helpers import cli, refused

TRAIN = Train(epochs=3, batch_size=20, device="cpu")
SAMPLES = 60


@pytest.fixture(scope="module")
def given() -> dict[str, TensorDataset]:
    """The synthetic MNIST as people's own data sets: the samples that take part in a run of 60."""
    opened = load_dataset("mnist", DataOptions("synthetic", max_samples=SAMPLES))
    sets = {}
    for name, split in (("data", opened.train), ("test", opened.test)):
        assert split is not None
        images = torch.zeros(len(split.labels), 1, 28, 28, dtype=torch.uint8)
        read, rows = next(split.images.read([split.index]))
        images[split.index] = read[rows].permute(0, 3, 1, 2)
        sets[name] = TensorDataset(images, split.labels)
    return sets


def run_of(dataset: Any, corruption: str = "random", seed: int = 0, **data: Any) -> Run:
    kind: Any = corruption
    return Run(
        dataset, Data(**{"max_samples": SAMPLES, **data}), Corruption(kind, seed=seed), Model("mlp_1x512"), TRAIN
    )


def curves(record: Record) -> list[list[Any]]:
    names = ("online_loss", "online_accuracy", "train_loss", "train_accuracy", "test_accuracy", "step")
    return [[row[name] for name in names] for row in record.metrics()]


@pytest.mark.parametrize("corruption", ["random", "random-pixels", "gaussian"])
@pytest.mark.parametrize(("cache_images", "workers"), [("auto", 1), ("none", 2)])
def test_the_same_images_give_the_same_curves(
    given: dict[str, Any], corruption: str, cache_images: Any, workers: int, tmp_path: Path
) -> None:
    """Bit for bit, labels and pixels being corrupted alike, however the images are read."""
    ours = rethink_fast.run(run_of("mnist", corruption, data="synthetic"), session=Session(out=tmp_path / "ours"))
    run = run_of("own", corruption, cache_images=cache_images, workers=workers)
    own = rethink_fast.run(run, **given, session=Session(out=tmp_path / "own"))
    assert curves(own) == curves(ours)
    labels = [(record.folder / "labels.npz").read_bytes() for record in (own, ours)]
    assert labels[0] == labels[1]
    assert (own["dataset"], own["data_source"]) == ("own", "python torch.utils.data.dataset.TensorDataset")
    assert (own["n_train"], own["n_test"], own["num_classes"]) == (60, 60, 10)
    images = torch.zeros(2, 28, 28, 1, dtype=torch.uint8)
    models = [record.load_model() for record in (own, ours)]
    outputs = [model(model.preprocess(images, torch.arange(2))) for model in models]  # type: ignore[operator]
    assert torch.equal(*outputs)


def test_the_defaults_are_those_of_cifar10_at_the_images_own_size(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (40, 3, 12, 10), dtype=torch.uint8)
    data = TensorDataset(images, torch.arange(40) % 4)
    record = rethink_fast.run(Run("own", train=Train(epochs=2, device="cpu")), data=data, session=Session(out=tmp_path))
    assert (record["model"], record["image_size"], record["batch_size"]) == ("inception_small", 10, 128)
    assert (record["n_train"], record["n_test"], record["num_classes"]) == (40, 0, 4)
    rates = [row["learning_rate"] for row in record.metrics()]
    assert rates == pytest.approx([0.1, 0.095]), "an epoch is one of all its images"
    resolved = resolve(Run("own"), on_gpu=False, cores=1)
    assert resolved.train == resolve(Run("cifar10"), on_gpu=False, cores=1).train


def test_it_resumes_with_the_same_data_alone(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("own", cache_images="none", workers=2)
    whole = rethink_fast.run(run, **given, session=Session(out=tmp_path / "whole"))
    monkeypatch.setattr(ConsoleProgress, "on_epoch", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        rethink_fast.run(run, **given, session=Session(out=tmp_path / "o"))
    monkeypatch.undo()
    other = TensorDataset(255 - given["data"].tensors[0], given["data"].tensors[1])
    with pytest.raises(UserError, match="training pixels"):
        rethink_fast.run(run, data=other, test=given["test"], session=Session(resume=tmp_path / "o"))
    resumed = rethink_fast.run(run, **given, session=Session(resume=tmp_path / "o"))
    assert curves(resumed) == curves(whole)


@pytest.mark.parametrize(
    ("run", "names", "problem"),
    [
        (Run("own"), "", r"the data set own is your own, and there is none: .*data="),
        (Run("own", Data("/a/pack")), "test", "test= has no effect with .*own.* and a pack: give data= too"),
        (Run("own", Data("/a/pack")), "data", r"Data\(data='/a/pack'\) has no effect"),
        (Run("own"), "test", "there is none"),
        (Run("mnist"), "data", r'data= has no effect with Run\("mnist"\): give Run\("own", \.\.\.\)'),
        (Run("mnist"), "test", r"test= has no effect"),
        (Run("own", Data("synthetic")), "data", r"Data\(data='synthetic'\) has no effect"),
        (Run("own", Data(download=True)), "data", r"Data\(download=True\) has no effect"),
        (Run("own", Data(on_decode_error="skip")), "data", r"Data\(on_decode_error='skip'\) has no effect"),
        (Run("own", Data(size=29)), "data", "--size 29 is larger than the images of python torch"),
    ],
)
def test_what_does_not_agree(
    run: Run, names: str, problem: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=problem):
        rethink_fast.run(run, **{name: given[name] for name in names.split()})
    assert not list(tmp_path.rglob("*.json"))


def test_where_no_data_set_is_given(
    given: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="own is your own, and there is none"):
        memorize(run_of("own"), models=4)
    with pytest.raises(UserError, match=r'data= has no effect with Run\("mnist"\)'):
        memorize(run_of("mnist"), data=given["data"])
    rethink_fast.run(run_of("own"), **given, session=Session(out=tmp_path / "o"))
    assert "own is your own, and there is none" in refused(capfd, "measure", tmp_path / "o")
    assert "own" in refused(capfd, "bench", "own")


@pytest.mark.parametrize("model", ["mlp_1x512", "tests.models.own_networks:tiny"])
def test_a_population_on_it_is_that_of_the_same_images(model: str, given: dict[str, Any], tmp_path: Path) -> None:
    """All files but for the names in them; and a pack of it goes on with the population."""
    train = replace(TRAIN, lr=0.02)
    corruption = Corruption("partial", 0.2)
    both = {
        name: memorize(
            Run(name, Data(source, max_samples=SAMPLES), corruption, Model(model), train),  # type: ignore[arg-type]
            **data,
            models=14,
            ratio=0.5,
            out=tmp_path / name,
        )
        for name, source, data in (("own", "auto", given), ("mnist", "synthetic", {}))
    }
    for file in ("scores.csv", "predictions.npz", "influence.npz"):
        assert (tmp_path / "own" / file).read_bytes() == (tmp_path / "mnist" / file).read_bytes(), file
    names = ("n_train", "n_test", "classes", "parameters", "result")
    assert [both["own"].values[name] for name in names] == [both["mnist"].values[name] for name in names]
    assert (tmp_path / "own" / "contact-sheet.png").stat().st_size > 1000
    rethink_fast.pack_dataset(given["data"], tmp_path / "pack", test=given["test"])
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "own" / "models").iterdir()}
    words = ["--max-samples", str(SAMPLES), "--corruption", "partial", "--probability", "0.2", "--model", model]
    words += [
        "--lr",
        "0.02",
        "--epochs",
        "3",
        "--batch-size",
        "20",
        "--device",
        "cpu",
        "--models",
        "14",
        "--ratio",
        "0.5",
    ]
    assert cli("memorize", "own", "--data", tmp_path / "pack", *words, "--out", tmp_path / "own") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "own" / "models").iterdir()} == trained


def test_a_worker_that_is_killed_while_it_trains(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch raises it wherever the process is: here, in the middle of a step."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(seeds, "fit", fails)
    for message, raised in (
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", UserError),
        ("another error", RuntimeError),
    ):
        with pytest.raises(raised, match=r"is killed by signal: Killed.*use fewer workers|^another error$"):
            rethink_fast.run(run_of("own"), **given, session=Session(out=tmp_path / message[:4]))
