"""A profile for people: a table and some lines in the terminal, and a picture of every epoch's seconds."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_atomic
from ..plotting import drawing
from ..terminal import LiveLine, number_table
from ..text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES, DOTS = (10.0, 5.5), 150

COLOURS = {
    "order": "#6b4c9a",
    "load": "#9c755f",
    "decode": "#d4a373",
    "copy": "#edc948",
    "corruption and augmentation": "#f28e2b",
    "forward": "#4e79a7",
    "backward": "#1f3b5c",
    "update": "#a0cbe8",
    "evaluation": "#59a14f",
    "checkpoint": "#b07aa1",
    "compile": "#e15759",
    "idle": "#f2f2f2",
}
"""Every part of the wall time and its colour, from the foot of a bar to its top."""


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def lines(record: dict[str, Any]) -> list[str]:
    """Return what the table does not show, a sentence each.

    record: as in result.json, with a profile.
    """
    profile = record["profile"]
    arithmetic, gpu, sentences = profile["arithmetic"], profile["gpu"], []
    if profile["bottleneck"] is not None:
        sentences.append(profile["bottleneck"]["why"])
    sentences.append(
        f"arithmetic: {arithmetic['flops_per_image'] / 1e6:,.1f} MFLOP an image; a product of {arithmetic['matrix']} "
        f"reaches {arithmetic['matrix_flops_per_second'] / 1e12:,.3g} TFLOP/s, the run "
        f"{_share(arithmetic['training_share_of_matrix_rate'])} of that, the model alone "
        f"{_share(arithmetic['model_share_of_matrix_rate'])}; copies {arithmetic['copy_bytes_per_second'] / 1e9:,.1f} "
        f"GB/s"
    )
    if gpu is not None and "unavailable" in gpu:
        sentences.append(f"power and clocks: unavailable: {gpu['unavailable']}")
    elif gpu is not None:
        sentences.append(
            f"{gpu['mean_watts']:,.0f} W and {gpu['mean_sm_mhz']:,.0f} MHz in the mean (least "
            f"{gpu['least_sm_mhz']:,}), {_joules(gpu['joules_per_image'])} a training image with evaluation included "
            f"(from {gpu['energy_from']}); clocks held back by: {', '.join(gpu['throttle_reasons']) or 'nothing'}"
        )
    if profile["overlapped"]:
        sentences.append(
            f"a profiled run is not replayed as a CUDA graph, so it may be slower than one without --profile; "
            f"{', '.join(profile['overlapped'])} are the host's and run at the same time as the device's stages"
        )
    if profile["sessions_before"]:
        sentences.append(f"this is of this session alone: the run has {profile['sessions_before']} before it")
    sentences.append(f"the profile itself took {profile['profiling_seconds']:.1f} s more, which are not counted")
    if not profile["traced_steps"]:
        sentences.append("there is no trace: the run was too short for one")
    return sentences


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} J"


def show(record: dict[str, Any], screen: LiveLine) -> None:
    """Print the table of stages and the lines."""
    profile = record["profile"]
    table = number_table("wall time", "seconds", "share", "us an image")
    for name, part in profile["stages"].items():
        note = " (at the same time)" if name in profile["overlapped"] else ""
        table.add_row(name + note, f"{part['seconds']:.3f}", _share(part["share"]), _us(part))
    images, wall = profile["images"], profile["wall_seconds"]
    whole = {"microseconds_per_image": 1e6 * wall / images if images else None}
    table.add_section()
    table.add_row("all", f"{wall:.3f}", _share(1.0), _us(whole))
    screen.console.print(table)
    for line in lines(record):
        screen.print(line)


def _us(part: dict[str, Any]) -> str:
    value = part["microseconds_per_image"]
    return "-" if value is None else f"{value:,.2f}"


def picture(record: dict[str, Any]) -> Figure:
    """Return a bar for each epoch, its seconds by stage, under a title that has what came before the first epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    profile = record["profile"]
    overlapped = profile["overlapped"]
    rows = [row for row in profile["epochs"] if row["images"]]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained")
    axes = figure.subplots()
    heights = {"wall": [0.0] * len(rows), "parallel": [0.0] * len(rows)}
    for name, colour in COLOURS.items():
        seconds = [max(0.0, row["seconds"][name]) for row in rows]
        if not any(seconds):
            continue
        parallel = name in overlapped
        foot = heights["parallel" if parallel else "wall"]
        share = sum(seconds) / sum(row["wall_seconds"] for row in rows)
        axes.bar(
            [epoch + 0.35 for epoch in epochs] if parallel else epochs,
            seconds,
            width=0.2 if parallel else 0.9 if not overlapped else 0.5,
            bottom=list(foot),
            color=colour,
            edgecolor="#808080",
            linewidth=0.3 if len(rows) <= 100 else 0.0,
            label=f"{name} {_share(share)}{' (at the same time)' if parallel else ''}",
        )
        foot[:] = [low + value for low, value in zip(foot, seconds, strict=True)]
    axes.set_xlabel("epoch")
    axes.set_ylabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    gpu, processor = record["environment"]["gpu"], record["environment"]["processor"]
    title = (
        f"What an epoch is made of: {record['model']} on {record['dataset']}, {record['precision']}, batch "
        f"{record['batch_size']}",
        f"{record['device']}, {gpu['name'] if gpu else processor}{_before(profile)}",
    )
    axes.set_title("\n".join(map(printable, title)), loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, title="share of wall time")
    return figure


def _before(profile: dict[str, Any]) -> str:
    first = profile["epochs"][0]
    return f"; before the first epoch: compile {first['seconds']['compile']:.1f} s"


def save_pictures(record: dict[str, Any], folder: Path) -> None:
    """Write profile.png and profile.svg. Raises OSError, also where matplotlib cannot be imported."""
    try:
        with drawing(svg_fonttype="none"):
            figure = picture(record)
            for kind in ("png", "svg"):
                write_atomic(folder / f"profile.{kind}", partial(figure.savefig, format=kind))
    except ImportError as error:
        raise OSError(errno.ENOPKG, f"matplotlib cannot be imported: {error}") from None
