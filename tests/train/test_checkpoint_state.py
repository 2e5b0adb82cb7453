"""What a checkpoint holds is all that the next step depends on; and only what it can hold is taken from one."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rethink_fast.config import Train
from rethink_fast.errors import UserError
from rethink_fast.train.checkpoint import NEWEST, PREVIOUS, Checkpoints, identity
from rethink_fast.train.setup import RunContext
from rethink_fast.train.state import EpochMetrics, TrainState
from rethink_fast.train.torch_file import seal, sealed, unsealed
from tests.bench.resumable import figures, made, trained

CASES: dict[str, dict[str, Any]] = {
    "dropout and flips": {"dropout": 0.3, "augment": ("flip",)},
    "adam": {"optimizer": "adam", "weight_decay": 1e-3},
    "preconditioned adam in bf16": {"optimizer": "preconditioned-adam", "precision": "bf16", "dropout": 0.1},
    "rmsprop": {"optimizer": "rmsprop", "weight_decay": 1e-3},
    "step": {"schedule": "step"},
    "linear": {"schedule": "linear", "corruption": "gaussian", "deterministic": True},
    "decay with steps": {"lr_decay": 0.5, "momentum": 0.5, "corruption": "random-pixels"},
    "batch norm": {"dataset": "cifar10", "size": 12, "augment": ("crop", "flip", "rotation"), "limit": 20},
    "batch norm, adam, dropout": {"dataset": "cifar10", "size": 12, "optimizer": "adam", "dropout": 0.5, "limit": 20},
    "local response": {"dataset": "cifar10", "model": "alexnet_small", "dropout": 0.5, "corruption": "shuffled-pixels"},
    "top 5, crops and colours": {
        "dataset": "imagenet",
        "size": 32,
        "model": "mlp_1x512",
        "augment": ("random-resized-crop", "flip", "color-jitter"),
    },
    "top 5, auxiliary head": {
        "dataset": "imagenet",
        "size": 299,
        "model": "inception_v3",
        "aux_head": True,
        "limit": 4,
        "batch_size": 2,
        "epochs": 2,
    },
}
SLOW = {"local response", "preconditioned adam in bf16", "batch norm, adam, dropout", "top 5, auxiliary head"}


def same(ours: RunContext, theirs: RunContext) -> None:
    state, other = ours.step.state(), theirs.step.state()
    assert state.keys() == other.keys()
    assert [name for name in state if not torch.equal(state[name], other[name])] == []


@pytest.mark.parametrize("case", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES])
def test_a_run_that_goes_on_from_the_middle_of_an_epoch_equals_the_unbroken_one(case: str, tmp_path: Path) -> None:
    unbroken = made(**CASES[case])
    expected = trained(unbroken, tmp_path)
    per_epoch = len(unbroken.train)
    for steps in (1, per_epoch + 1, per_epoch + 3):  # inside the first epoch, an evaluation and the second epoch
        folder = tmp_path / str(steps)
        folder.mkdir()
        first = made(**CASES[case])
        assert trained(first, folder, stop_after=steps).stop_reason == "interrupted"
        torch.manual_seed(random.getrandbits(32))  # as a new process, whose generators stand elsewhere
        again = made(**CASES[case])
        outcome = trained(again, folder, resumed=True)
        assert figures(outcome) == figures(expected)
        same(again, unbroken)


def test_more_epochs_equal_an_unbroken_longer_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.2, "augment": ("flip",)}
    short = made(**options, epochs=2)
    assert trained(short, tmp_path).stop_reason == "max_epochs"
    longer = made(**options, epochs=5)
    outcome = trained(longer, tmp_path, resumed=True)
    unbroken = made(**options, epochs=5)
    assert figures(trained(unbroken, tmp_path)) == figures(outcome)
    same(longer, unbroken)


def test_a_linear_schedule_has_no_more_epochs(tmp_path: Path) -> None:
    trained(made(schedule="linear", epochs=1), tmp_path)
    with pytest.raises(UserError, match=r"epochs 1 there, 3 here.*--schedule linear follows --epochs"):
        trained(made(schedule="linear", epochs=3), tmp_path, resumed=True)


def test_fewer_epochs_than_are_done_are_refused(tmp_path: Path) -> None:
    trained(made(epochs=3), tmp_path)
    with pytest.raises(UserError, match="is in epoch 3 already"):
        trained(made(epochs=2), tmp_path, resumed=True)
    folder = tmp_path / "o"
    folder.mkdir()
    trained(made(epochs=3), folder, stop_after=6)
    with pytest.raises(UserError, match="is in epoch 2 already") as refused:
        trained(made(epochs=1), folder, resumed=True)
    assert (refused.value.option, refused.value.value) == ("--epochs", 1)


def test_a_resume_may_have_another_residency_and_other_workers(tmp_path: Path) -> None:
    setup = made(epochs=1)
    trained(setup, tmp_path)
    run = setup.run
    other = made(epochs=1)
    data = replace(run.data, cache_images="device", workers=5, on_decode_error="skip", data="elsewhere")
    Checkpoints(tmp_path).load(replace(other, run=replace(run, data=data)))


def test_torch_itself_reads_a_checkpoint(tmp_path: Path) -> None:
    setup = made(epochs=1)
    trained(setup, tmp_path)
    content = torch.load(tmp_path / NEWEST, weights_only=True)
    weight = next(iter(setup.model.state_dict().values()))
    assert any(torch.equal(value, weight) for value in content["state"].values())
    assert zipfile.ZipFile(tmp_path / NEWEST).testzip() is None


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c"
    data = bytes(sealed({"a": torch.arange(5), "b": {"c": [1.5, None, "d"]}}))
    assert data[-106:-102] == b"PK\x05\x06", "the archive ends where the digest is put"
    for bit in range(0, len(data) * 8, 11):  # bits of every byte's place
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="damaged"):
            unsealed(path, limit=2**20)
    for wrong in (data[:-1], data + b"\0", data[: len(data) // 2], b"", data[:100] + data):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="damaged"):
            unsealed(path, limit=2**20)


def test_flipped_bits_of_a_real_checkpoint_are_found(tmp_path: Path) -> None:
    trained(made(epochs=1), tmp_path)
    data, draws = (tmp_path / NEWEST).read_bytes(), random.Random(0)
    for _ in range(10):
        flipped = bytearray(data)
        flipped[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        (tmp_path / "c").write_bytes(flipped)
        with pytest.raises(ValueError, match="damaged"):
            unsealed(tmp_path / "c", limit=2**28)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, Path]:
    """A folder with two checkpoints, of one and of two epochs."""
    folder = tmp_path_factory.mktemp("two")
    for epochs in (1, 2):
        setup = made(epochs=epochs)
        trained(setup, folder, resumed=epochs > 1)
    return made(epochs=4), folder


def row(**values: Any) -> Callable[[Any], None]:
    return lambda content: content["outcome"]["rows"][0].update(values)


def outcome(**values: Any) -> Callable[[Any], None]:
    return lambda content: content["outcome"].update(values)


def state(**values: Any) -> Callable[[Any], None]:
    return lambda content: content["state"].update({name.replace("__", "."): value for name, value in values.items()})


def drop(part: str, name: str) -> Callable[[Any], None]:
    return lambda content: content[part].pop(name)


NAN, INF = float("nan"), float("inf")
REPLACED: dict[str, Callable[[Any], Any]] = {
    "not a dict": lambda content: [content],
    "nothing": lambda content: None,
    "keys that are numbers": lambda content: dict(enumerate(content.values())),
}
CHANGED: dict[str, Callable[[Any], Any]] = {
    "another format": lambda content: content.update(format=1),
    "a tensor as format": lambda content: content.update(format=torch.ones(2)),
    "a tensor as identity": lambda content: content.update(identity=torch.zeros(3)),
    "a tensor in the identity": lambda content: content["identity"].update(lr=torch.zeros(3)),
    "no state": lambda content: content.pop("state"),
    "a state that is a list": lambda content: content.update(state=[]),
    "epoch below 0": outcome(epoch=-1),
    "epoch too large": outcome(epoch=10**30),
    "another epoch": outcome(epoch=3),
    "an epoch in words": outcome(epoch="2"),
    "a batch beyond the last": outcome(batch=99),
    "other steps": outcome(steps=7),
    "other images": outcome(images=1),
    "seconds below 0": outcome(train_seconds=-1.0),
    "seconds not finite": outcome(train_seconds=INF),
    "no sessions": drop("outcome", "sessions"),
    "one key more": outcome(surprise=1),
    "unknown end": outcome(stopped="later"),
    "a choice in words": outcome(compile="enabled"),
    "half a choice": outcome(compile={"enabled": True}),
    "rows missing": outcome(rows=[]),
    "rows that are no list": outcome(rows={"epoch": 1}),
    "accuracy above 1": row(train_accuracy=1.5),
    "accuracy not a number": row(test_accuracy=NAN),
    "loss in words": row(train_loss="low"),
    "accuracy without loss": row(train_loss=None),
    "row of another epoch": row(epoch=2),
    "no milestones": outcome(milestones={}),
    "milestone in words": lambda content: content["outcome"]["milestones"].update({"accuracy>=0.5": "soon"}),
    "milestone below 0": lambda content: content["outcome"]["milestones"].update(
        {"accuracy>=0.5": {"seconds": -1.0, "epochs": 1, "steps": 3}}
    ),
    "no weights": lambda content: content["state"].clear(),
    "weights of another shape": state(model__1__weight=torch.zeros(512, 783)),
    "weights of another type": state(model__1__weight=torch.zeros(512, 784, dtype=torch.float64)),
    "weights in words": state(model__1__weight="zeros"),
    "sparse weights": state(model__1__weight=torch.zeros(512, 784).to_sparse()),
    "other counters": state(counter__steps=torch.tensor(99)),
    "a generator of zeros": state(generator__cpu=torch.zeros(5056, dtype=torch.uint8)),
    "a generator too short": state(generator__cpu=torch.zeros(16, dtype=torch.uint8)),
}


@pytest.mark.parametrize("name", [*REPLACED, *CHANGED])
def test_strange_content_is_passed_over_for_the_checkpoint_before(
    name: str, two: tuple[RunContext, Path], tmp_path: Path
) -> None:
    setup, folder = two
    content = torch.load(folder / NEWEST, weights_only=True)
    if name in REPLACED:
        content = REPLACED[name](content)
    else:
        CHANGED[name](content)
    (tmp_path / NEWEST).write_bytes(sealed(content))
    (tmp_path / PREVIOUS).write_bytes((folder / PREVIOUS).read_bytes())
    before = setup.step.state()
    found, note = Checkpoints(tmp_path).load(setup)
    assert note is not None
    assert f"{tmp_path / NEWEST} cannot be used (" in note
    assert f"going on from {tmp_path / PREVIOUS}, step 3" in note
    assert len(note.splitlines()) == 1
    assert len(note) < 600
    assert found.epoch == 1
    (tmp_path / PREVIOUS).unlink()
    setup.step.load_state(before)
    with pytest.raises(UserError, match="cannot be used") as refused:
        Checkpoints(tmp_path).load(setup)
    assert "\n" not in str(refused.value)
    unchanged = setup.step.state()
    assert all(torch.equal(before[key], unchanged[key]) for key in before), "nothing is loaded of what is refused"


def archives(content: bytes) -> dict[str, bytes]:
    """Files that are no archive of torch, each of which gets a right digest."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    return {
        "an empty archive": b"PK\x05\x06" + bytes(18),
        "compressed": packed.getvalue(),
        "text": b"hello",
        "half": content,
    }


