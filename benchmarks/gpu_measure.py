"""How `make gpu-check` runs and times on the device. Every timing is of a CUDA graph, with the L2 cache flushed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rethink_fast.train.gpu_monitor import ClockSampler

from .gpu_cases import REFERENCES, Case, arguments, difference, operator, smaller
from .gpu_report import Row, Sample, kept, quantiles, timed_row

FLUSH_BYTES = 512 * 2**20  # ten times the largest L2
WARM_UPS, SAMPLES = 5, 30


def captured(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The call in a CUDA graph, warmed up on a side stream first, and the buffer that a replay writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph, out


def samples(call: Callable[[], Tensor]) -> list[Sample]:
    """Of one call on the device, with nothing of its data in the L2 cache, each with the clocks it was taken at."""
    graph, _ = captured(call)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    found = []
    with ClockSampler(torch.device("cuda", torch.cuda.current_device())) as clocks:
        for i in range(WARM_UPS + SAMPLES):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.fill_(i)  # long enough for the host to queue the three below
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            found.append(Sample(start.elapsed_time(stop) * 1e3, *clocks.now()))
    return found[WARM_UPS:]


def microseconds(call: Callable[[], Tensor]) -> tuple[float, float, float]:
    """Median, p20 and p80 of the samples that were not throttled."""
    return quantiles([sample.microseconds for sample in kept(samples(call))])


def copy_bandwidth() -> float:
    """GB/s of a device-to-device copy of 1 GiB, read plus written."""
    source = torch.zeros(2**30, dtype=torch.uint8, device="cuda")
    to = torch.empty_like(source)
    return 2 * 2**30 / microseconds(lambda: to.copy_(source))[0] / 1e3


def compiled(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The op under torch.compile, in one graph; what was compiled before is dropped.

    torch counts the shapes of a function, and gives up at the 9th.
    """
    torch._dynamo.reset()
    return torch.compile(lambda *arguments: op(*arguments), fullgraph=True, dynamic=False)


def wrong_values(case: Case, *, compile: bool = True) -> dict[str, str]:
    """What differs from the reference on the CPU, by the way the op ran: eager, compiled, in a CUDA graph."""
    case = smaller(case)
    op = operator(case)
    assert op is not None
    expected = REFERENCES[case.op](*arguments(case, "cpu"))
    given = arguments(case, "cuda")
    found = {"eager": difference(case, op(*given).cpu(), expected)}
    if compile and case.op != "moved_pixels":  # a part of prepare: it has no fake, so nothing compiles it
        found["compiled"] = difference(case, compiled(op)(*given).cpu(), expected)
    graph, out = captured(lambda: op(*given))
    out.fill_(0)
    graph.replay()
    found["graph"] = difference(case, out.cpu(), expected)
    return {way: what for way, what in found.items() if what}


def measure(case: Case) -> Row:
    """Check what is timed, then time if it was right."""
    op = operator(case)
    if op is None:
        return Row(case.name, case.bytes, case.target, {"build": "this build has no such op"})
    wrong = wrong_values(case, compile=False)
    if wrong:
        return Row(case.name, case.bytes, case.target, wrong)
    given = arguments(case, "cuda")
    return timed_row(case.name, case.bytes, case.target, samples(lambda: op(*given)))
