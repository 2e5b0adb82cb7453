"""How fast the engine trains, beside the plain loop in the same process.

`python -m benchmarks.bench_engine --data PATH [--model mlp_1x512] [--precision bf16] [--batch-size 1000] [--json FILE]`

Three things, on all of CIFAR-10: images/s in training of `reference_loop`, with its fastest number of workers, and of
the engine, interleaved, with random labels; the floating-point operations that the engine gets done, as a share of what
a large matrix product reaches in the same rounds; and what the way of the data costs, for each corruption, as the share
of a step that is saved when the network is given the same prepared batch again and again. Everything is a ratio of two
neighbours in time, and its median, least and greatest over the rounds are reported. The reference is float32 with
batches of 128; the engine is too, unless given otherwise.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from rethink_fast.config import ModelName, PrecisionName, Train
from rethink_fast.env import choose_device, environment
from rethink_fast.errors import UserError
from rethink_fast.files import user_path, write_json
from rethink_fast.models import MODELS
from rethink_fast.train.throughput import matrix_rate, training_flops

from .engine import CORRUPTIONS, SHORT_PAIRS, Engine, make_setup, overhead, spread
from .reference_loop import (
    BATCH,
    ReferenceLoop,
    best_workers,
    endless,
    open_cifar10,
    random_labels,
    rate,
    training_images,
)

PAIRS = 9
TRIAL = 0.05  # of --seconds, for each number of workers


def compare(engine: Engine, model: ModelName, seconds: float) -> dict[str, Any]:
    """Reference, engine and matrix product interleaved."""
    setup, device = engine.setup, engine.setup.device
    images = training_images(setup.dataset)
    labels = random_labels(len(images))
    trial = best_workers(model, images, labels, seconds=seconds * TRIAL, device=device)
    workers = next(iter(trial))
    steps = endless(ReferenceLoop(model, images, labels, workers=workers, device=device))
    next(steps)  # as the engine's short first slice
    step_flops, step_images = training_flops(setup)
    flops, dtype = step_flops / step_images, setup.train.preprocessing.dtype
    theirs, ours, matrix = [], [], []
    for _ in range(PAIRS):
        theirs.append(rate(steps, seconds / (2 * PAIRS), device))
        ours.append(engine.slice(seconds / (2 * PAIRS)))
        matrix.append(matrix_rate(device, dtype))
    steps.close()
    return {
        "images": len(images),
        "precision": setup.run.train.precision,
        "batch_size": setup.run.train.batch_size,
        "compiled": setup.step.compiled,
        "workers": workers,
        "workers_tried": trial,
        "reference": spread(theirs),
        "engine": spread(ours),
        "ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        "flops_per_image": flops,
        "matrix_flops": spread(matrix),
        "matrix_share": spread([a * flops / b for a, b in zip(ours, matrix, strict=True)]),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The tables, for people."""

    def add(table: Table, name: str, values: dict[str, float], form: str) -> None:
        cells = (format(value, form) for value in values.values())
        table.add_row(name, *cells)

    speed, title = found["speed"], f"{found['model']}, {found['speed']['images']:,} images, {PAIRS} rounds"
    table = Table("", "median", "least", "greatest", title=title)
    add(table, f"reference loop, {speed['workers']} workers, images/s", speed["reference"], ",.0f")
    way = "compiled" if speed["compiled"] else "eager"
    add(table, f"engine, {speed['precision']}, {way}, images/s", speed["engine"], ",.0f")
    add(table, "engine over reference", speed["ratio"], ".2f")
    add(table, "engine, share of the matrix rate", speed["matrix_share"], ".1%")
    console.print(table)
    title = f"what the data path takes of a step, {SHORT_PAIRS} rounds"
    table = Table("corruption", "median", "least", "greatest", "of the fastest", title=title)
    for name, values in found["data_path"].items():
        add(table, name, values, ".1%")
    console.print(table)
    tried = ", ".join(f"{n} gave {rate:,.0f}" for n, rate in speed["workers_tried"].items())
    console.print(
        f"on {found['device']}, batches of {speed['batch_size']}; workers of the reference: {tried} images/s; "
        f"{speed['flops_per_image'] / 1e6:.2f} MFLOP an image, "
        f"matrix product {speed['matrix_flops']['median'] / 1e9:,.0f} GFLOP/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10, in any form that rethink-fast reads")
    parser.add_argument("--model", default="mlp_1x512", choices=list(MODELS))
    parser.add_argument("--precision", default="fp32", choices=get_args(PrecisionName), help="of the engine")
    parser.add_argument("--batch-size", type=int, default=BATCH, help="of the engine")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of the two, interleaved; as long again for the rest"
    )
    parser.add_argument("--json", type=user_path, help="write everything measured to this file")
    arguments = parser.parse_args()
    device = choose_device("auto")
    dataset = open_cifar10(arguments.data, device)
    found: dict[str, Any] = {"model": arguments.model, "device": str(device), "data_source": dataset.data_source}
    how = Train(precision=arguments.precision, batch_size=arguments.batch_size)
    engine = Engine(make_setup(dataset, arguments.model, "random", device, how))
    found["speed"] = compare(engine, arguments.model, arguments.seconds)
    each = arguments.seconds / len(CORRUPTIONS)
    found["data_path"] = {name: overhead(engine, arguments.model, name, each) for name in CORRUPTIONS}
    found["environment"] = environment()
    show(found, Console(highlight=False))
    if arguments.json is not None:
        write_json(arguments.json, found)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench_engine: {error}")
