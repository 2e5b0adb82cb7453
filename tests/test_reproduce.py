"""A reproduction: its cache, its going on, and what it says when something is missing; on tiny synthetic data."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rethink_fast.bench.reproduce import reproduce
from rethink_fast.experiments.scale import LAPTOP, Scale

SYNTHETIC = {"cifar10": "synthetic", "mnist": "synthetic"}


def tiny(epochs: int = 2) -> Scale:
    sizes = {
        model: replace(size, images=40, epochs=epochs, augmented_epochs=epochs, batch_size=20, precision="fp32")
        for model, size in LAPTOP.sizes.items()
    }
    return replace(LAPTOP, name="tiny", words="40 images", sizes=sizes)


def run(out: Path, *names: str, scale: Scale | None = None, **options: object) -> tuple[int, dict, str]:
    text = io.StringIO()
    options = {"paths": SYNTHETIC, "device": "cpu", **options}
    code = reproduce(names, scale or tiny(), out, Console(file=text, width=200, highlight=False), **options)
    path = out / "reproduction.json"
    return code, json.loads(path.read_text()) if path.exists() else {}, text.getvalue()
