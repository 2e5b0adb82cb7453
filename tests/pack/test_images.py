"""Training from packs: the folder's images and order, what is refused, where they stay, and memory that stays flat."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast import rng
from rethink_fast.config import CorruptionName
from rethink_fast.data import DataOptions, Dataset, load_dataset, residency
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.data.npy_images import MappedFile, MemmapImages, PinnedMemmapImages, open_mapped
from rethink_fast.data.source import InMemoryImages, SupportsCrops
from rethink_fast.errors import UserError
from rethink_fast.train.setup import build_run
from tests.pack.helpers import CLASSES, flip, made, tree
from tests.train import fake_cuda
from tests.train.test_loop import run_of, train

pytest.importorskip("nvidia.dali")

CPU = torch.device("cpu")


def opened(path: Path, dataset: str = "imagenet", size: int = 14, **changes: Any) -> Dataset:
    how = {"size": size, "workers": 2, "on_decode_error": "skip", "cache_images": "none", **changes}
    return load_dataset(dataset, DataOptions(str(path), **how))


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """40 images to train on and 9 to test on, two of the first damaged."""
    root = tree(tmp_path / "src", same_size=True)
    names = sorted((root / "train").glob("*/*"))
    names[7].write_bytes(b"")
    names[21].write_bytes(names[21].read_bytes()[:-30])
    return root


def test_every_form_gives_the_folders_images_by_index(tmp_path: Path, src: Path) -> None:
    """To the bit, in any order, also of a rank's share alone, also a few at a time."""
    expected = opened(src)
    kinds = {("jpeg", None): JpegImages, ("npy", 14): MemmapImages}
    for (format, size), kind in kinds.items():
        found = opened(made(src, tmp_path / f"{format} {size}", format, size).path)
        assert isinstance(found.train.images, kind)
        assert found.data_source == f"{format} pack {tmp_path}/{format} {size}"
        assert found.classes == expected.classes == CLASSES
        for theirs, ours in ((expected.train, found.train), (expected.test, found.test)):
            assert ours is not None
            assert theirs is not None
            assert ours.images.shape == theirs.images.shape
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.index, theirs.index)
            assert [reason for _, reason in ours.damaged] == [reason for _, reason in theirs.damaged]
            for epoch in range(2):
                order = theirs.index[rng.order(1, epoch, len(theirs.index))]
                for parts in (order.split(5), [part[1::2] for part in order.split(7)], [order[:1], order]):
                    for one, other in zip(theirs.images.read(parts), ours.images.read(parts), strict=True):
                        assert torch.equal(one[0][one[1]], other[0][other[1]])


def test_random_windows_are_the_folders_or_of_what_the_pack_holds(tmp_path: Path, src: Path) -> None:
    expected = opened(src).train
    originals = opened(made(src, tmp_path / "originals", "jpeg", None).path).train.images
    small, decoded = (opened(made(src, tmp_path / format, format, 14).path).train.images for format in ("jpeg", "npy"))
    folder = expected.images
    assert isinstance(folder, SupportsCrops)
    assert isinstance(originals, SupportsCrops)
    assert isinstance(small, SupportsCrops)
    assert not isinstance(decoded, SupportsCrops)
    parts = expected.index.split(7)
    for epoch in range(2):
        reads = [images.read_crops(parts, seed=3, epoch=epoch) for images in (folder, originals, small)]
        for part, theirs, ours, smaller in zip(parts, *reads, strict=True):
            assert torch.equal(theirs[0][theirs[1]], ours[0][ours[1]])
            assert smaller[0][smaller[1]].shape == (len(part), 14, 14, 3)
            assert not torch.equal(theirs[0][theirs[1]], smaller[0][smaller[1]])


