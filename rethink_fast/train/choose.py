"""Whether torch.compile makes the step: on a GPU always, on a CPU where a measurement says that it wins."""

from __future__ import annotations

import statistics
import time

from torch import nn

from ..config import settled
from .setup import Choice, Setup
from .step import synchronize

SAMPLES = 5
ENOUGH_SECONDS = 1.0

COMPILE_SECONDS = 10.0
COMPILE_SECONDS_A_LAYER = 0.6
BEST_GAIN = 0.4
"""What compiling costs at least, and how much of a step it saves at most: by these a run too short is told from one
that is worth the trial. Measured on 2 cores of an AMD EPYC with torch 2.13."""


def step_seconds(setup: Setup) -> float:
    """Median seconds of a training step on one batch, which leaves no trace; those of rank 0 on every rank."""
    step, loader = setup.step, setup.train
    batch = loader.example(loader.sizes(loader.batch_size)[0])
    state = step.state()
    seconds: list[float] = []
    step.train(loader, batch)
    synchronize(setup.device)
    end = time.perf_counter() + ENOUGH_SECONDS

    def enough() -> bool:
        return len(seconds) >= SAMPLES or (len(seconds) >= 2 and time.perf_counter() >= end)

    while not setup.ranks.from_first(enough):
        start = time.perf_counter()
        step.train(loader, batch)
        synchronize(setup.device)
        seconds.append(time.perf_counter() - start)
    step.load_state(state)
    return setup.ranks.from_first(lambda: statistics.median(seconds))


def warm_up(setup: Setup) -> float:
    """Compile and capture for every batch size to come, leaving network and random state untouched. Returns seconds."""
    step = setup.step
    if not step.compiled and setup.device.type == "cpu":
        return 0.0
    start, state = time.perf_counter(), step.state()
    for size in sorted(set(setup.train.sizes(setup.train.batch_size))):
        step.train(setup.train, setup.train.example(size))
    for loader in (setup.train, setup.test):
        if loader is not None:
            for size in sorted(set(loader.evaluation_sizes())):
                step.score(loader, loader.example(size))
    step.load_state(state)
    synchronize(setup.device)
    return time.perf_counter() - start


def choose(setup: Setup) -> tuple[Choice, float]:
    """Decide, and leave the step ready. Returns the choice, and the seconds that compiling took.

    With --compile on or off there is nothing to decide, nor for a step that an earlier seed decided about.
    """
    step, wanted = setup.step, setup.run.train.compile
    if setup.earlier_choice is not None:
        return setup.earlier_choice, warm_up(setup)
    if wanted != "auto" or setup.device.type == "cuda":
        step.compiled = wanted != "off"
        return Choice(step.compiled, f"--compile {wanted}" if wanted != "auto" else "on a GPU"), warm_up(setup)
    step.compiled = False
    eager = step_seconds(setup)
    length = eager * len(setup.train) * settled(setup.run.train.epochs)
    layers = sum(1 for module in setup.model.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    cost = COMPILE_SECONDS + COMPILE_SECONDS_A_LAYER * layers
    if length * BEST_GAIN < cost:
        why = f"compiling takes {cost:.0f} s or more, which a run of at most {length:.0f} s does not win back"
        return Choice(False, why, eager), 0.0
    step.compiled = True
    seconds = warm_up(setup)
    compiled = step_seconds(setup)
    step.compiled = compiled < eager
    why = f"a step takes {1e3 * compiled:.2f} ms compiled and {1e3 * eager:.2f} ms eager"
    return Choice(step.compiled, why, eager, compiled), seconds
