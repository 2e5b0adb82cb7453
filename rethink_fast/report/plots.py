"""Pictures as SVG: of a figure, our curves over the paper's; of runs, their curves over one another."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..plotting import COLOURS, drawing, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (5.0, 4.1)
SHORT_LABEL, LEGEND_ROW = 30, 0.18
"""Characters of a label that leave room for a second one beside it, and the height of a line of labels in inches."""
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
MOST_CURVES = len(COLOURS) * len(LINES)
"""As many as differ in colour or line."""
INK = "#1f2328"
"""Of axes and text in a picture that stands alone; in the page it is that of the text around it."""


@dataclass(frozen=True)
class RunCurves:
    """The curves of one folder, drawn alike: of a run, or of each seed.

    curves: for each, the epochs and the values.
    """

    label: str
    curves: Sequence[tuple[Sequence[float], Sequence[float]]]


def curves(runs: Sequence[RunCurves], y_label: str, top: float | None = None) -> Figure:
    """Return the figure of at most MOST_CURVES runs over one another.

    top: the upper end of the y axis; None where the curves say it.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    width, height = INCHES
    columns = 2 if len(runs) > 1 and max(len(shown(run.label)) for run in runs) <= SHORT_LABEL else 1
    figure = Figure(figsize=(width, height + LEGEND_ROW * (len(runs) // columns - 1)), layout="constrained")
    axes = figure.subplots()
    handles, names = [], []
    for run, (line, colour) in zip(runs, itertools.product(LINES, COLOURS), strict=False):
        for x, y in run.curves:
            axes.plot(x, y, line, color=colour, marker="o", linewidth=1.6, markersize=2.2)
        if run.curves:
            handles.append(Line2D([], [], color=colour, linestyle=line, linewidth=2))
            names.append(shown(run.label))
    axes.set_xlabel("epoch")
    axes.set_ylabel(y_label)
    axes.set_ylim(bottom=0, top=top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)
    place: Any = {"loc": "outside lower center", "ncols": columns, "handlelength": 3}
    figure.legend(handles, names, **place, frameon=False, fontsize=9)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def picture(plot: dict[str, Any]) -> Figure:
    """Return the figure of one plot of reproduction.json: the paper dashed, ours solid with the spread over seeds."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    labels = list(dict.fromkeys(series["label"] for series in (*plot["paper"], *plot["ours"])))
    colours = dict(zip(labels, itertools.cycle(COLOURS), strict=False))
    for series in plot["paper"]:
        axes.plot(series["x"], _numbers(series["y"]), "--", color=colours[series["label"]], linewidth=1.1, alpha=0.75)
    for series in plot["ours"]:
        _ours(axes, series, colours[series["label"]])
    axes.set_xlabel(shown(plot["x_label"]))
    axes.set_ylabel(shown(plot["y_label"]))
    if plot["x_limit"] is not None:
        axes.set_xlim(0, plot["x_limit"])
    if plot["y_limits"] is not None:
        axes.set_ylim(*plot["y_limits"])
    _plain(axes)
    handles = [Line2D([], [], color=colours[label], linewidth=2) for label in labels]
    names = [*map(shown, labels)]
    if plot["paper"]:
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.1))
        names.append("the paper")
    if plot["paper"] and plot["ours"]:
        handles.append(Line2D([], [], color=INK, linewidth=1.8, marker="o", markersize=3))
        names.append("ours")
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _ours(axes: Axes, series: dict[str, Any], colour: str) -> None:
    x, y, spread = series["x"], _numbers(series["y"]), _numbers(series["spread"])
    axes.plot(x, y, "-o", color=colour, linewidth=1.8, markersize=2.5)
    if spread:
        low = [value - by for value, by in zip(y, spread, strict=True)]
        high = [value + by for value, by in zip(y, spread, strict=True)]
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if series["mark"]:
        at, value, _ = series["mark"]
        axes.plot([at], [value], "*", color=colour, markersize=11, markeredgecolor=INK, markeredgewidth=0.5)


def _numbers(values: list[float | None]) -> list[float]:
    """A value that was not finite is null in a record, and a gap in a curve."""
    return [math.nan if value is None else value for value in values]


def svg(draw: Callable[[], Figure], name: str) -> str:
    """Return what `draw` draws as the text of an SVG file, the same bytes for the same numbers.

    name: makes the ids inside differ from those of other pictures.
    """
    inks = dict.fromkeys(("text_color", "axes_labelcolor", "axes_edgecolor", "xtick_color", "ytick_color"), INK)
    out = io.StringIO()
    with drawing(svg_fonttype="none", svg_hashsalt=name, font_family="sans-serif", **inks):
        draw().savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def inline(text: str, name: str) -> str:
    """Return an SVG for the inside of a page: no prologue, ids that start with `name`, the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="patch_1">.*?</g>', "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<g id="[^"]*-patch_2">.*?fill: )#ffffff', r"\1none", text, count=1, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    return re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
