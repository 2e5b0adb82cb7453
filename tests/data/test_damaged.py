"""Which image files are read, as judged by Pillow over whole and mutated files of every kind; and what is said."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from rethink_fast.data import DataOptions, examine
from rethink_fast.data.damaged import describe
from rethink_fast.data.examine import find_undecodable
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.image_formats import is_image, structural_damage
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.errors import UserError
from rethink_fast.stderr import suppress_stderr

pytest.importorskip("nvidia.dali")
CPU = torch.device("cpu")


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def all_kinds() -> dict[str, bytes]:
    y, x = np.mgrid[0:64, 0:96].astype(float)
    pixels = np.stack([128 + 100 * np.sin(x / 9 + c + y / 13) for c in range(3)], -1).astype(np.uint8)
    image = Image.fromarray(pixels)
    alpha, palette = Image.fromarray(np.dstack([pixels, pixels[..., :1]])), image.quantize(64)
    sixteen = Image.fromarray((np.arange(64 * 96).reshape(64, 96) * 10).astype(np.uint16))
    whole = saved(image, "JPEG")
    thumbnail = saved(image.resize((24, 16)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    png = saved(image, "PNG")
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile" * 20))
    return {
        "a.jpg": whole,
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        "grey.jpeg": saved(image.convert("L"), "JPEG"),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "restarts.jpg": saved(image, "JPEG", restart_marker_blocks=3),
        "turned.jpg": saved(image, "JPEG", exif=turned()),
        "two.mpo": saved(image, "MPO", save_all=True, append_images=[image]),
        "thumbnail.jpg": whole[:2] + segment + whole[2:],
        "bare.jfif": whole[:2] + whole[4 + int.from_bytes(whole[4:6], "big") :],
        "a.png": png,
        "palette.png": saved(palette, "PNG", transparency=3),
        "alpha.png": saved(alpha, "PNG"),
        "sixteen.png": saved(sixteen, "PNG"),
        "bits.png": saved(image.convert("1"), "PNG"),
        "profile.png": png[:33] + profile + png[33:],
        "a.webp": saved(image, "WEBP"),
        "lossless.webp": saved(alpha, "WEBP", lossless=True),
        "moving.webp": saved(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "turned.webp": saved(image, "WEBP", lossless=True, exif=turned()),
        "a.bmp": saved(image, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "a.gif": saved(image, "GIF"),
        "moving.gif": saved(palette, "GIF", save_all=True, append_images=[image.quantize(9)]),
        "a.tif": saved(image, "TIFF"),
        "bits.tiff": saved(image.convert("1"), "TIFF"),
        "sixteen.tif": saved(sixteen, "TIFF"),
        "a.ppm": saved(image, "PPM"),
        "grey.pgm": saved(image.convert("L"), "PPM"),
        "bits.pbm": saved(image.convert("1"), "PPM"),
        "a.jp2": saved(image, "JPEG2000"),
        "a.j2k": saved(image, "JPEG2000", no_jp2=True),
        "a.avif": saved(image, "AVIF"),
    }


KINDS = all_kinds()


def as_pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if image.mode == "I;16":
        return np.repeat(((np.asarray(image).astype(int) + 128) // 257)[..., None], 3, axis=2)
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_decoded_as_by_pillow(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Upright and whole, in a batch with another, in the first epoch and after; and nothing is written on stderr."""
    assert is_image(name)
    (tmp_path / name).write_bytes(KINDS[name])
    (tmp_path / "other.jpg").write_bytes(KINDS["a.jpg"])
    expected = as_pillow(KINDS[name])
    files, options = ImageFiles(tmp_path, [name, "other.jpg"]), DataOptions(size=16, workers=1)
    images = JpegImages(files, options, shape=(64, 64))
    for _ in range(2):
        for batch, _ in images.read([torch.tensor([0])]):
            difference = np.abs(batch[0].numpy().astype(int) - expected)
            assert difference.max() <= (1 if "cmyk" in name else 0)
    list(JpegImages(files, options).read([torch.arange(2)]))
    assert capfd.readouterr().err == ""


