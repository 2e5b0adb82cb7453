"""A contact sheet as a picture: a row for each corruption, a column for each sample, every pixel a visible square."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..corruptions import MEANING
from ..files import write_atomic, writing
from ..plotting import drawing, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIX = "choose another file"
"""Where the picture cannot be written."""
DOTS = 100
CELL = 150
"""Dots: the least width of an image, which is shown at a whole multiple of its pixels."""
SIDE, TOP, CAPTION, GAP = 2.0, 1.1, 0.45, 0.15
"""Inches: for the names of the rows, for the headings, below each image, and between images."""
INK, GREY, CHANGED = "#1a1a1a", "#767676", "#b3261e"


@dataclass(frozen=True)
class SheetRow:
    """The samples under one corruption.

    kind: in the paper's words.
    probability: that a label is redrawn.
    inputs: uint8 [n, H, W, C], the images as the network sees them.
    augmented: the same with the augmentation of epoch 0; None without augmentation.
    before, after: class names of the n samples.
    """

    kind: str
    probability: float
    inputs: np.ndarray
    augmented: np.ndarray | None
    before: tuple[str, ...]
    after: tuple[str, ...]

    def images(self) -> dict[str, np.ndarray]:
        """Return the images of the row by heading."""
        return {"input": self.inputs} | ({"augmented": self.augmented} if self.augmented is not None else {})


@dataclass(frozen=True)
class Sheet:
    """Samples by corruption.

    source: where the images came from.
    augment: names of the augmentations.
    index: sample index of each column.
    rows: one for each corruption.
    """

    dataset: str
    source: str
    seed: int
    augment: tuple[str, ...]
    index: tuple[int, ...]
    rows: tuple[SheetRow, ...]


def draw(sheet: Sheet) -> Figure:
    """Return the figure of a sheet. Its axes are in the order of the rows and, within one, of the samples."""
    from matplotlib.figure import Figure

    size, headings = sheet.rows[0].inputs.shape[1], tuple(sheet.rows[0].images())
    columns, rows = len(sheet.index) * len(headings), len(sheet.rows)
    cell = -(-CELL // size) * size / DOTS
    width = SIDE + columns * (cell + GAP)
    height = TOP + rows * (cell + CAPTION)
    figure = Figure(figsize=(width, height), dpi=DOTS)
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            **{"left": SIDE / width, "right": 1 - GAP / width, "top": 1 - TOP / height, "bottom": CAPTION / height},
            **{"wspace": GAP / cell, "hspace": CAPTION / cell},
        },
    )
    source = " (synthetic)" if sheet.source == "synthetic" else ""
    what = f"{size} x {size} pixels, seed {sheet.seed}"
    if sheet.augment:
        what += f", augmentation of epoch 0: {', '.join(sheet.augment)}"
    figure.text(GAP / width, 1 - 0.35 / height, f"{sheet.dataset}{source}", size=15, color=INK, weight="bold")
    figure.text(GAP / width, 1 - 0.6 / height, what, size=9, color=GREY)
    for row, line in zip(sheet.rows, grid, strict=True):
        _name(line[0], row, SIDE - GAP)
        for k, (before, after) in enumerate(zip(row.before, row.after, strict=True)):
            for which, (heading, images) in enumerate(row.images().items()):
                axes = line[k * len(headings) + which]
                axes.imshow(np.broadcast_to(images[k], (*images[k].shape[:2], 3)), interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if row is sheet.rows[0]:
                    title = [f"sample {sheet.index[k]}"] if which == 0 else []
                    title += [heading] if len(headings) > 1 else []
                    axes.set_title("\n".join(title), loc="left", size=9, color=INK, weight="bold")
            changed = before != after
            label = f"{shown(before)} \N{RIGHTWARDS ARROW} {shown(after)}" if changed else shown(before)
            style = {"color": CHANGED, "weight": "bold"} if changed else {"color": GREY}
            line[k * len(headings)].set_xlabel(label, loc="left", size=9, **style)
    return figure


def _name(axes: Axes, row: SheetRow, left: float) -> None:
    """Write the name of a row, and what it means, `left` inches left of its first image."""
    name = row.kind.replace("_", " ").replace("partially ", "partially\n")
    meaning = textwrap.fill(MEANING[row.kind].format(probability=row.probability), 24)
    place: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    axes.annotate(name, (0, 1), (-72 * left, 0), size=11, color=INK, weight="bold", **place)
    below = -18 - 15 * name.count("\n")
    axes.annotate(meaning, (0, 1), (-72 * left, below), size=9, color=GREY, **place)


def save(sheet: Sheet, out: Path) -> tuple[int, int]:
    """Write the PNG and return its width and height in pixels. Raises UserError where it cannot be written."""
    with drawing():
        figure = draw(sheet)
        with writing(out, FIX, option="--out"):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out, partial(figure.savefig, format="png", pil_kwargs={"optimize": True}))
        width, height = figure.canvas.get_width_height()
    return width, height
