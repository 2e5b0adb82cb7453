"""A sheet of samples as a picture: every input at a whole multiple of its pixels, so that nothing is resampled.

title
                sample 17                    sample 42
                input     augmented          input     augmented
random labels   [image]   [image]            [image]   [image]
what it does    cat > dog                    cat (kept)
"""

from __future__ import annotations

import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..corruptions import MEANING
from ..errors import UserError
from ..files import write_atomic
from ..plotting import drawing, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .show import Sheet

DOTS = 100
CELL = 150
"""An input is shown at least so many pixels wide."""

SIDE, TOP, CAPTION, GAP, NEAR, EDGE = 190, 92, 26, 22, 4, 16
"""Names of the rows, headings, line below an image, space between samples, within one, and around it all: in pixels
where an input is shown at CELL, and larger with it, as the words are."""

INK, GREY, CHANGED = "#1a1a1a", "#767676", "#b3261e"


def check_name(out: Path) -> None:
    """Raise UserError for a name that is not a PNG's."""
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out} is no PNG: choose a name that ends in .png.")


def save(made: Sheet, out: Path) -> tuple[int, int]:
    """Write the PNG and return its width and height in pixels. Raises UserError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = _Canvas(made)
    with drawing():
        figure = Figure(figsize=(canvas.width / DOTS, canvas.height / DOTS), dpi=DOTS)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(canvas.pixels, interpolation="nearest", extent=(0, canvas.width, canvas.height, 0), aspect="auto")
        canvas.write(axes)
        png = partial(figure.savefig, format="png", dpi=DOTS, pil_kwargs={"optimize": True})
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out, png)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written ({error.strerror}): choose another place.") from None
    return canvas.width, canvas.height


class _Canvas:
    """Where everything lies, in pixels from the top left, and the images in their places."""

    def __init__(self, made: Sheet) -> None:
        self.made = made
        size = made.rows[0].inputs.shape[1]
        self.scale = -(-CELL // size)
        self.cell = size * self.scale
        self.unit = self.cell / CELL
        self.beside = 1 if made.rows[0].augmented is None else 2
        self.column = self.beside * self.cell + (self.beside - 1) * self.px(NEAR)
        self.width = self.px(2 * EDGE + SIDE) + len(made.index) * (self.column + self.px(GAP)) - self.px(GAP)
        self.height = self.top(len(made.rows)) - self.px(GAP) + self.px(EDGE)
        self.pixels = np.full((self.height, self.width, 3), 255, np.uint8)
        for r, row in enumerate(made.rows):
            for which, images in enumerate((row.inputs, row.augmented)[: self.beside]):
                assert images is not None
                for k, image in enumerate(images):
                    self._put(image, self.left(k, which), self.top(r))

    def px(self, length: float) -> int:
        """A length that grows with the images."""
        return round(length * self.unit)

    def left(self, k: int, which: int = 0) -> int:
        """Left edge of the k-th sample: of its input, or with 1 of its augmented input."""
        return self.px(EDGE + SIDE) + k * (self.column + self.px(GAP)) + which * (self.cell + self.px(NEAR))

    def top(self, r: int) -> int:
        """Upper edge of the r-th row's images."""
        return self.px(EDGE + TOP) + r * (self.cell + self.px(CAPTION + GAP))

    def _put(self, image: np.ndarray, left: int, top: int) -> None:
        large = image.repeat(self.scale, 0).repeat(self.scale, 1)
        self.pixels[top : top + self.cell, left : left + self.cell] = large  # one channel becomes three equal ones

    def write(self, axes: Axes) -> None:
        """All the words."""
        made = self.made

        def words(x: float, y: float, text: str, size: float, colour: str, *, bold: bool, on: str = "top") -> None:
            axes.text(
                x,
                y,
                text,
                size=size * self.unit,
                color=colour,
                weight="bold" if bold else "normal",
                va=on,
                linespacing=1.3,
            )

        edge, size = self.px(EDGE), made.rows[0].inputs.shape[1]
        synthetic = " (synthetic)" if made.source == "synthetic" else ""
        words(edge, edge, f"{made.dataset}{synthetic}", 15, INK, bold=True)
        what = f"{size} x {size} pixels, seed {made.seed}"
        if made.augment:
            what += f", augmentation of epoch 0: {', '.join(made.augment)}"
        words(edge, edge + self.px(28), what, 9.5, GREY, bold=False)
        for k, index in enumerate(made.index):
            y = self.top(0) - self.px(25 if self.beside == 2 else 8)
            words(self.left(k), y, f"sample {index}", 10.5, INK, bold=True, on="baseline")
            for which, name in enumerate(("input", "augmented") if self.beside == 2 else ()):
                words(self.left(k, which), self.top(0) - self.px(8), name, 9, GREY, bold=False, on="baseline")
        for r, row in enumerate(made.rows):
            top = self.top(r)
            name = row.kind.replace("_", " ").replace("partially ", "partially\n")
            words(edge, top - self.px(3), name, 11, INK, bold=True)
            meaning = textwrap.fill(MEANING[row.kind].format(probability=row.probability), 23)
            words(edge, top + self.px(21 + 20 * name.count("\n")), meaning, 9, GREY, bold=False)
            for k, (before, after) in enumerate(zip(row.before, row.after, strict=True)):
                changed = before != after
                before, after = shown(before), shown(after)
                label = f"{before} \N{RIGHTWARDS ARROW} {after}" if changed else before
                y, colour = top + self.cell + self.px(17), CHANGED if changed else GREY
                words(self.left(k), y, label, 9, colour, bold=changed, on="baseline")
