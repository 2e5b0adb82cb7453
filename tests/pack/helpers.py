"""Image trees, the packs made of them, and what is in these."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from rethink_fast.data.pack_format import Pack
from rethink_fast.pack import write

CLASSES = ("n01", "n02", "n03")


def noise(k: int, height: int, width: int) -> Image.Image:
    """A smooth picture that no other has, so that JPEG does it no great harm."""
    coarse = np.random.default_rng(k).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def tree(root: Path, train: int = 40, val: int = 9, same_size: bool = False) -> Path:
    """Class folders of JPEGs and PNGs of many sizes."""
    for split, count in (("train", train), ("val", val)):
        for k in range(count):
            path = root / split / CLASSES[k % 3] / f"{'b' if k % 2 else 'a'}{k:04}.{('JPEG', 'jpg', 'png')[k % 5 % 3]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (24, 24) if same_size else (20 + k % 7, 30 - k % 5)
            noise(k + (1000 if split == "val" else 0), *size).save(path)
    return root


def made(src: Path, dest: Path, format: str = "jpeg", size: int | None = None, workers: int = 1) -> Pack:
    return write.write(write.plan(src, dest, format=format, size=size), workers=workers, progress=None)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "rethink_fast", "pack", *map(str, words)]
