"""SVHN from its authors' MATLAB files: every form that they may have, and every way in which they may be broken."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from rethink_fast.data import DataOptions, Dataset, download, load_dataset
from rethink_fast.data.source import InMemoryImages
from rethink_fast.errors import UserError
from tests.data.matlab_files import element, mat, matrix, svhn

N = 23


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(path: Path, **more: int) -> Dataset:
    return load_dataset("svhn", DataOptions(str(path), workers=1, **more))  # type: ignore[arg-type]


def check(path: Path, made: dict[str, tuple[np.ndarray, np.ndarray]]) -> Dataset:
    dataset = opened(path)
    for split, (images, digits) in ((dataset.train, made["train"]), (dataset.test, made["test"])):
        assert split is not None
        assert isinstance(split.images, InMemoryImages)
        np.testing.assert_array_equal(split.images.images.numpy(), images)
        np.testing.assert_array_equal(split.labels.numpy(), digits)
    return dataset


def test_images_and_digits_where_10_is_0(tmp_path: Path) -> None:
    made = svhn(tmp_path / "SVHN")
    for path in (tmp_path, tmp_path / "SVHN"):
        dataset = check(path, made)
        assert dataset.classes == tuple("0123456789")
        assert dataset.data_source == f"svhn mat {tmp_path / 'SVHN'}"
        assert dataset.notes == ()
    (tmp_path / "SVHN" / "extra_32x32.mat").touch()
    assert opened(tmp_path).notes == (f"not used in {tmp_path / 'SVHN'}: extra_32x32.mat",)
    assert len(opened(tmp_path, max_samples=5).train.index) == 5


IMAGES = np.random.default_rng(1).integers(0, 256, (32, 32, 3, N)).astype(np.uint8)
LABELS = (np.arange(N) % 10 + 1).astype(np.uint8)[:, None]
X, Y = matrix("X", IMAGES), matrix("y", LABELS)
TEXT = element(14, element(6, bytes([4] + [0] * 7)) + element(5, bytes([1, 0, 0, 0] * 2)) + element(1, b"t"))


@pytest.mark.parametrize(
    "content",
    [
        mat(Y, X),
        mat(X, Y, compressed=False),
        mat(matrix("X", IMAGES, order=">"), matrix("y", LABELS, order=">"), order=">"),
        mat(matrix("X", IMAGES, order=">"), matrix("y", LABELS, order=">"), order=">", compressed=False),
        mat(X, matrix("y", LABELS.astype(np.float64), stored="u1")),
        mat(X, matrix("y", LABELS.astype(np.float64))),
        mat(X, matrix("y", LABELS.astype(np.int64))),
        mat(X, matrix("y", LABELS.T)),
        mat(TEXT, X, matrix("other", np.zeros((3, 3, 3))), Y, TEXT),
        mat(TEXT, X, matrix("other", np.zeros((3, 3, 3))), Y, TEXT, compressed=False),
    ],
)
def test_every_form_of_the_files(content: bytes, tmp_path: Path) -> None:
    made = svhn(tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(content)
    check(tmp_path, {**made, "train": (IMAGES.transpose(3, 0, 1, 2), LABELS[:, 0] % 10)})


def bomb(size: int) -> bytes:
    """A small file that unpacks to zeros."""
    start = matrix("X", np.zeros((32, 32, 3, 1), np.uint8))[: -32 * 32 * 3]
    packed = zlib.compress(start + bytes(size), 9)
    return mat() + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed


GOOD = mat(X, Y)
BROKEN = {
    "nothing": (b"", "it is no MATLAB 5 file"),
    "text": (b"<html>404 Not Found</html>" * 20, "it is no MATLAB 5 file"),
    "of MATLAB 7.3": (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF", r"of MATLAB 7\.3; save it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(200), r"of MATLAB 7\.3"),
    "of MATLAB 4": (bytes(200), "it is no MATLAB 5 file"),
    "truncated": (GOOD[: len(GOOD) // 2], "it is truncated"),
    "truncated in a tag": (GOOD[:130], "it is truncated"),
    "truncated, not compressed": (mat(X, Y, compressed=False)[:5000], "it is truncated"),
    "a header alone": (GOOD[:128], "it holds no array of numbers X"),
    "damaged": (GOOD[:5000] + bytes(50) + GOOD[5050:], "damaged .zlib|it is|type|fit"),
    "no labels": (mat(X), "it holds no array of numbers y"),
    "labels as text": (mat(X, TEXT), "it holds no array of numbers y"),
    "images twice": (mat(X, X, Y), "it holds X twice"),
    "floats": (mat(matrix("X", IMAGES.astype(np.float64)), Y), r"its X is float64 \(32, 32, 3, 23\), not uint8"),
    "complex": (mat(matrix("X", IMAGES, flags=0x800), Y), "it holds no array of numbers X"),
    "grey": (mat(matrix("X", IMAGES[:, :, :1]), Y), r"its X is uint8 \(32, 32, 1, 23\)"),
    "full numbers": (mat(matrix("X", IMAGES[..., 0]), Y), r"its X is uint8 \(32, 32, 3\)"),
    "no images": (mat(matrix("X", IMAGES[..., :0]), Y), r"its X is uint8 \(32, 32, 3, 0\)"),
    "one label less": (mat(X, matrix("y", LABELS[1:])), "it has 23 images and 22 labels"),
    "one-hot": (mat(X, matrix("y", np.eye(10, dtype=np.uint8))), r"its y has the shape \(10, 10\)"),
    "label 0": (mat(X, matrix("y", LABELS - 1)), "has the label 0, and SVHN has 1 ... 10, 10 for the digit 0"),
    "label 11": (mat(X, matrix("y", LABELS + 1)), "has the label 11"),
    "half a label": (mat(X, matrix("y", LABELS / 2)), "numbers that are not whole"),
    "no number": (mat(X, matrix("y", LABELS * np.nan)), "numbers that are not whole"),
    "more numbers than its shape": (mat(X.replace(b"\x17\0\0\0", b"\x16\0\0\0", 1), Y), "X has 70656 numbers for the "),
    "another element": (mat(element(2, bytes(16)), compressed=False), "an element of type 2 where an array begins"),
    "a packed bomb": (bomb(10**8), "it has|no array of numbers y"),
}


@pytest.mark.parametrize(("content", "problem"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_named(content: bytes, problem: str, tmp_path: Path) -> None:
    """Without more memory than a file of this size may take."""
    for name in ("train_32x32.mat", "test_32x32.mat"):
        svhn(tmp_path)
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(UserError, match=rf"{name} (is damaged or no file of SVHN's|has the label).*") as raised:
            opened(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()
        assert re.search(problem, str(raised.value))
        assert "\n" not in str(raised.value)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """Of the tags and headers: nothing but UserError is raised."""
    content = bytearray(mat(X, Y, compressed=False))
    svhn(tmp_path)
    refused = 0
    for place in [*range(124, 190), *range(len(content) - 90, len(content))]:
        for bit in (1, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            (tmp_path / "train_32x32.mat").write_bytes(changed)
            try:
                opened(tmp_path)
            except UserError:
                refused += 1
    assert refused > 80


def test_files_that_are_not_there(tmp_path: Path) -> None:
    svhn(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"holds no test_32x32\.mat: put train_32x32\.mat and test_32x32\.mat there"):
        opened(tmp_path)
    (tmp_path / "test_32x32.mat").mkdir()
    with pytest.raises(UserError, match=r"test_32x32\.mat cannot be read"):
        opened(tmp_path)
    with pytest.raises(UserError, match="is a file, and svhn is opened from a folder"):
        opened(tmp_path / "train_32x32.mat")


def test_what_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(download, "fetch_file", lambda url, path, md5, progress: fetched.append((url, path.name, md5)))
    assert download.fetch("svhn") == tmp_path / "cache" / "rethink_fast" / "svhn"
    server = "http://ufldl.stanford.edu/housenumbers/"
    assert fetched == [
        (f"{server}train_32x32.mat", "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        (f"{server}test_32x32.mat", "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ]
