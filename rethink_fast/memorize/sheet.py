"""The contact sheet: the most and the least memorised images next to each other, with label and score."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.preprocess import preprocess
from ..plotting import drawing, shown
from ..train.setup import RunContext
from .folder import write
from .scores import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS, DOWN = 5, 4
"""Images of each half."""
DOTS = 100
INK, GREY, CHANGED = "#1a1a1a", "#767676", "#b3261e"


def chosen(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the most and of the least memorised samples; of equals those with the lower index."""
    many = min(ACROSS * DOWN, len(scores.index) // 2)
    most = np.argsort(-scores.memorization, kind="stable")[:many]
    return most, np.argsort(scores.memorization, kind="stable")[:many]


def draw(setup: RunContext, scores: Scores) -> Figure:
    """Return the figure: on the left the most memorised images, on the right the least, as the network sees them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * ACROSS * 1.3 + 0.6, DOWN * 1.75 + 0.8), dpi=DOTS)
    halves: Any = figure.subfigures(1, 2, wspace=0.04)
    for half, title, places in zip(halves, ("most memorised", "least memorised"), chosen(scores), strict=True):
        half.suptitle(title, x=0.03, ha="left", size=12, weight="bold", color=INK)
        axes = half.subplots(DOWN, ACROSS, gridspec_kw={"left": 0.03, "right": 0.99, "top": 0.9, "bottom": 0.05})
        images = _pixels(setup, scores.index[places])
        for spot in axes.flat:
            spot.set_axis_off()
        for spot, place, image in zip(axes.flat, places, images, strict=False):
            spot.imshow(np.broadcast_to(image, (*image.shape[:2], 3)), interpolation="nearest")
            spot.set_title(*_caption(setup, scores, int(place)), size=8, loc="left", pad=3)
    return figure


def _caption(setup: RunContext, scores: Scores, place: int) -> tuple[str, dict[str, Any]]:
    classes = setup.dataset.classes
    label, clean = classes[scores.label[place]], classes[scores.clean_label[place]]
    changed = label != clean
    words = f"{shown(label)} (is {shown(clean)})" if changed else shown(label)
    return f"{words}\n{scores.memorization[place]:.2f}", {"color": CHANGED if changed else GREY}


def _pixels(setup: RunContext, index: np.ndarray) -> np.ndarray:
    preprocessing = replace(setup.train.preprocessing, normalisation="unit_range", dtype=torch.float32)
    wanted = torch.from_numpy(index)
    images, rows = next(iter(setup.dataset.train.images.read([wanted])))
    inputs = preprocess(images, rows, wanted.to(images.device), preprocessing, epoch=None)
    return ((inputs + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def save(path: Path, setup: RunContext, scores: Scores) -> None:
    """Write the PNG. Raises UserError where it cannot be written."""
    with drawing():
        figure = draw(setup, scores)
        write(path, partial(figure.savefig, format="png", pil_kwargs={"optimize": True}))