def pillow_reads(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
def test_what_is_read_is_what_pillow_reads() -> None:
    """Of 384 files, whole, cut, with flipped bits and with bytes behind their end."""
    draw = np.random.default_rng(0)

    def flipped(data: bytes, stop: int) -> bytes:
        changed = bytearray(data)
        changed[draw.integers(0, min(stop, len(data)))] ^= 1 << int(draw.integers(8))
        return bytes(changed)

    files = []
    for data in KINDS.values():
        files += [data, data + draw.bytes(5000), data + data[::-1]]
        files += [data[: draw.integers(1, len(data))] for _ in range(3)] + [data[: -draw.integers(1, 30)]]
        files += [flipped(data, 200), flipped(data, 200), *(flipped(data, len(data)) for _ in range(3))]
    (reasons,) = find_undecodable([[np.frombuffer(data, np.uint8) for data in files]], workers=2)
    differing = [k for k, data in enumerate(files) if pillow_reads(data) != (reasons[k] is None)]
    assert not [k for k in differing if reasons[k] is not None], "Pillow reads these"
    assert len(differing) <= 3, "of which DALI makes something and Pillow does not: a flipped bit in a header"


def bomb(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return KINDS["a.png"][:8] + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def with_frame(**changes: int) -> bytes:
    """A JPEG with other bytes in its frame header: bits at 4, height at 5 and 6, width at 7 and 8."""
    data = bytearray(KINDS["a.jpg"])
    frame = data.index(b"\xff\xc0")
    for place, value in changes.items():
        data[frame + int(place[1:])] = value
    return bytes(data)


REASONS = {
    "larger than 178 megapixels: 50,000 x 50,000": bomb(50_000, 50_000),
    "larger than 178 megapixels: 65,500 x 65,500": with_frame(_5=0xFF, _6=0xDC, _7=0xFF, _8=0xDC),
    "a JPEG of 12 bits a sample": with_frame(_4=12),
    "a lossless or hierarchical JPEG": with_frame(_1=0xC3),
    "a HEIC image": b"\0\0\0\x18ftypheic" + bytes(99),
    "an SVG drawing": b'<?xml version="1.0"?>\n<svg/>',
    "an HTML page, not an image": b"\n<!DOCTYPE html><html>",
    "a pointer of Git LFS, not an image: run git lfs pull": b"version https://git-lfs.github.com/spec/v1",
    "an archive, not an image": b"PK\x03\x04" + bytes(50),
    "not an image of a known kind": bytes(500),
    "empty": b"",
    "truncated at byte 900": KINDS["a.jpg"][:900],
    "corrupt: chunk 'IDAT' at byte 33 fails its checksum": KINDS["a.png"][:60] + b"?" + KINDS["a.png"][61:],
    "corrupt": KINDS["a.jpg"][:2] + bytes(5) + KINDS["a.jpg"][2:],
}


def test_what_is_wrong_with_a_file_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    files = [np.frombuffer(data, np.uint8) for data in REASONS.values()]
    assert next(find_undecodable([files], workers=1)) == list(REASONS)
    assert capfd.readouterr().err == ""
    said = {reason: describe(reason)[0] for reason in REASONS}
    assert said["truncated at byte 900"] == "is damaged (truncated at byte 900)"
    assert said["a HEIC image"] == "is of a kind that is not decoded (a HEIC image)"
    assert said["larger than 178 megapixels: 50,000 x 50,000"] == "is larger than 178 megapixels: 50,000 x 50,000"


@pytest.mark.parametrize("reason", REASONS)
def test_no_file_ends_the_process_in_training(tmp_path: Path, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With 60 others behind it in its batch."""
    names = [f"{k:03}.jpg" for k in range(64)]
    for name in names:
        (tmp_path / name).write_bytes(KINDS["a.jpg"])
    (tmp_path / names[3]).write_bytes(REASONS[reason])
    images = JpegImages(ImageFiles(tmp_path, names), DataOptions(size=16, workers=2))
    with pytest.raises(UserError) as caught:
        list(images.read([torch.arange(64)]))
    assert f"003.jpg can no longer be decoded ({reason}): restore the file" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_an_image_in_which_dali_fails_is_decoded_by_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in training, by pixels and not by its header: the order and all other images stay as they are."""
    names = [f"{k}.png" for k in range(9)]
    for k, name in enumerate(names):
        Image.new("L", (40, 40), 20 * k).save(tmp_path / name)
    broken = KINDS["a.png"]
    (tmp_path / names[4]).write_bytes(broken[:60] + b"?" + broken[61:])
    grey = b"P6 40 40 255\n" + bytes([80]) * 4800
    monkeypatch.setattr(examine, "structural_damage", lambda content: None)
    monkeypatch.setattr(examine, "as_ppm", lambda content: grey)
    monkeypatch.setattr("rethink_fast.data.jpeg_images.as_ppm", lambda content: grey)
    images = JpegImages(ImageFiles(tmp_path, names), DataOptions(size=16, workers=1))
    for _ in range(2):
        read = [int(row[0, 0, 0]) for batch, _ in images.read(torch.arange(9).split(2)) for row in batch]
        assert read == [20 * k for k in range(9)]
    assert images._by_pillow.tolist() == [k == 4 for k in range(9)]


@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "thumbnail.jpg", "two.mpo", "a.png", "a.webp", "a.bmp"])
def test_the_structure_ends_where_the_image_does(name: str) -> None:
    data = KINDS[name]
    assert structural_damage(data) is None
    assert structural_damage(data + b"\xff\xda\0\0 a video") is None
    first = data if name != "two.mpo" else data[: data.index(b"\xff\xd9") + 2]
    for stop in (20, 300, len(first) // 2, len(first) - 1):
        if stop < len(first):
            assert structural_damage(first[:stop]) == f"truncated at byte {stop:,}"


def test_the_structure_counts_where_a_decoder_makes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some decoders paint a missing end grey. Pillow does not, and has the last word."""
    files = [np.frombuffer(KINDS[name], np.uint8) for name in ("a.jpg", "a.png")]
    monkeypatch.setattr(examine, "structural_damage", lambda content: "truncated at byte 5")
    assert next(find_undecodable([files], workers=1)) == [None, None]
    monkeypatch.setattr(examine, "as_ppm", lambda content: None)
    assert next(find_undecodable([files], workers=1)) == ["truncated at byte 5"] * 2


def test_silence_in_many_threads_ends(capfd: pytest.CaptureFixture[str]) -> None:
    together = threading.Barrier(4)

    def speak() -> None:
        for _ in range(50):
            with suppress_stderr():
                together.wait()
                os.write(2, b"noise\n")

    threads = [threading.Thread(target=speak) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