@pytest.mark.parametrize("corruption", ["random", "random-pixels"])
def test_the_same_curve_from_every_form(tmp_path: Path, src: Path, corruption: CorruptionName) -> None:
    """The same numbers to the bit from what keeps the images; and from re-encoded JPEGs and what they decode to."""

    def curve(path: Path, where: str = "none") -> list[float]:
        run = run_of(batch_size=8, lr=0.01, limit=30)
        kind = replace(run.corruption, corruption=corruption, probability=float(corruption == "random"))
        run = replace(run, data=replace(run.data, size=14), corruption=kind)
        return train(build_run(run, opened(path, max_samples=30, cache_images=where), CPU), epochs=3)

    def packed(format: str, size: int | None, of: Path = src) -> Path:
        return made(of, tmp_path / f"{of.name} {format} {size}", format, size).path

    raw, original, encoded = packed("npy", 14), packed("jpeg", None), packed("jpeg", 14)
    decoded = packed("npy", None, encoded)
    expected = curve(src)
    assert curve(src, "device") == expected
    assert curve(raw) == curve(raw, "device") == expected
    assert curve(original) == curve(original, "device") == expected
    assert isinstance(opened(encoded).train.images, JpegImages)
    assert isinstance(opened(decoded).train.images, MemmapImages)
    assert curve(encoded) == curve(encoded, "device") == curve(decoded) != expected


@pytest.mark.parametrize(("format", "size"), [("jpeg", None), ("npy", None)])
def test_cifar10_from_a_pack(tmp_path: Path, format: str, size: int | None) -> None:
    root = tree(tmp_path / "src", same_size=True)
    (root / "val").rename(root / "test")
    expected = opened(root, "cifar10", cache_images="auto")
    found = opened(made(root, tmp_path / "pack", format, size).path, "cifar10")
    assert found.train.images.shape == (24, 24, 3)
    assert expected.test is not None
    assert found.test is not None
    for theirs, ours in ((expected.train, found.train), (expected.test, found.test)):
        (one, row), (other, column) = (next(iter(s.images.read([s.index]))) for s in (theirs, ours))
        assert torch.equal(one[row], other[column])
        assert torch.equal(theirs.labels, ours.labels)


def test_what_does_not_fit_is_refused(tmp_path: Path, src: Path) -> None:
    at14, original = made(src, tmp_path / "at 14", size=14).path, made(src, tmp_path / "original").path
    own = made(src, tmp_path / "own", "npy").path
    many = made(tree(tmp_path / "many sizes"), tmp_path / "many").path
    for path, words, message in (
        (
            at14,
            {"size": 15},
            "holds images at 14 pixels, not at --size 15: use --size 14, or a pack made with --size 15",
        ),
        (own, {}, "holds images decoded at their own size, not at --size 14: use a pack made with --size 14"),
        (at14, {"crop_margin": True}, "random crops need the whole: use a pack in jpeg format made without --size"),
        (
            original,
            {"on_decode_error": "raise"},
            "was packed without n01/.* and 1 more: skip it with --on-decode-error skip",
        ),
        (many, {"dataset": "cifar10"}, "holds images of .* sizes, and cifar10 takes one"),
        (original, {"dataset": "mnist"}, "is a pack: open it as own"),
        (original, {"cache_images": "disk"}, "cache_images 'disk' is unknown: choose one of auto, device, none"),
    ):
        with pytest.raises(UserError, match=message):
            opened(path, **words)
    assert opened(original, crop_margin=True).train.images.shape == (16, 16, 3)
    assert opened(original, "cifar10").train.images.shape == (24, 24, 3)


def test_a_damaged_pack_is_refused_when_it_is_opened(tmp_path: Path, src: Path) -> None:
    pack = made(src, tmp_path / "pack")
    shard = pack.path / "train-00000.tar"
    opened(pack.path)
    flip(shard, 5000)
    with pytest.raises(UserError, match=r"train-00000\.tar is damaged in bytes 0 to \d+ \(another checksum\)"):
        opened(pack.path)
    flip(shard, 5000)
    opened(pack.path)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00000\.tar cannot be read"):
        opened(pack.path)


