"""A figure over the records as a picture, with the level between steps; alone, or as a panel of a sheet of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...report.plots import COLOURS, INK
from .figures import unit_of
from .history import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, PANEL, DOTS = 4, (3.4, 1.9), 110
BETTER, WORSE = "#59a14f", "#e15759"
MARKERS = "os^Dv"


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
        _panel(panel, series, [0] * len(series.records), 6)
        what, unit, better = words(series)
        panel.set_title(f"{what[:62]}\n{f'{unit} ({better})'.strip()}", fontsize=6)
    for panel in panels[len(drawn) :]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


def picture(series: Series, machines: Sequence[int]) -> Figure:
    """One series without a title, for a page that has one. machines: the number of each record's machine, from 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, layout="constrained")
    panel = figure.subplots()
    _panel(panel, series, machines, 8)
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def words(series: Series) -> tuple[str, str, str]:
    """What the series is of, its unit on the chart (may be empty), and the direction that is better."""
    what, unit = series.figures[0].parts()
    if unit == "s":
        _, unit = unit_of(max(series.values))
    return what, unit, f"{'higher' if series.figures[0].more_is_better else 'lower'} is better"


def _panel(panel: Axes, series: Series, machines: Sequence[int], size: int) -> None:
    scale = unit_of(max(series.values))[0] if series.figures[0].parts()[1] == "s" else 1.0
    values = [value / scale for value in series.values]
    shown = sorted(set(machines))
    for machine in shown:
        places = [place for place, each in enumerate(machines) if each == machine]
        panel.plot(
            places,
            [values[place] for place in places],
            MARKERS[machine % len(MARKERS)],
            color=COLOURS[machine % len(COLOURS)],
            markersize=size / 2,
            label=f"machine {machine + 1}",
        )
    if len(values) > 1:
        for begin, end, level in series.levels():
            panel.plot([begin - 0.4, end - 0.6], [level / scale] * 2, color=INK, linewidth=1.2)
    for step in series.steps():
        panel.axvline(step.at - 0.5, color=BETTER if step.better else WORSE, linewidth=1)
        panel.annotate(
            f"{step.ratio - 1:+.0%}", (step.at - 0.45, 1.0), xycoords=("data", "axes fraction"), va="top", fontsize=size
        )
    if len(shown) > 1:
        panel.legend(loc="lower left", ncols=len(shown), frameon=False, fontsize=size, handletextpad=0.2)
    panel.set_xlim(-0.5, len(values) - 0.5)
    panel.set_ylim(0, 1.25 * max(values))
    ends = sorted({0, len(values) - 1})
    panel.set_xticks(ends, [series.records[end].day for end in ends], fontsize=size)
    panel.tick_params(axis="y", labelsize=size)


def save(all_series: Sequence[Series], title: str, path: Path) -> None:
    """Draw and write a PNG, in one piece."""
    partial = path.with_name(f".{path.name}.partial")
    draw(all_series, title).savefig(partial, format="png", dpi=DOTS)
    partial.replace(path)
