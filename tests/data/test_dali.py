"""Image files through DALI: exact order, exact pixels, safe memory, and what happens to bad files."""

from __future__ import annotations

import gc
import io
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from rethink_fast import rng
from rethink_fast.data import DataOptions
from rethink_fast.data.dali import decode
from rethink_fast.data.examine import find_undecodable
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.errors import UserError

CPU = torch.device("cpu")
pytest.importorskip("nvidia.dali")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def jpeg(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90, "subsampling": 0, **how})
    return file.getvalue()


def grey(value: int, size: int = 16) -> bytes:
    return jpeg(Image.new("L", (size, size), value))


def numbered(folder: Path, n: int) -> list[str]:
    """Image k is uniformly grey with the value 3 k, which JPEG keeps exactly: its only coefficient is 8 (3k - 128)."""
    names = [f"{k:03}.jpg" for k in range(n)]
    for k, name in enumerate(names):
        (folder / name).write_bytes(grey(3 * k))
    return names


def opened(folder: Path, names: list[str], size: int = 14, margin: bool = False, workers: int = 2) -> JpegImages:
    return JpegImages(ImageFiles(folder, names), DataOptions(size=size, crop_margin=margin, workers=workers))


def values(images: torch.Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_every_epoch_has_the_callers_order(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 23))
    for epoch in range(3):
        order = rng.order(1, epoch, 23)
        seen = []
        for batch, (pixels, rows) in zip(order.split(8), images.read(order.split(8)), strict=True):
            assert pixels.dtype == torch.uint8
            assert pixels.shape == (len(batch), 14, 14, 3)
            seen += values(pixels[rows])
        assert seen == [3 * k for k in order.tolist()]


def test_a_batch_that_is_kept_is_not_overwritten(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 40))
    batches = torch.arange(40).split(4)
    kept = [pixels for _ in range(3) for pixels, _ in images.read(batches)]
    del images
    assert [value for pixels in kept for value in values(pixels)] == [3 * k for k in range(40)] * 3


def test_an_epoch_may_be_left_and_batches_may_grow(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 40))
    for stop in (0, 1, 3):
        for k, (pixels, _) in enumerate(images.read(torch.arange(40).split(4))):
            assert values(pixels) == [3 * i for i in range(4 * k, 4 * k + 4)]
            if k == stop:
                break
        first, *_ = images.read(torch.arange(12, 40).split(4))
        assert values(first[0]) == [36, 39, 42, 45]
        (pixels, _), *_ = images.read([torch.arange(20 + stop, 30 + 2 * stop)])
        assert values(pixels) == [3 * i for i in range(20 + stop, 30 + 2 * stop)]
    assert list(images.read([])) == []


def test_batches_of_all_sizes(tmp_path: Path) -> None:
    """A last batch of one joins the one before it, which makes it the largest."""
    images = opened(tmp_path, numbered(tmp_path, 40))
    sizes = [4, 4, 5, 1, 9, 9, 8]
    for _ in range(2):
        read = [pixels for pixels, _ in images.read(torch.arange(40).split(sizes))]
        assert [len(pixels) for pixels in read] == sizes
        assert values(torch.cat(read)) == [3 * k for k in range(40)]


def test_a_later_read_ends_an_earlier_one(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 12))
    earlier = images.read(torch.arange(12).split(2))
    next(earlier)
    later = images.read(torch.arange(12).split(3))
    assert values(next(later)[0]) == [0, 3, 6]
    with pytest.raises(AssertionError, match="another read"):
        next(earlier)
    assert values(next(later)[0]) == [9, 12, 15]


def test_few_batches_are_read_ahead(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 64))
    asked = 0

    def batches() -> Iterator[torch.Tensor]:
        nonlocal asked
        for batch in torch.arange(64).split(2):
            asked += 1
            yield batch

    for done, _ in enumerate(images.read(batches()), start=1):
        # Two of ours, two in DALI's queue, the one it works on, and the one in our hands.
        assert asked - done <= 5
    assert asked == done == 32


def test_no_threads_remain(tmp_path: Path) -> None:
    images = opened(tmp_path, numbered(tmp_path, 8), workers=3)
    for _ in range(2):
        list(images.read(torch.arange(8).split(2)))
    reading = images.read(torch.arange(8).split(2))
    next(reading)
    del reading
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-files")]


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x112] = orientation
    return made