def test_a_sample_that_goes_bad_while_training_is_named(tmp_path: Path, src: Path) -> None:
    pack = made(src, tmp_path / "pack")
    images = opened(pack.path).train.images
    row = pack.train.index[9]
    content = bytearray((pack.path / "train-00000.tar").read_bytes())
    content[row["offset"] : row["offset"] + row["length"]] = bytes(int(row["length"]))
    with (pack.path / "train-00000.tar").open("r+b") as file:
        file.write(content)
    with pytest.raises(UserError, match=r"sample 9 in .*train-00000\.tar can no longer be decoded"):
        list(images.read(torch.tensor([8, 9, 10]).split(3)))


def test_residency_is_decided_by_the_free_memory() -> None:
    assert residency.plan("auto", 50, 100, CPU).stay
    assert not residency.plan("auto", 51, 100, CPU).stay
    assert residency.plan("device", 100, 100, CPU).stay
    assert not residency.plan("none", 1, 100, CPU).stay
    with pytest.raises(UserError, match=r"--cache-images device needs 0\.0 MB, and there are 0\.0 MB free on the CPU"):
        residency.plan("device", 101, 100, CPU)
    assert str(residency.plan("auto", 2 * 10**9, 10**10, CPU)) == (
        "stay in memory, 2.00 GB decoded: at most half of 10.00 GB free on the CPU"
    )


def test_images_of_random_windows_do_not_stay(src: Path) -> None:
    """Or the windows would be cut from the image or from its centre as the free memory has it."""
    assert not opened(src, cache_images="auto", random_windows=True).train.images.resident
    assert opened(src, cache_images="auto").train.images.resident
    with pytest.raises(UserError, match="--cache-images device has no effect with --augment random-resized-crop"):
        opened(src, cache_images="device", random_windows=True)


def test_residency_of_every_source(tmp_path: Path, src: Path) -> None:
    for path, streaming in ((src, True), (made(src, tmp_path / "jpeg").path, True)):
        for where, stays in (("auto", True), ("device", True), ("none", False)):
            dataset = opened(path, cache_images=where)
            assert isinstance(dataset.train.images, InMemoryImages) == stays
            assert dataset.train.images.resident == stays
            assert any("decoded" in note for note in dataset.notes) == streaming
    raw = made(src, tmp_path / "npy", "npy", 14).path
    assert isinstance(opened(raw, cache_images="auto").train.images, MemmapImages)
    assert "images stream, 0.0 MB decoded: memory-mapped" in opened(raw, cache_images="auto").notes[-1]
    held = opened(raw, cache_images="device").train.images
    assert isinstance(held, InMemoryImages)
    assert not isinstance(held, MemmapImages)
    root = tree(tmp_path / "small", same_size=True)
    (root / "val").rename(root / "test")
    with pytest.raises(
        UserError, match=r"--cache-images none has no effect with jpeg folder .*, which is decoded when"
    ):
        opened(root, "cifar10")
    assert opened(root, "cifar10", cache_images="device").notes == ()


