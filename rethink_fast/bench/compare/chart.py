"""The history as a picture: a small panel for each figure, its values over the records, and the level between steps."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .history import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, PANEL, DOTS = 4, (3.4, 1.9), 110
INK, LEVEL, BETTER, WORSE = "#4e79a7", "#1f3b5c", "#59a14f", "#e15759"


def draw(all_series: Sequence[Series], title: str) -> Figure:
    """Every series with more than one record in a panel of its own. A step is green for the better, red for the worse.

    Raises ValueError where no series has more than one.
    """
    from matplotlib.figure import Figure

    drawn = [series for series in all_series if len(series.figures) > 1]
    if not drawn:
        raise ValueError("no figure has more than one record: there is no history to draw")
    rows = math.ceil(len(drawn) / COLUMNS)
    figure = Figure(figsize=(PANEL[0] * min(COLUMNS, len(drawn)), PANEL[1] * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, min(COLUMNS, len(drawn)), squeeze=False).flat)
    for panel, series in zip(panels, drawn, strict=False):
        _panel(panel, series)
    for panel in panels[len(drawn) :]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


def _panel(panel: Axes, series: Series) -> None:
    values, steps = series.values, series.steps()
    panel.plot(range(len(values)), values, "o", color=INK, markersize=3)
    cuts = [0, *steps, len(values)]
    levels = [statistics.median(values[a:b]) for a, b in itertools.pairwise(cuts)]
    for level, begin, end in zip(levels, cuts[:-1], cuts[1:], strict=True):
        panel.plot([begin - 0.4, end - 0.6], [level, level], color=LEVEL, linewidth=1.2)
    for at, before, after in zip(steps, levels[:-1], levels[1:], strict=True):
        better = (after > before) == series.figures[0].more_is_better
        panel.axvline(at - 0.5, color=BETTER if better else WORSE, linewidth=1)
        panel.annotate(
            f"{after / before - 1:+.0%}", (at - 0.45, 1.0), xycoords=("data", "axes fraction"), va="top", fontsize=7
        )
    arrow = "higher" if series.figures[0].more_is_better else "lower"
    name, _, unit = series.name.rpartition(", ")
    panel.set_title(f"{name[:62]}\n{unit} ({arrow} is better)", fontsize=6)
    panel.set_ylim(0, 1.25 * max(values))
    ends = [0, len(values) - 1]
    panel.set_xticks(ends, [series.labels[end][:10] for end in ends], fontsize=6)
    panel.tick_params(axis="y", labelsize=6)


def save(all_series: Sequence[Series], title: str, path: Path) -> None:
    """Draw and write a PNG, in one piece."""
    partial = path.with_name(f".{path.name}.partial")
    draw(all_series, title).savefig(partial, format="png", dpi=DOTS)
    partial.replace(path)