def test_archives_that_torch_cannot_read_are_one_line(two: tuple[RunContext, Path], tmp_path: Path) -> None:
    setup, folder = two
    data = (folder / NEWEST).read_bytes()
    for name, wrong in archives(data[: len(data) // 2]).items():
        (tmp_path / NEWEST).write_bytes(seal(io.BytesIO(wrong)))
        with pytest.raises(UserError, match="cannot be used") as refused:
            Checkpoints(tmp_path).load(setup)
        assert "\n" not in str(refused.value), name


def test_what_is_no_file_is_passed_over(two: tuple[RunContext, Path], tmp_path: Path) -> None:
    setup, folder = two
    (tmp_path / PREVIOUS).write_bytes((folder / PREVIOUS).read_bytes())
    os.mkfifo(tmp_path / NEWEST)
    assert "not a regular file" in str(Checkpoints(tmp_path).load(setup)[1])
    (tmp_path / NEWEST).unlink()
    (tmp_path / NEWEST).mkdir()
    assert "cannot be used" in str(Checkpoints(tmp_path).load(setup)[1])
    (tmp_path / NEWEST).rmdir()
    with (tmp_path / NEWEST).open("wb") as file:
        file.truncate(2**40)
    assert "at most" in str(Checkpoints(tmp_path).load(setup)[1])


def test_other_pixels_under_the_same_labels_are_another_run(tmp_path: Path) -> None:
    setup = made(epochs=1)
    trained(setup, tmp_path)
    images = setup.dataset.train.images
    other = made(epochs=2)
    other.dataset.train.images.images[7, 3, 3, 0] ^= 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"is another run .*training pixels [0-9a-f]{12} there, [0-9a-f]{12} here"):
        Checkpoints(tmp_path).load(other)
    assert identity(setup)["training pixels"] != identity(other)["training pixels"]
    assert images is setup.dataset.train.images


def test_plain_values_are_those_of_the_outcome() -> None:
    given = EpochMetrics(
        epoch=1,
        step=2,
        train_seconds=3.0,
        learning_rate=0.1,
        online_loss=INF,
        train_loss=NAN,
        train_accuracy=1.0,
        clean_accuracy=None,
        corrupted_accuracy=0.5,
        test_loss=None,
        test_accuracy=None,
        online_accuracy=0.5,
        images_per_second=3.0,
    )
    values = TrainState(rows=[given], epoch=1, steps=2, compile={"enabled": False, "reason": "asked"}).as_dict()
    assert repr(TrainState.from_dict(values).as_dict()) == repr(values)


def test_a_run_ends_for_its_reason(tmp_path: Path) -> None:
    assert trained(made(target_accuracy=0.0, epochs=2), tmp_path).stop_reason == "target_reached"
    assert not (tmp_path / NEWEST).exists()
    assert trained(made(target_accuracy=0.0, target_loss=0.0, epochs=2), tmp_path).stop_reason == "max_epochs"
    assert Train().target_accuracy == 1.0


def jpegs(folder: Path, *, seed: int) -> None:
    """A folder of six JPEGs in two classes, whose names do not depend on the seed."""
    image = pytest.importorskip("PIL.Image")
    draws = torch.Generator().manual_seed(seed)
    for place in range(6):
        path = folder / "train" / f"class{place % 2}" / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(torch.randint(0, 256, (40, 40, 3), generator=draws, dtype=torch.uint8).numpy()).save(path)


def test_other_files_of_the_same_names_are_another_run_and_another_residency_is_not(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset": "imagenet", "size": 32, "model": "mlp_1x512", "limit": 6, "batch_size": 3}
    jpegs(tmp_path / "a", seed=0)
    jpegs(tmp_path / "b", seed=1)
    setup = made(**options, data=str(tmp_path / "a"), cache_images="none", epochs=1)
    assert not setup.dataset.train.images.resident
    trained(setup, tmp_path)
    again = made(**options, data=str(tmp_path / "a"), cache_images="device", epochs=2)
    assert again.dataset.train.images.resident
    assert trained(again, tmp_path, resumed=True).epoch == 2
    with pytest.raises(UserError, match=r"another run \(training pixels [0-9a-f]{12} there, [0-9a-f]{12} here\)"):
        trained(made(**options, data=str(tmp_path / "b"), epochs=3), tmp_path, resumed=True)
