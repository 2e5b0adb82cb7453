"""`rethink-fast plan`: what a full run takes, from the rates of a record or given ones. Each line shows its formula."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from .. import schema
from ..bench.record import RUN_SHAPE
from ..config import PATH, PrecisionName, RunDatasetName
from ..data import OWN, not_given, pack_images
from ..data.synthetic import SHAPES, Shape
from ..defaults import DEFAULTS, Defaults, defaults
from ..errors import UserError, in_range
from ..models import model_entry
from ..models.cost import cost_of
from ..output import print_json
from ..schema import BadFile, Each, Maybe, Number
from ..terminal import Terminal
from ..text import duration, format_bytes

EVALUATION_SPEED = 3.0
"""Evaluation is the forward pass alone, a third of the arithmetic of training."""
STATE_BYTES, CHECKPOINT_BYTES = 12, 8
"""Of a parameter: weight, gradient and momentum in float32 on the device; weight and momentum in a checkpoint."""
BATCHES_IN_FLIGHT = 5
"""Of images in host memory, at most: two that DALI holds ready, one in work, one in use and one to be copied."""
RATE = Number(1e-6, 1e30)
ADVICE = "name by --record the result.json of a run with --profile, or a record of make gpu-check"
GPU_CHECK_SHAPE = {"bf16_matrix_tflop_per_s": RATE, "gpu": Maybe(str)}
SOURCES_SHAPE = {"imagenet": {"sources": [{"source": str, "model": RATE, "combined": RATE}]}}
"""Of Inception V3, where gpu-check has measured it."""
PROFILED_SHAPE = {
    **RUN_SHAPE,
    **{"image_size": Number(1, 4096, whole=True), "batch_size": Number(1, 2**20, whole=True)},
    **{"model": str, "precision": frozenset(("fp32", "bf16"))},
    "profile": {
        "rates": dict.fromkeys(("model", "loader", "combined"), Maybe(RATE)),
        "arithmetic": {"matrix_flops_per_second": Maybe(RATE)},
    },
}
RANGES = {
    **{"gpus": (1, 100_000), "epochs": (1, 10**6), "eval_interval": (1, 10**6), "size": (1, 4096)},
    **{"batch_size": (1, 2**20), "images_per_second": (1e-3, 1e9), "loader_images_per_second": (1e-3, 1e9)},
    "peak_tflops": (1e-3, 1e6),
}


@dataclass(frozen=True)
class PlanOptions:
    """The run to be planned, and what is known of the machine."""

    data: Annotated[Path | None, PATH] = None
    """With own: its pack."""
    record: Annotated[Path | None, PATH] = None
    """Measured rates: result.json of a run with --profile, or the record of make gpu-check (Inception V3, the peak)."""
    images_per_second: float | None = None
    """Images a second that one GPU trains with a loader that costs nothing."""
    loader_images_per_second: float | None = None
    """Images a second that the loader of one GPU prepares."""
    peak_tflops: float | None = None
    """TFLOP/s of one GPU, for the arithmetic floor."""
    gpus: int = 1
    """GPUs that train together, each at its whole rate."""
    epochs: int = 100
    """Epochs of the run."""
    eval_interval: int = 1
    """Epochs between evaluations, which go over the training and the test set."""
    model: str | None = None
    """The architecture. Default: the record's, or the data set's."""
    size: int | None = None
    """Height and width of the network's input. Default: the record's, or the data set's."""
    precision: PrecisionName | None = None
    """fp32, or bf16 mixed precision. Default: the record's, or bf16."""
    batch_size: int | None = None
    """Images in a step of one GPU. Default: the record's, or the data set's."""


@dataclass(frozen=True)
class PlanLine:
    """One result of a plan.

    name: key in the JSON.
    what: name for people.
    value: in `unit`.
    unit: images/s, s, h, FLOP or bytes.
    how: the formula, with its numbers.
    """

    name: str
    what: str
    value: float
    unit: str
    how: str

    def __str__(self) -> str:
        if self.unit == "bytes":
            return format_bytes(round(self.value))
        return duration(self.value) if self.unit == "s" else f"{self.value:,.4g} {self.unit}"


