"""Packs with right checksums and strange content, and odd files in the place of theirs."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rethink_fast.data import DataOptions, load_dataset, pack_format, pack_schema, pack_verify
from rethink_fast.errors import UserError
from tests.pack.helpers import contents, made, tree

pytest.importorskip("nvidia.dali")

CPU = torch.device("cpu")

PACK_FORMATS = (("jpeg", None), ("jpeg", 14), ("npy", 14))

FIELDS = tuple(pack_schema.INDEX.names or ())

STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "/etc/passwd",
)

STRANGE += ([], {}, [[]], "\ud800", "train-00001.tar", "test.npy", "0" * 64, [1] * 3)


@pytest.fixture(scope="module", params=PACK_FORMATS, ids=["original", "encoded", "npy"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 70 images in two shards, one of which is quarantined, and 5 to test on."""
    root = tmp_path_factory.mktemp("pack")
    src = tree(root / "src", train=70, val=5)
    sorted((src / "train").glob("*/*"))[3].write_bytes(b"")
    return made(src, root / "pack", *request.param).path


@pytest.fixture
def copy(pack: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pack, tmp_path / "pack"))


def opened(path: Path) -> list[torch.Tensor]:
    """All that a pack gives: labels, indices and pixels."""
    options = DataOptions(str(path), size=14, on_decode_error="skip", cache_images="none", workers=1)
    dataset = load_dataset("imagenet", options)
    found = []
    for split in (dataset.train, dataset.test):
        assert split is not None
        ((images, rows),) = split.images.read([split.index])
        found += [split.labels, split.index, images[rows].clone()]
    return found


def refused(path: Path) -> str | None:
    """The one line that a pack is refused with; None where it is read."""
    try:
        pack_verify.verify(pack_format.read_pack(path), workers=1, progress=None)
    except UserError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line
    assert str(path) in line
    return line


def seal(path: Path, values: dict[str, Any]) -> None:
    """Write pack.json with the right checksums of what is there."""
    for name, split in values["splits"].items() if isinstance(values.get("splits"), dict) else ():
        index = path / f"{name}.index.npy"
        if isinstance(split, dict) and "index" in split and index.exists() and split["index"] != "changed":
            split["index"] = pack_format.digest(index.read_bytes())
    if isinstance(values.get("quarantine"), str) and values["quarantine"] != "changed":
        values["quarantine"] = pack_format.digest((path / "unreadable.csv").read_bytes())
    values["sha256"] = pack_format.checksum(values)
    (path / "pack.json").write_text(json.dumps(values))


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "pack.json").read_text())


