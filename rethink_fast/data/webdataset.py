"""WebDataset shards that other tools made, to make a pack of: KEY.jpg next to KEY.cls or KEY.json, in plain tars.

The shards of the held-out images have val, validation or test in their names. The sample index is the position in the
sorted shards, one after another. Classes are numbers, or else names in sorted order.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, bad_path
from .archive import entries, is_compressed, reported
from .image_formats import is_image
from .tree import Listing

HELD_OUT = re.compile(r"(?<![a-z])(val(idation)?|test)(?![a-z])")
LABELS = ("cls", "json")
FIRST = 8
"""Entries of the first shard by which it is known."""
MAX_CLASSES = 2**20


class Samples(NamedTuple):
    """One split: of each sample the shard, where its image begins in it, its length, and its label."""

    shards: list[str]
    offsets: np.ndarray
    lengths: np.ndarray
    labels: list[str]


def shards(path: Path, listing: Listing) -> list[str]:
    """Return the names of the shards in a folder, sorted; none if its tars are of another kind."""
    names = [name for name in listing.files if name.lower().endswith(".tar") and name not in listing.odd]
    if not names:
        return []
    kinds = set()
    with suppress(UserError), reported(path / names[0]):
        for number, (member, _) in enumerate(entries(path / names[0], [])):
            key, suffix = _split(member.name)
            kinds |= {(key, "image" if is_image(f"x.{suffix}") else suffix)}
            if number == FIRST:
                break
    labelled = {key for key, suffix in kinds if suffix in LABELS}
    return names if labelled & {key for key, suffix in kinds if suffix == "image"} else []


def read(path: Path, names: list[str]) -> tuple[tuple[str, ...], dict[str, Samples]]:
    """Return the classes and the samples of "train" and, if there are any, of "test". Raises UserError."""
    names_of: dict[str, list[str]] = {}
    for name in names:
        held_out = HELD_OUT.search(name.lower())
        names_of.setdefault(held_out[1] if held_out else "train", []).append(name)
    if "train" not in names_of:
        raise bad_path(
            path, f"holds shards of {' and '.join(names_of)} images only", "put those for training next to them"
        )
    splits = {"train": _samples(path, names_of["train"])}
    held_out_names = next((names_of[name] for name in ("val", "validation", "test") if name in names_of), None)
    if held_out_names is not None:
        splits["test"] = _samples(path, held_out_names)
    labels = sorted(set(splits["train"].labels))
    if all(label.isascii() and label.isdigit() for label in labels) and int(max(labels, key=int)) < MAX_CLASSES:
        classes = tuple(str(k) for k in range(int(max(labels, key=int)) + 1))
    else:
        classes = tuple(labels)
    if len(labels) < 2:
        problem = f"has its {len(splits['train'].labels):,} training images in one class, {labels[0]}"
        raise bad_path(path, problem, "name shards of two classes or more")
    unknown = set(splits["test"].labels) - set(classes) if "test" in splits else set()
    if unknown:
        problem = f"has test images of the class {min(unknown)}, which the training images do not have"
        raise bad_path(path, problem, "remove them, or add its training images")
    return classes, splits


def _samples(path: Path, names: list[str]) -> Samples:
    positions: list[tuple[str, int, int]] = []
    labels: list[str] = []
    for name in names:
        images: dict[str, tuple[str, int, int]] = {}
        classes: dict[str, str] = {}
        with reported(path / name):
            if is_compressed(path / name):
                raise bad_path(path / name, "is compressed", "decompress the shards, whose images are read in place")
            for member, content in entries(path / name, []):
                key, suffix = _split(member.name)
                if not member.isreg() or member.issparse():
                    continue
                if is_image(f"x.{suffix}") and suffix.count(".") == 0:
                    if key in images:
                        raise bad_path(path / name, f"holds two images of {key}", "give each image its own key")
                    images[key] = (name, member.offset_data, member.size)
                elif suffix in LABELS and (suffix == "cls" or key not in classes):
                    classes[key] = _label(path / name, member.name, content())
        for key, position in images.items():
            if key not in classes:
                raise bad_path(
                    path / name, f"has no label of {key}", "add KEY.cls, or KEY.json with the label, for each image"
                )
            positions.append(position)
            labels.append(classes[key])
    if not positions:
        raise bad_path(path / names[0], "holds no images", "put KEY.jpg (or .png, ...) and KEY.cls into it")
    shard, offsets, lengths = zip(*positions, strict=True)
    return Samples(list(shard), np.array(offsets, np.int64), np.array(lengths, np.int64), labels)


def _split(name: str) -> tuple[str, str]:
    """Key and suffix: what is before and behind the first dot of the last part."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    key, _, suffix = last.partition(".")
    return folder + slash + key, suffix.lower()


def _label(path: Path, name: str, content: bytes) -> str:
    try:
        if name.endswith("json"):
            values = json.loads(content)
            value = next(values[field] for field in ("label", "cls", "class") if field in values)
            label = str(int(value) if isinstance(value, int | float) else value)
        else:
            label = content.decode().strip()
    except (ValueError, TypeError, StopIteration, RecursionError, OverflowError):
        raise UserError(f"{path} holds {name} without a label", "give each image a label", value=path / name) from None
    if not label or label.startswith("-"):
        problem = f"{path} holds {name} with the label {label or 'nothing'}"
        raise UserError(problem, "name shards of labelled images", value=path / name)
    return label