def plan(
    dataset: RunDatasetName,
    /,
    *,
    options: Annotated[PlanOptions, Parameter(name="*")] = PlanOptions(),
    json: bool = False,
) -> int:
    """Estimate a full run: hours, disk, memory, the bottleneck, and the floor of its arithmetic.

    Parameters
    ----------
    dataset:
        The data set; own is a pack of your own, with --data.
    json:
        Print it as JSON.
    """
    lines, notes = estimate(dataset, options)
    if json:
        return print_json({"lines": {line.name: asdict(line) for line in lines}, "notes": notes})
    console = Terminal()
    table = Table("", "", "", show_header=False)
    for line in lines:
        table.add_row(line.what, str(line), line.how)
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
    return 0


def estimate(dataset: RunDatasetName, options: PlanOptions) -> tuple[list[PlanLine], list[str]]:
    """Return the lines of a plan, and notes: the bottleneck, and what limits the plan. Raises UserError."""
    for name, (least, most) in RANGES.items():
        if getattr(options, name) is not None:
            in_range(f"--{name.replace('_', '-')}", getattr(options, name), least, most)
    known, notes = _measured(options.record, dataset, options.batch_size) if options.record is not None else ({}, [])
    for name in ("model", "size", "precision"):
        wanted = getattr(options, name)
        if wanted is not None and name in known and known[name] != wanted:
            problem = f"--record {options.record} has the {name} {known[name]}, the plan {wanted}"
            raise UserError(problem, f"omit --{name}, or name another record", option=f"--{name}", value=wanted)
    (default, shape), gpus, epochs = _of(dataset, options.data), options.gpus, options.epochs
    model = str(options.model or known.get("model", default.model))
    size, batch = (options.size or known.get("size", default.size)), options.batch_size or known.get("batch")
    batch = batch or default.batch_size
    precision = options.precision or known.get("precision", "bf16")
    cost = cost_of(model, size=size, channels=shape.channels, num_classes=shape.classes, precision=precision)
    images, both, evaluations = shape.train, shape.train + shape.test, -(-epochs // options.eval_interval)
    network, image = f"{cost.parameters:,} parameters", f"{size} x {size} x {shape.channels} bytes"
    work = epochs * images * cost.training_flops + evaluations * both * cost.forward_flops
    lines = [
        PlanLine(
            *("work", "arithmetic", work, "FLOP"),
            f"{epochs} epochs x {images:,} images x {cost.training_flops:.4g} + {evaluations} evaluations x {both:,} "
            f"images x {cost.forward_flops:.4g}",
        )
    ]
    trains = options.images_per_second or known.get("model rate")
    loads = options.loader_images_per_second or known.get("loader rate")
    is_given = options.images_per_second or options.loader_images_per_second
    if trains or loads:
        limits = [rate for rate in (trains, loads) if rate]
        single = min(limits) if is_given else known.get("combined rate", min(limits))
        scored = min(rate for rate in (trains and EVALUATION_SPEED * trains, loads) if rate)
        epoch, evaluation = images / (gpus * single), both / (gpus * scored)
        seconds = epochs * epoch + evaluations * evaluation
        lines += [
            PlanLine("rate", "training", gpus * single, "images/s", f"{gpus} x {single:,.0f}"),
            PlanLine("epoch", "an epoch", epoch, "s", f"{images:,} images / {gpus * single:,.0f} /s"),
            PlanLine(
                "evaluation", "an evaluation", evaluation, "s", f"{both:,} images / {gpus * scored:,.0f} images/s"
            ),
            PlanLine(
                *("hours", "the whole run", seconds / 3600, "h"),
                f"({epochs} epochs x {epoch:,.1f} s + {evaluations} evaluations x {evaluation:,.1f} s) / 3600",
            ),
        ]
    else:
        notes.append("hours and bottleneck need --record of a run with --profile, or --images-per-second")
    if trains and loads:
        slower, faster = ("model", "loader") if trains <= loads else ("loader", "model")
        ratio = max(trains, loads) / min(trains, loads)
        notes.insert(0, f"the {slower} is the bottleneck: the {faster} is {ratio:.2f} times as fast")
    peak = options.peak_tflops * 1e12 if options.peak_tflops else known.get("peak")
    if peak:
        how = f"{work:.4g} FLOP / ({gpus} x {peak / 1e12:,.4g} TFLOP/s)"
        lines.append(PlanLine("floor", "arithmetic floor", work / (gpus * peak) / 3600, "h", how))
    kept = STATE_BYTES * cost.parameters + batch * cost.kept_bytes
    memory = f"at least {network} x {STATE_BYTES} bytes + {batch} images x {cost.kept_bytes / 1e6:,.3g} MB for backward"
    if "device bytes" in known and options.batch_size in (None, known["batch"]):
        kept, memory = known["device bytes"], "the peak of the measured run"
    pixels, saved = size**2 * shape.channels, CHECKPOINT_BYTES * cost.parameters
    flight = f"{BATCHES_IN_FLIGHT} batches a GPU x {batch} x {image}"
    return [
        *lines,
        PlanLine("raw", "disk: all as raw pixels", both * pixels, "bytes", f"{both:,} x {image}"),
        PlanLine("checkpoint", "disk: a checkpoint", saved, "bytes", f"{network} x {CHECKPOINT_BYTES} bytes"),
        PlanLine("gpu_memory", "memory of a GPU", kept, "bytes", memory),
        PlanLine("host_memory", "host memory", BATCHES_IN_FLIGHT * batch * pixels, "bytes", flight),
    ], notes


def _of(dataset: RunDatasetName, data: Path | None) -> tuple[Defaults, Shape]:
    """Return the defaults and the size of a data set. Raises UserError."""
    if dataset != OWN:
        if data is not None:
            raise UserError(f"--data {data} has no effect with {dataset}", "omit it", option="--data", value=data)
        return DEFAULTS[dataset], SHAPES[dataset]
    if data is None:
        raise not_given()
    pack, (height, width, channels) = pack_images.read_own(data)
    size, test = min(height, width), len(pack.test.index) if pack.test is not None else 0
    shape = Shape(size, channels, len(pack.classes), len(pack.train.index), test)
    return replace(defaults(OWN, on_gpu=True), size=size), shape


def _measured(path: Path, dataset: str, batch_size: int | None) -> tuple[dict[str, Any], list[str]]:
    """Return what a record measured, by name, and notes on it. Raises UserError for one of another data set."""
    values = schema.read(path, Each(), ADVICE)
    is_check = values.get("kind") == "gpu-check"
    if not is_check and not values.get("profile"):
        raise BadFile(path, "is not a record with a profile", ADVICE)
    try:
        schema.check(values, GPU_CHECK_SHAPE if is_check else PROFILED_SHAPE)
        if is_check and "imagenet" in values:
            schema.check(values, SOURCES_SHAPE)
        if not is_check:
            model_entry(values["model"])
    except ValueError as error:
        raise BadFile(path, str(error), ADVICE) from None
    if is_check:
        return _checked(path, values, dataset, batch_size)
    if values["dataset"] != dataset:
        problem = f"--record {path} has the data set {values['dataset']}, the plan {dataset}"
        raise UserError(problem, "name another record", option="--record", value=path)
    rates, on_cpu = values["profile"]["rates"], values["device"] == "cpu"
    measured = {
        "model": values["model"],
        "size": values["image_size"],
        "precision": values["precision"],
        "batch": values["batch_size"],
        **{f"{name} rate": rates.get(name) for name in ("model", "loader", "combined")},
        "peak": values["profile"]["arithmetic"].get("matrix_flops_per_second"),
        "device bytes": None if on_cpu else values.get("peak_memory_bytes"),
    }
    notes = [f"{path} was measured on a CPU: a GPU of this plan stands for such a machine"] if on_cpu else []
    if values["data_source"] == "synthetic":
        notes.append(f"{path} was measured on synthetic images: its loader decoded nothing")
    return {name: value for name, value in measured.items() if value}, notes


def _checked(
    path: Path, values: dict[str, Any], dataset: str, batch_size: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Return what a record of gpu-check measured: the peak, and for ImageNet the rates of Inception V3.

    batch_size: take the rates of such batches, where there are some; None takes the best.
    """
    gpu = values.get("gpu") or "GPU"
    measured = {"precision": "bf16", "peak": values["bf16_matrix_tflop_per_s"] * 1e12}
    if dataset != "imagenet" or "imagenet" not in values:
        return measured, [f"{path} holds the matmul peak of a {gpu} and no rate of images"]
    sources = values["imagenet"]["sources"]
    like = [source for source in sources if batch_size and _batch_of(source) == batch_size]
    best = max(like or sources, key=lambda source: source["combined"])
    rates = {"model rate": best["model"], "combined rate": best["combined"], "batch": _batch_of(best)}
    note = f"{path} was measured on {gpu}, on images {best['source']}: reading files was not measured"
    return {**measured, **rates, "model": "inception_v3", "size": 299}, [note]


def _batch_of(source: dict[str, Any]) -> int | None:
    """The batch size that gpu-check's name of a source ends in."""
    found = re.search(r"batches of (\d{1,6})$", source["source"])
    return int(found[1]) if found else None