ODD: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "grey.jpg": (Image.fromarray(noise(32, 32)), {"quality": 90}),
    "colour 4:2:0.JPG": (Image.fromarray(noise(32, 32, 3)), {"quality": 90, "subsampling": 2}),
    "progressive.jpeg": (Image.fromarray(noise(32, 32, 3)), {"quality": 90, "progressive": True}),
    "cmyk.jpg": (Image.fromarray(noise(32, 32, 4), mode="CMYK"), {"quality": 90}),
    "palette.png": (Image.fromarray(noise(32, 32, 3)).quantize(16), {}),
    "alpha.PNG": (Image.fromarray(noise(32, 32, 4), mode="RGBA"), {}),
    **{f"exif {k}.jpg": (Image.fromarray(noise(32, 32, 3)), {"quality": 90, "exif": exif(k)}) for k in range(1, 9)},
}


@pytest.mark.parametrize("margin", [False, True], ids=["centre", "whole"])
@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_odd_images_are_decoded_properly(tmp_path: Path, name: str, margin: bool) -> None:
    """At a size that needs no resizing: 28 of 32 is 87.5 %."""
    image, how = ODD[name]
    image.save(tmp_path / name, **how)
    (pixels, _), *_ = opened(tmp_path, [name], size=28, margin=margin).read([torch.tensor([0])])
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB")).astype(int)
    if not margin:
        expected = expected[2:30, 2:30]
    # Both decode by libjpeg-turbo: equal but for the product of ink and black, which DALI and PIL round differently.
    assert np.abs(pixels[0].numpy() - expected).max() <= (1 if "cmyk" in name else 0)


def test_a_turned_image_is_cropped_after_it_is_upright(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 160, 3)).save(tmp_path / "a.jpg", exif=exif(6))
    ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")).save(tmp_path / "b.png")
    (pixels, _), *_ = opened(tmp_path, ["a.jpg", "b.png"]).read([torch.arange(2)])
    assert torch.equal(pixels[0], pixels[1])


@pytest.mark.parametrize(("size", "margin"), [(48, False), (200, False), (42, True)], ids=["down", "up", "margin"])
def test_resizing(tmp_path: Path, size: int, margin: bool) -> None:
    Image.fromarray(noise(128, 160, 3)).save(tmp_path / "a.png")
    (pixels, _), *_ = opened(tmp_path, ["a.png"], size=size, margin=margin).read([torch.tensor([0])])
    edge = round(size / 0.875) if margin else size
    assert pixels.shape == (1, edge, edge, 3)
    box = (0, 0, 160, 128) if margin else (10, 8, 150, 120)
    expected = Image.open(tmp_path / "a.png").crop(box).resize((edge, edge), Image.Resampling.BILINEAR)
    # Both filters are the same triangle. PIL rounds after each of its two passes (0.5 + 0.5), ours at the end (0.5, and
    # 0.1 for its rows and weights): whole numbers 1.6 apart at most differ by 1.
    assert np.abs(pixels[0].numpy().astype(int) - np.asarray(expected)).max() <= 1


BROKEN = {
    "empty": b"",
    "not an image of a known kind": b"hello, world",
    f"truncated at byte {len(grey(90)) - 2}": grey(90)[:-2],
    "corrupt: marker 02 at byte 38": grey(90)[:20] + b"\xff" * 19 + b"\x02" + grey(90)[40:],
}


def broken_with_thumbnail() -> bytes:
    """A JPEG whose metadata hold a whole thumbnail, cut off in its own scan."""
    thumbnail = grey(10)
    whole = jpeg(Image.fromarray(noise(64, 64, 3)))
    comment = b"\xff\xfe" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    return (whole[:2] + comment + whole[2:])[:-500]


@pytest.mark.parametrize("reason", BROKEN)
def test_find_undecodable(reason: str) -> None:
    png = io.BytesIO()
    Image.fromarray(noise(32, 32)).save(png, "PNG")
    thumbnail, cut = broken_with_thumbnail(), png.getvalue()[:-100]
    files = [grey(1), BROKEN[reason], grey(2, 40), thumbnail, png.getvalue(), cut]
    arrays = [np.frombuffer(data, np.uint8) for data in files]
    found = list(find_undecodable([arrays, arrays[:1], arrays[1:2]], workers=1))
    expected = [None, reason, None, f"truncated at byte {len(thumbnail):,}", None, f"truncated at byte {len(cut):,}"]
    assert found == [expected, [None], [reason]]


