"""What a plan starts from: every figure with its source: a measurement, an option, a count or an assumption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..config import DEFAULTS, PATH, DatasetName, ModelName, PrecisionName
from ..data.synthetic import SHAPES
from ..errors import in_range
from .plan_count import Count, count
from .plan_record import ASSUMED, COUNTED, GIVEN, Figure, Record


@dataclass(frozen=True)
class Plan:
    """The run to be planned, and what is known of the machine."""

    gpus: int = 1
    """GPUs that train together."""
    epochs: int = 100
    """Epochs of the run."""
    eval_interval: int = 1
    """Epochs between evaluations, which go over the training and the test set."""
    record: Annotated[Path | None, PATH] = None
    """What was measured: result.json of a run with --profile, or the record of make gpu-check."""
    model: ModelName | None = None
    """The architecture. Default: the data set's."""
    size: int | None = None
    """Height and width of the network's input. Default: the data set's."""
    precision: PrecisionName = "bf16"
    """fp32, or bf16 mixed precision."""
    batch_size: int | None = None
    """Images in a step of one GPU. Default: the data set's."""
    model_rate: float | None = None
    """Images a second that one GPU trains with a loader that costs nothing. Without a record: --utilisation of the
    peak."""
    loader_rate: float | None = None
    """Images a second that the loader of one GPU prepares. Without a record an assumption: 16 cores at 300 each."""
    peak_tflops: float | None = None
    """TFLOP/s of one GPU. Without a record an assumption: an H100's or H200's data sheet, dense, 989 in bf16 and 67 in
    fp32."""
    utilisation: float = 0.15
    """An assumption: the share of the peak that training reaches, where no rate is known."""
    efficiency: float = 0.95
    """An assumption: the share of its rate that a GPU keeps beside others."""
    watts: float | None = None
    """Watts of one GPU in training. Without a record an assumption: 700, an H100's or H200's limit."""
    file_bytes: float | None = None
    """Mean bytes of an original image. For imagenet an assumption: 110,000; for the others their pixels."""


@dataclass(frozen=True)
class Inputs:
    """Everything that the formulas take. Rates, watts and peak are of one GPU; device_bytes: the measured peak memory.

    images, test_images: of the official sets. combined: images a second of a measured run, loader and model together.
    """

    dataset: str
    model: str
    size: int
    channels: int
    precision: str
    batch_size: int
    images: int
    test_images: int
    gpus: int
    epochs: int
    eval_interval: int
    count: Count
    model_rate: Figure
    loader_rate: Figure
    peak: Figure
    watts: Figure
    efficiency: Figure
    file_bytes: Figure
    combined: Figure | None
    device_bytes: Figure | None
    notes: tuple[str, ...]


LOADER_RATE, WATTS, FILE_BYTES = 16 * 300.0, 700.0, 110_000.0
PEAK = {"bf16": 989e12, "fp32": 67e12}

_LIMITS = {
    "gpus": (1, 100_000),
    "epochs": (1, 10**6),
    "eval_interval": (1, 10**6),
    "size": (1, 4096),
    "batch_size": (1, 2**20),
    "model_rate": (1e-3, 1e9),
    "loader_rate": (1e-3, 1e9),
    "peak_tflops": (1e-3, 1e6),
    "utilisation": (1e-4, 1.0),
    "efficiency": (1e-3, 1.0),
    "watts": (1.0, 1e5),
    "file_bytes": (1.0, 1e9),
}


def gather(dataset: DatasetName, plan: Plan) -> Inputs:
    """The figures of a plan: what is given goes before what was measured, and that before an assumption.

    Raises UserError for a value out of range and a record that cannot be used.
    """
    for name, (low, high) in _LIMITS.items():
        value = getattr(plan, name)
        if value is not None:
            in_range(f"--{name.replace('_', '-')}", value, low, high)
    default, shape = DEFAULTS[dataset], SHAPES[dataset]
    model, size = plan.model or default.model, plan.size or default.size
    counted = count(model, size=size, channels=shape.channels, num_classes=shape.classes, precision=plan.precision)
    found = Record.read(plan.record) if plan.record is not None else None
    measured = found.figures(dataset, model, size, plan.precision) if found is not None else {}

    def pick(name: str, option: str, given: float | None, assumed: float, why: str) -> Figure:
        if given is not None:
            return Figure(given, GIVEN, option)
        return measured.get(name) or Figure(assumed, ASSUMED, why)

    peak = pick(
        "peak",
        "--peak-tflops",
        None if plan.peak_tflops is None else plan.peak_tflops * 1e12,
        PEAK[plan.precision],
        f"an H100's or H200's data sheet, dense {plan.precision}",
    )
    trained = plan.utilisation * peak.value / counted.training_flops
    share = f"--utilisation {plan.utilisation:g} of the peak, by the arithmetic of an image"
    cores = "16 cores a GPU, 300 images/s each"
    if dataset == "imagenet":
        file = pick("file_bytes", "--file-bytes", plan.file_bytes, FILE_BYTES, "of ImageNet's photographs")
    else:
        pixels = float(shape.size**2 * shape.channels)
        known = (pixels, COUNTED, "its pixels") if plan.file_bytes is None else (plan.file_bytes, GIVEN, "--file-bytes")
        file = Figure(*known)
    same_batch = found is not None and plan.batch_size in (None, found.batch_size)
    given_rate = plan.model_rate is not None or plan.loader_rate is not None
    return Inputs(
        dataset=dataset,
        model=model,
        size=size,
        channels=shape.channels,
        precision=plan.precision,
        batch_size=plan.batch_size or (found and found.batch_size) or default.batch_size,
        images=shape.train,
        test_images=shape.test,
        gpus=plan.gpus,
        epochs=plan.epochs,
        eval_interval=plan.eval_interval,
        count=counted,
        model_rate=pick("model_rate", "--model-rate", plan.model_rate, trained, share),
        loader_rate=pick("loader_rate", "--loader-rate", plan.loader_rate, LOADER_RATE, cores),
        peak=peak,
        watts=pick("watts", "--watts", plan.watts, WATTS, "an H100's or H200's power limit"),
        efficiency=Figure(plan.efficiency, ASSUMED, "--efficiency"),
        file_bytes=file,
        combined=None if given_rate else measured.get("combined"),
        device_bytes=measured.get("device_bytes") if same_batch else None,
        notes=found.notes if found is not None else (),
    )
