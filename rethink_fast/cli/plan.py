"""`rethink-fast plan`: what a full run will take. Every formula is here, and every line shows its own arithmetic."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text import duration
from .plan_inputs import Inputs

EVALUATION_SPEED = 3.0
"""Evaluation is the forward pass alone, a third of the arithmetic of training."""

STATE_BYTES = 12
"""Of a parameter on the device: weight, gradient and momentum in float32."""

CHECKPOINT_BYTES = 8
"""Of a parameter in a checkpoint: weight and momentum."""

BATCHES_IN_FLIGHT = 5
"""Of images in host memory, at most: two that DALI holds ready, one in work, one in use and one to be copied."""


@dataclass(frozen=True)
class PlanLine:
    """One result: what it is, its value in `unit` (images/s, s, h, kWh or bytes), and its arithmetic in numbers."""

    name: str
    what: str
    value: float
    unit: str
    how: str

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.unit == "bytes":
            return _bytes(self.value)
        if self.unit == "s":
            return duration(self.value)
        return f"{self.value:,.0f} {self.unit}" if self.value >= 1000 else f"{self.value:,.3g} {self.unit}"


def lines(given: Inputs) -> list[PlanLine]:
    """The results, in the order in which they follow from each other."""
    many = given.gpus > 1
    share = given.efficiency.value if many else 1.0
    beside = f" x {share:g} (efficiency)" if many else ""
    model, loader = given.model_rate.value, given.loader_rate.value
    single = given.combined.value if given.combined is not None else min(model, loader)
    rate = given.gpus * single * share
    scoring = given.gpus * min(EVALUATION_SPEED * model, loader) * share
    everything = given.images + given.test_images
    training = given.images / rate
    evaluation = everything / scoring
    evaluations = -(-given.epochs // given.eval_interval)
    seconds = given.epochs * training + evaluations * evaluation
    work = (
        given.epochs * given.images * given.count.training_flops + evaluations * everything * given.count.forward_flops
    )
    floor = work / (given.gpus * given.peak.value)
    pixels = given.size**2 * given.channels
    energy = given.gpus * given.watts.value * seconds / 3.6e6
    state, kept = STATE_BYTES * given.count.parameters, given.batch_size * given.count.kept_bytes
    device = given.device_bytes.value if given.device_bytes is not None else state + kept
    flight = BATCHES_IN_FLIGHT * given.batch_size * pixels
    if given.combined is not None:
        one = f"{single:,.0f} (measured, model and loader together)"
    else:
        one = f"min({model:,.0f} model, {loader:,.0f} loader)"
    score = f"min({EVALUATION_SPEED:g} x {model:,.0f}, {loader:,.0f})"
    whole = f"({given.epochs} epochs x {training:,.1f} s + {evaluations} evaluations x {evaluation:,.1f} s) / 3600"
    limit = f"{work:.4g} FLOP / ({given.gpus} x {given.peak.value / 1e12:,.4g} TFLOP/s)"
    parameters, image = (
        f"{given.count.parameters:,} parameters",
        f"{given.size} x {given.size} x {given.channels} bytes",
    )
    if given.device_bytes is not None:
        held = "the peak of the measured run"
    else:
        held = (
            f"at least {parameters} x {STATE_BYTES} bytes + {given.batch_size} images x "
            f"{given.count.kept_bytes / 1e6:,.3g} MB kept for the backward pass"
        )
    hours, file, saved = seconds / 3600, given.file_bytes.value, CHECKPOINT_BYTES * given.count.parameters
    batches = f"{BATCHES_IN_FLIGHT} batches a GPU x {given.batch_size} x {image}"
    return [
        PlanLine("rate", "training, all GPUs", rate, "images/s", f"{given.gpus} x {one}{beside}"),
        PlanLine("epoch", "an epoch of training", training, "s", f"{given.images:,} images / {rate:,.0f} images/s"),
        PlanLine(
            "evaluation",
            "an evaluation",
            evaluation,
            "s",
            f"{everything:,} images / {scoring:,.0f} images/s: {given.gpus} x {score}{beside}",
        ),
        PlanLine("hours", "the whole run", hours, "h", whole),
        PlanLine(
            "energy",
            "energy of the GPUs alone",
            energy,
            "kWh",
            f"{given.gpus} x {given.watts.value:,.0f} W x {hours:,.3g} h / 1000",
        ),
        PlanLine(
            "floor",
            "arithmetic floor",
            floor / 3600,
            "h",
            f"{limit}; the plan is {seconds / floor:,.1f} times that",
        ),
        PlanLine("files", "disk: original files", everything * file, "bytes", f"{everything:,} x {file:,.0f} bytes"),
        PlanLine("raw", "disk: all as raw pixels", everything * pixels, "bytes", f"{everything:,} x {image}"),
        PlanLine(
            "checkpoint",
            "disk: a checkpoint",
            saved,
            "bytes",
            f"{parameters} x {CHECKPOINT_BYTES} bytes: weight and momentum",
        ),
        PlanLine("gpu_memory", "memory of a GPU", device, "bytes", held),
        PlanLine("host_memory", "host memory: images in flight", flight, "bytes", batches),
    ]


def bottleneck(given: Inputs) -> str:
    """What holds the run up, and by how much the other is faster."""
    model, loader = given.model_rate, given.loader_rate
    slower, faster = ("model", "loader") if model.value <= loader.value else ("loader", "model")
    ratio = max(model.value, loader.value) / min(model.value, loader.value)
    sources = {model.source, loader.source}
    basis = "" if sources <= {"measured", "given"} else ", as far as assumptions can tell"
    return f"the {slower} is the bottleneck{basis}: the {faster} is {ratio:.2f} times as fast"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def as_dict(given: Inputs) -> dict[str, Any]:
    """The plan as plain values: its inputs with their sources, its lines, the bottleneck."""
    inputs = asdict(given)
    return {
        "inputs": {key: value for key, value in inputs.items() if key != "notes"},
        "lines": {line.name: {"value": line.value, "unit": line.unit, "how": line.how} for line in lines(given)},
        "bottleneck": bottleneck(given),
        "notes": list(given.notes),
    }


def show(given: Inputs, console: Console) -> None:
    """Print what the plan rests on, and what follows."""
    console.print(
        f"{given.model} on {given.dataset}: {given.images:,} images at {given.size} px in {given.precision}, "
        f"{given.epochs} epochs, {given.gpus} GPU{'s' if given.gpus > 1 else ''}",
        soft_wrap=True,
    )
    basis = Table("it rests on", "value", "source", header_style="bold")
    counted = given.count
    for what, shown, source in (
        ("arithmetic of an image, forward", f"{counted.forward_flops / 1e9:,.4g} GFLOP", "counted, on the meta device"),
        (
            "arithmetic of an image, training",
            f"{counted.training_flops / 1e9:,.4g} GFLOP",
            "counted, on the meta device",
        ),
        ("one GPU trains", f"{given.model_rate.value:,.0f} images/s", given.model_rate),
        ("its loader gives", f"{given.loader_rate.value:,.0f} images/s", given.loader_rate),
        ("peak of one GPU", f"{given.peak.value / 1e12:,.4g} TFLOP/s", given.peak),
        ("power of one GPU", f"{given.watts.value:,.0f} W", given.watts),
        ("efficiency beside other GPUs", f"{given.efficiency.value:g}", given.efficiency),
        ("an original file", f"{given.file_bytes.value:,.0f} bytes", given.file_bytes),
    ):
        source = str(source)
        basis.add_row(what, shown, Text(source, style="yellow" if source.startswith("assumed") else ""))
    console.print(basis)
    table = Table("it takes", "", "arithmetic", header_style="bold")
    table.columns[1].justify = "right"
    for line in lines(given):
        table.add_row(line.what, Text(line.shown, style="bold"), line.how)
    console.print(table)
    for note in (bottleneck(given), *given.notes):
        console.print(note, soft_wrap=True)