@pytest.mark.parametrize("workers", [1, 3])
def test_many_damaged_files_one_after_another(workers: int) -> None:
    """In one batch, DALI ends the process at the first that has others behind it."""
    whole = jpeg(Image.fromarray(noise(200, 200, 3)))
    corrupt = whole[:20] + b"\xff" * 19 + b"\x02" + whole[40:]
    files = [np.frombuffer(corrupt if k % 3 else whole, np.uint8) for k in range(40)]
    (found,) = find_undecodable([files], workers=workers)
    assert [reason and reason.split(":")[0] for reason in found] == [("corrupt" if k % 3 else None) for k in range(40)]


@pytest.mark.parametrize("reason", BROKEN)
def test_a_damaged_file_that_was_not_checked_is_named(tmp_path: Path, reason: str) -> None:
    """In a batch of 40, where DALI ends the process at a header that it cannot read."""
    names = numbered(tmp_path, 40)
    (tmp_path / names[9]).write_bytes(BROKEN[reason])
    with pytest.raises(UserError, match=rf"009\.jpg can no longer be decoded \({reason}\)"):
        list(opened(tmp_path, names).read([torch.arange(40)]))


@pytest.mark.parametrize("reason", BROKEN)
def test_a_file_that_changes_is_named(tmp_path: Path, reason: str) -> None:
    names = numbered(tmp_path, 12)
    images = opened(tmp_path, names)
    list(images.read(torch.arange(12).split(4)))
    before = os.stat(tmp_path / names[9])
    (tmp_path / names[9]).write_bytes(BROKEN[reason])
    with pytest.raises(UserError, match=r"009\.jpg has changed since it was checked: start again"):
        list(images.read(torch.arange(12).split(4)))
    os.remove(tmp_path / names[9])
    with pytest.raises(UserError, match=r"009\.jpg cannot be read \(No such file"):
        list(images.read(torch.arange(12).split(4)))
    os.mkfifo(tmp_path / names[9])
    with pytest.raises(UserError, match=r"009\.jpg cannot be read \(not a regular file"):
        list(images.read(torch.arange(12).split(4)))
    os.remove(tmp_path / names[9])
    (tmp_path / names[9]).write_bytes(grey(27))
    os.utime(tmp_path / names[9], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [v for pixels, _ in images.read(torch.arange(12).split(4)) for v in values(pixels)] == list(range(0, 36, 3))


def test_decode_in_batches() -> None:
    files = [np.frombuffer(grey(3 * k), np.uint8) for k in range(20)]
    assert values(torch.cat([*map(torch.stack, map(list, decode(files, workers=1, batch=8)))])) == [
        3 * k for k in range(20)
    ]
    mixed = next(iter(decode([files[0], np.frombuffer(grey(9, 24), np.uint8)], workers=1)))
    assert [tuple(image.shape) for image in mixed] == [(16, 16, 3), (24, 24, 3)]


def test_photographs(shared_data: Path) -> None:
    """200 of ImageNet's, of all sizes, against PIL, which rounds twice."""
    root = shared_data / "imagenet-sample"
    names = sorted(str(path.relative_to(root)) for path in root.glob("*/*.JPEG"))
    images = opened(root, names, size=96)
    order = rng.order(0, 0, len(names))
    read = torch.cat([pixels for pixels, _ in images.read(order.split(64))])
    assert read.shape == (200, 96, 96, 3)
    for sample in (0, 57, 199):
        image = Image.open(root / names[order[sample]]).convert("RGB")
        # DALI rounds the edges of the window to whole pixels, halves up; so PIL is given the very same window.
        left, top, right, bottom = (math.floor(s * extent + 0.5) for s in (0.0625, 0.9375) for extent in image.size)
        expected = np.asarray(image.crop((left, top, right, bottom)).resize((96, 96), Image.Resampling.BILINEAR))
        assert np.abs(read[sample].numpy().astype(int) - expected).max() <= 1


def test_a_pipeline_goes_with_its_images_and_waits_for_no_garbage_collector(tmp_path: Path) -> None:
    """Collected later, in a forked worker of a DataLoader, it would wait for threads that the fork left behind."""
    gc.collect()
    gc.disable()
    before = pipelines()
    try:
        images = opened(tmp_path, numbered(tmp_path, 9))
        for pixels, _ in images.read(torch.arange(9).split(4)):
            assert len(pixels)
        for decoded in decode([np.frombuffer(grey(7), np.uint8)] * 3, workers=1):
            assert len(decoded)
        assert pipelines() == before + 2  # of the headers and of the pixels
        del images
        assert pipelines() == before
    finally:
        gc.enable()


def pipelines() -> int:
    from nvidia.dali.pipeline import Pipeline

    return sum(issubclass(type(thing), Pipeline) for thing in gc.get_objects())