def places(values: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested lists and dicts."""
    keys = values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    return [place for key in keys for place in [(*at, key), *places(values[key], (*at, key))]]


def at(values: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        values = values[key]
    return values


def test_a_manifest_of_strange_content_is_refused(copy: Path) -> None:
    """Each value in turn deleted, doubled, or replaced by something else, under right checksums."""
    before, choose = manifest(copy), random.Random(0)
    tried = 0
    for place in places(before):
        if place[0] in ("sha256", "plan", "size") or place == ("classes",):
            continue
        *parent, key = place
        for replacement in (*choose.sample(STRANGE, 4), "deleted", "doubled"):
            values = deepcopy(before)
            inside = at(values, tuple(parent))
            if replacement == "deleted":
                if place == ("splits", "test"):  # a pack without test images
                    continue
                del inside[key]
            elif replacement == "doubled":
                if not isinstance(inside, list):
                    continue
                inside.insert(key, inside[key])
            elif type(replacement) is type(inside[key]) and replacement == inside[key]:
                continue
            else:
                inside[key] = replacement
            seal_manifest_only(copy, values)
            tried += 1
            if place[0] == "classes" and refused(copy) is None:  # a class of another name, or one more at the end
                assert all(isinstance(name, str) and name for name in values["classes"])
                continue
            assert refused(copy), (place, replacement)
    assert tried > 150
    seal_manifest_only(copy, before)
    assert refused(copy) is None


def seal_manifest_only(path: Path, values: dict[str, Any]) -> None:
    values["sha256"] = pack_format.checksum(values)
    (path / "pack.json").write_text(json.dumps(values))


@pytest.mark.parametrize("size", [0, -1, 13, 4097, True, 14.0, "14", [14], 10**30, float("nan")])
def test_a_size_that_the_images_do_not_have_is_refused(copy: Path, size: Any) -> None:
    values = manifest(copy)
    values["size"] = size
    seal_manifest_only(copy, values)
    assert "strange content" in str(refused(copy))


def test_an_index_of_strange_content_is_refused(copy: Path) -> None:
    """A value of a row, right checksums: labels out of range, bytes beyond the file or of another image, and so on."""
    file = copy / "train.index.npy"
    before, content = np.load(file), file.read_bytes()
    choose = random.Random(1)
    for field in before.dtype.names:
        for row in (0, 3, 40, 69):
            for value in (-1, 0, 1, 3, 512, 2**31 - 1, -(2**31), *choose.sample(range(1, 10**6), 2)):
                index = before.copy()
                index[row][field] = value
                if index[row][field] == before[row][field]:
                    continue
                np.save(file, index)
                seal(copy, manifest(copy))
                if refused(copy) is None:
                    # What no file beside it contradicts: another class, or another size of an image of its own size.
                    assert (field == "label" and 0 <= value < 3) or (
                        field in ("height", "width") and value > 0 and manifest(copy)["size"] is None
                    ), (field, row, value)
    file.write_bytes(content)
    seal(copy, manifest(copy))
    assert refused(copy) is None


INDEXES: dict[str, Callable[[np.ndarray], Any]] = {
    "empty": lambda index: index[:0],
    "shorter": lambda index: index[:-1],
    "longer": lambda index: np.concatenate([index, index[-1:]]),
    "reversed": lambda index: index[::-1],
    "two images swapped": lambda index: index[[1, 0, *range(2, 70)]],
    "an image doubled": lambda index: index[[0, 0, *range(2, 70)]],
    "two dimensions": lambda index: index.reshape(2, 35),
    "no dimension": lambda index: index[0],
    "numbers": lambda index: np.stack([index[name] for name in FIELDS], 1).astype(np.int64),
    "big-endian": lambda index: index.astype(index.dtype.newbyteorder(">")),
    "floats": lambda index: index.astype([(name, "<f8") for name in FIELDS]),
    "other names": lambda index: index.view([(field[0] + "s", field[1]) for field in index.dtype.descr]),
    "column-major": lambda index: np.asfortranarray(np.stack([index, index])),
    "objects": lambda index: np.array([{"a": 1}, None], object),
}


@pytest.mark.parametrize("format", INDEXES)
def test_an_index_of_another_form_is_refused(copy: Path, format: str) -> None:
    file = copy / "train.index.npy"
    np.save(file, INDEXES[format](np.load(file)), allow_pickle=True)
    seal(copy, manifest(copy))
    assert refused(copy)


def npy(shape: str, descr: str = "|u1", order: str = "False") -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


HEADERS = [
    npy("(1000000000000,)", str(pack_schema.INDEX.descr)),
    npy("(-1,)"),
    npy("(True,)"),
    npy("(10**9,)"),
    npy("()", "|O"),
    npy("(70,)", "V99999999999"),
    npy("((((" * 200),
    npy("(70, 14, 14, 3)", order="True"),
    npy("(999999999999, 999999999999, 999999999999, 3)"),
    npy("(70, 0, 14, 3)"),
    npy("'''"),
    npy("\\"),
    b"\x93NUMPY\x09\x00" + bytes(100),
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    b"PK\x03\x04" + bytes(50),
    b"\x80\x04.",
    b"",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("name", ["train.index.npy", "train.npy"])
def test_a_npy_of_another_header_is_refused(copy: Path, header: bytes, name: str) -> None:
    """Also one that claims terabytes."""
    if not (copy / name).exists():
        pytest.skip("a pack of tars")
    size = (copy / name).stat().st_size if name == "train.npy" else 0
    (copy / name).write_bytes(header.ljust(size, b" "))
    seal(copy, manifest(copy))
    assert refused(copy)


QUARANTINES = [
    "",
    "split,index,file,reason\n",
    "split,index,file,reason\ntrain,3,a,empty\ntrain,3,a,empty\n",
    "split,index,file,reason\ntrain,4,a,empty\n",
    "split,index,file,reason\ntrain,-3,a,empty\n",
    "split,index,file,reason\ntrain,3.0,a,empty\n",
    "split,index,file,reason\ntrain,nan,a,empty\n",
    "split,index,file,reason\ntrain,\u0663,a,empty\n",
    f"split,index,file,reason\ntrain,{'3' * 5000},a,empty\n",
    f"split,index,file,reason\ntrain,3,{'a' * 200_000},empty\n",
    "split,index,file,reason\ntrain,3,a\n",
    "split,index,file,reason\ntrain,3,a,empty\nval,3,a,empty\n",
    "split,index,file,reason\ntrain,3,a,empty\ntest,1,a,empty\n",
    "index,split,file,reason\n3,train,a,empty\n",
    'split,index,file,reason\ntrain,3,"a',
    "split,index,file,reason\ntrain,3,a\0b,empty\nx",
]


@pytest.mark.parametrize("text", QUARANTINES, ids=range(len(QUARANTINES)))
def test_a_quarantine_of_strange_content_is_refused(copy: Path, text: str) -> None:
    (copy / "unreadable.csv").write_text(text)
    seal(copy, manifest(copy))
    assert "strange content" in str(refused(copy))


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "dangling link"])
def test_odd_files_in_place_of_a_packs_are_refused(copy: Path, kind: str) -> None:
    for name in contents(copy):
        place, kept = copy / name, copy.parent / name
        place.rename(kept)
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to("/dev/zero" if kind == "device" else "/none")
        assert name in str(refused(copy))
        with pytest.raises(UserError):
            opened(copy)
        place.rmdir() if kind == "folder" else place.unlink()
        kept.rename(place)
    assert refused(copy) is None


def test_random_changes_are_refused_or_change_nothing(copy: Path) -> None:
    """Bytes of any file, checksums of description, index and quarantine made right: what is read is what was there."""
    choose, expected, whole = random.Random(2), opened(copy), contents(copy)
    read = 0
    for turn in range(60):
        name = choose.choice(sorted(whole))
        content = bytearray(whole[name])
        for _ in range(choose.choice([1, 1, 8])):
            content[choose.randrange(len(content))] = choose.randrange(256)
        if turn % 4 == 0:
            del content[choose.randrange(len(content)) :]
        (copy / name).write_bytes(content)
        if name == "unreadable.csv":
            seal(copy, manifest(copy))
        line = ""
        try:
            found = opened(copy)
        except UserError as error:
            line = str(error)
        assert "\n" not in line
        if not line:
            read += 1
            assert all(map(torch.equal, found, expected))
        for name, original in whole.items():
            (copy / name).write_bytes(original)
    assert read < 20


def test_tars_of_many_shards_are_in_the_order_of_their_numbers() -> None:
    parts = tuple(pack_format.Part(pack_schema.file_of("jpeg", "train", k), 0, 1, "") for k in (0, 99_999, 100_000))
    assert pack_format.PackSplit(parts, np.empty(0), ()).files == [part.file for part in parts]


def test_the_index_is_read_without_pickle() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        pack_format._index(file.getvalue())