def test_a_mapped_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    read = list(open_mapped(tmp_path / "a.npy", CPU).read(torch.arange(20).flip(0).split(6)))
    assert [len(rows) for _, rows in read] == [6, 6, 6, 2]
    assert np.array_equal(torch.cat([whole[rows] for whole, rows in read]).numpy(), images[::-1])
    mapped = MappedFile(tmp_path / "a.npy")
    asked: list[int] = []
    mapped._map = SimpleNamespace(madvise=lambda advice, start, length: asked.append(length))
    for _ in range(3):
        mapped.prefetch(torch.tensor([4, 0, 19]))
    mapped.prefetch(torch.tensor([4, 7]))
    assert len(asked) == 4
    np.save(tmp_path / "b.npy", images.astype(np.float32))
    (tmp_path / "c.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    (tmp_path / "d.npy").write_bytes(b"no")
    for name, message in (
        ("b", "holds float32"),
        ("c", "is damaged, or no .npy"),
        ("d", "is damaged, or no .npy"),
        ("e", "cannot be"),
    ):
        with pytest.raises(UserError, match=message):
            MappedFile(tmp_path / f"{name}.npy")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_staged_images_come_in_order_and_whole(tmp_path: Path) -> None:
    """On a GPU: no batch is overwritten while it is in use, nor its pinned memory while it is being sent."""
    images = np.random.default_rng(0).integers(0, 256, (300, 40, 40, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    device = torch.device("cuda")
    staged, whole = open_mapped(tmp_path / "a.npy", device), torch.from_numpy(images).to(device)
    assert isinstance(staged, PinnedMemmapImages)
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    for epoch in range(20):
        order = rng.order(0, epoch, 300)
        batches = order.split([7, 64, 64, 1, 100, 64])
        for index, (batch, rows) in zip(batches, staged.read(batches), strict=True):
            torch.cuda._sleep(10**6)  # the device lags behind the host
            wrong += (batch[rows] != whole[index.to(device)]).sum()
    assert wrong.item() == 0


def test_staged_images_share_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By doubles of CUDA's calls: torch keeps the memory that is freed on each of its 32 streams apart."""
    made: list[Stream] = []

    class Stream(fake_cuda.Stream):
        def __init__(self, *_: Any) -> None:
            made.append(self)

        def wait_event(self, event: fake_cuda.Event) -> None:
            assert event.recorded

    current, empty = Stream(), torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
    for name, double in (("Stream", Stream), ("Event", fake_cuda.Event), ("current_stream", lambda _: current)):
        monkeypatch.setattr(torch.cuda, name, double)
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    staged = PinnedMemmapImages(MappedFile(tmp_path / "a.npy"), CPU)
    for epoch in range(3):
        batches = rng.order(0, epoch, 30).split(7)
        for index, (batch, rows) in zip(batches, staged.read(batches), strict=True):
            assert np.array_equal(batch[rows].numpy(), images[index.numpy()])
    assert len(made) == 2, "the current one, and one for all epochs"


MEMORY = """
import sys, torch
from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data.loader import Loader
from rethink_fast.data.preprocess import Preprocessing
from rethink_fast.train.device import trim_heap
torch.set_num_threads(1)
cpu = torch.device("cpu")
data = load_dataset("imagenet", DataOptions(sys.argv[1], size=64, cache_images="none", workers=1)).train
how = Preprocessing((0, 0, 64, 64), "random_pixels", 0, (64, 64))
loader = Loader(data, data.labels, torch.zeros(len(data.labels), dtype=torch.bool), how, batch_size=64)
for epoch in range(50):
    for batch in loader.epoch(epoch):
        loader.preprocess(batch, epoch)
    trim_heap(cpu)
    if epoch in (4, 49):
        status = open("/proc/self/status").read()
        print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["jpeg", "npy"])
def test_memory_stays_flat(tmp_path: Path, shared_data: Path, format: str) -> None:
    """After 50 epochs over 200 photographs no more than 2 % above that after 5."""
    path = made(shared_data / "imagenet-sample", tmp_path / "pack", format, 64).path
    words = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    after5, after50 = map(int, done.stdout.split())
    assert after50 <= 1.02 * after5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cache_images", ["none", "device"])
@pytest.mark.parametrize("format", ["jpeg", "npy"])
def test_packs_on_a_gpu(tmp_path: Path, src: Path, format: str, cache_images: str) -> None:
    """The samples of a CPU: to the bit from npy, and from JPEG, whose decoder is another, the nearest of all."""
    path = made(src, tmp_path / "pack", format, 14).path
    here = opened(path).train
    dataset = opened(path, device=torch.device("cuda"), cache_images=cache_images)
    ((images, rows),) = here.images.read([here.index])
    whole = images[rows].float()
    order = rng.order(0, 0, len(here.index))
    read = [(pixels[rows]).cpu().float() for pixels, rows in dataset.train.images.read(here.index[order].split(8))]
    for place, image in zip(order.tolist(), torch.cat(read), strict=True):
        distance = (whole - image).abs().mean(dim=(1, 2, 3))
        assert distance.argmin() == place
        assert format == "jpeg" or distance[place] == 0
