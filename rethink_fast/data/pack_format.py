"""What a pack is on disk, read and checked.

DEST/pack.json              version, contract, form, classes, and of each split its parts with their SHA-256
DEST/SPLIT-00000.tar ...    form jpeg: shards in the WebDataset convention, KEY.jpg (or .png) and KEY.cls
DEST/SPLIT.npy              form raw: uint8 [N, H, W, 3], for numpy.load(mmap_mode="r")
DEST/SPLIT.index.npy        a row of INDEX for each sample
DEST/quarantine.csv         split, index, file and reason of every image that cannot be decoded

SPLIT is train or test. KEY is the sample index, the position in the sorted order of the source for life: an image that
cannot be decoded keeps its row (of length 0) in the index, and in a .npy its place (zeros), so that nothing moves.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..rng import CONTRACT_VERSION
from . import auto
from .source import Progress

VERSION = 2
"""1 had its sized images resized by DALI."""
MANIFEST = "pack.json"
QUARANTINE = "quarantine.csv"
FORMS = ("jpeg", "raw")
INDEX = np.dtype(
    [("shard", "<i4"), ("offset", "<i8"), ("length", "<i8"), ("label", "<i4"), ("height", "<i4"), ("width", "<i4")]
)
"""Where a sample's bytes are: which of the split's files (in sorted order), from which byte on, and how many; its
label; height and width of the image."""

CHUNK = 2**20


@dataclass(frozen=True)
class Part:
    """A stretch of a file that was written in one piece, and its checksum."""

    file: str
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PackSplit:
    """One split. index: INDEX [N]. quarantine: of each sample without an image, (sample index, file, reason)."""

    parts: tuple[Part, ...]
    index: np.ndarray
    quarantine: tuple[tuple[int, str, str], ...]

    @property
    def files(self) -> list[str]:
        """The files of the images, in the order of INDEX's shard."""
        return sorted({part.file for part in self.parts})


@dataclass(frozen=True)
class Pack:
    """A pack that was found whole, as far as its sizes and its index tell. size: None where images are as they were."""

    path: Path
    form: str
    size: int | None
    classes: tuple[str, ...]
    train: PackSplit
    test: PackSplit | None
    sha256: str

    @property
    def splits(self) -> tuple[PackSplit, ...]:
        return (self.train,) if self.test is None else (self.train, self.test)


def is_pack(path: Path) -> bool:
    """Whether a folder is a pack."""
    return (path / MANIFEST).is_file()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, values: dict[str, Any], indexes: dict[str, np.ndarray], quarantine: list[Any]) -> None:
    """Write pack.json, last of all, with the checksums of what is written before it: the indexes and the quarantine.

    values: form, size, classes, and splits by name, each with its parts.
    """
    for name, index in indexes.items():
        values["splits"][name]["index"] = _write(folder / f"{name}.index.npy", _npy(index))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("split", "index", "file", "reason"), *quarantine])
    values["quarantine"] = _write(folder / QUARANTINE, text.getvalue().encode(errors="surrogateescape"))
    values = {"format": "rethink_fast pack", "version": VERSION, "contract": CONTRACT_VERSION, **values}
    values["sha256"] = digest(_canonical(values))
    _write(folder / MANIFEST, json.dumps(values, indent=1).encode())


def _canonical(values: dict[str, Any]) -> bytes:
    """What the manifest's own checksum is taken over: everything else in it."""
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _write(path: Path, data: bytes) -> str:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
    return digest(data)


def read_pack(path: Path) -> Pack:
    """Read a pack's description and index, and see that every file is there with its size. Raises UserError."""
    values = _manifest(path)
    quarantine = _whole(path / QUARANTINE, values["quarantine"]).decode(errors="surrogateescape")
    bad = list(csv.reader(io.StringIO(quarantine)))[1:]

    def split(name: str) -> PackSplit | None:
        if name not in values["splits"]:
            return None
        content = _whole(path / f"{name}.index.npy", values["splits"][name]["index"])
        index = np.load(io.BytesIO(content))
        parts = tuple(Part(**part) for part in values["splits"][name]["parts"])
        listed = tuple((int(row[1]), row[2], row[3]) for row in bad if row[0] == name)
        _check_sizes(path, parts)
        return PackSplit(parts, index, listed)

    train, test = split("train"), split("test")
    assert train is not None
    size, classes = values["size"], tuple(values["classes"])
    return Pack(path, values["form"], size, classes, train, test, values["sha256"])


def _manifest(path: Path) -> dict[str, Any]:
    content = _read(path / MANIFEST)
    try:
        values = json.loads(content)
        known, version, contract = values["format"] == "rethink_fast pack", values["version"], values["contract"]
    except (ValueError, TypeError, KeyError):
        known, version, contract = False, None, None
    if not known:
        raise UserError(f"{path / MANIFEST} does not describe a pack, or is damaged: pack the images again")
    for what, found, ours in (("version", version, VERSION), ("contract version", contract, CONTRACT_VERSION)):
        if found != ours:
            raise UserError(f"{path} is a pack of {what} {found}, and this program reads {ours}: pack the images again")
    if values.get("sha256") != digest(_canonical(values)):
        raise UserError(f"{path / MANIFEST} is damaged (its checksum is another): pack the images again")
    return dict(values)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): restore it or pack the images again") from None


def _whole(path: Path, sha256: str) -> bytes:
    content = _read(path)
    if digest(content) != sha256:
        raise UserError(f"{path} is damaged (its checksum is another): restore it or pack the images again")
    return content


def _check_sizes(path: Path, parts: tuple[Part, ...]) -> None:
    """Every file is as long as its parts together."""
    expected = {part.file: part.offset + part.bytes for part in parts}
    for file, size in expected.items():
        try:
            found = (path / file).stat().st_size
        except OSError as error:
            raise UserError(
                f"{path / file} cannot be read ({error.strerror}): restore it or pack the images again"
            ) from None
        if found != size:
            raise UserError(f"{path / file} has {found} bytes instead of {size}: restore it or pack the images again")


def check(pack: Pack, *, workers: int, progress: Progress | None) -> None:
    """See that every byte is as it was packed; a UserError names the first file that is not.

    The answer is kept in the user's cache, under every file's size and time of change.
    """
    seen = hashlib.sha256(f"{pack.path.absolute()}\0{pack.sha256}\0".encode(errors="surrogateescape"))
    for split in pack.splits:
        for file in split.files:
            stat = (pack.path / file).stat()
            seen.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    kept = auto.cache_dir() / "checked" / f"pack-{seen.hexdigest()}"
    if kept.exists():
        return
    verify(pack, workers=workers, progress=progress)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()


def verify(pack: Pack, *, workers: int, progress: Progress | None) -> int:
    """Read every byte and compare the checksums. Returns how many bytes; a UserError names the first damaged file."""
    parts = [part for split in pack.splits for part in split.parts]
    total, done = sum(part.bytes for part in parts), 0
    damaged: list[Part] = []
    with ThreadPoolExecutor(workers) as pool:
        for part, found in zip(parts, pool.map(lambda part: _sha256(pack.path, part), parts), strict=True):
            if found != part.sha256:
                damaged.append(part)
            done += part.bytes
            if progress is not None:
                progress("checking the pack's bytes", done, total)
    if damaged:
        others = f" and {len(damaged) - 1} more stretches are" if len(damaged) > 1 else ""
        first = damaged[0]
        raise UserError(
            f"{pack.path / first.file} is damaged in bytes {first.offset} to {first.offset + first.bytes}"
            f"{others} (another checksum): restore it or pack the images again"
        )
    return total


def _sha256(path: Path, part: Part) -> str:
    seen = hashlib.sha256()
    for chunk in _chunks(path / part.file, part.offset, part.bytes):
        seen.update(chunk)
    return seen.hexdigest()


def _chunks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while length > 0 and (chunk := file.read(min(CHUNK, length))):
                length -= len(chunk)
                yield chunk
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
