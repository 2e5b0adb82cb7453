"""What CUDA's graphs and events do to state, on CPU tensors: for tests of the captured step without a GPU.

A capture records the operators below autograd and leaves no trace: what they wrote and drew is put back. A replay runs
them again on the same tensors, and no Python. An event that was never recorded has passed; a recorded one passes after
`Event.lag` queries. What waits for the device fails in a capture, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rethink_fast import rng
from rethink_fast.data import preprocess
from rethink_fast.train.optim import set_learning_rate
from rethink_fast.train.setup import RunContext

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")


class Graph:
    """In place of torch.cuda.CUDAGraph."""

    made: ClassVar[list[Graph]] = []

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []
        self.replays = 0
        Graph.made.append(self)

    def pool(self) -> tuple[int, int]:
        return 0, 1

    def replay(self) -> None:
        self.replays += 1
        with torch._C._AutoDispatchBelowADInplaceOrView():  # a graph knows nothing of autograd
            for function, arguments, words, out in self.calls:
                again = function(*arguments, **words)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, function: Any, kinds: Any, arguments: Any = (), words: Any = None) -> Any:
        words = words or {}
        if function._schema.name.removeprefix("aten::") in WAITING:
            raise RuntimeError(f"{function} waits for the device: not permitted while a graph is captured")
        for value in tree_leaves((arguments, words)):
            if isinstance(value, Tensor) and function._schema.is_mutable:
                self._before.setdefault(id(value), (value, value.detach().clone()))
        out = function(*arguments, **words)
        self._graph.calls.append((function, arguments, words, out))
        return out

    def undo(self) -> None:
        with torch.no_grad():
            for value, before in self._before.values():
                with _unsafe_preserve_version_counter(value):  # a later capture may have saved it
                    value.copy_(before)


@contextmanager
def capture(graph: Graph, **_: Any) -> Iterator[None]:
    """In place of torch.cuda.graph."""
    drawn, recorder = torch.get_rng_state(), _Recorder(graph)
    with recorder:
        yield
    recorder.undo()
    torch.set_rng_state(drawn)


class Event:
    """In place of torch.cuda.Event."""

    lag = 0
    made: ClassVar[list[Event]] = []

    def __init__(self, **_: Any) -> None:
        self.recorded = self.waits = self.queries = 0
        Event.made.append(self)

    def record(self, *_: Any) -> None:
        self.recorded += 1
        self.queries = 0

    def query(self) -> bool:
        self.queries += 1
        return not self.recorded or self.queries > self.lag

    def synchronize(self) -> None:
        self.waits += 1

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds: any two events are a second apart."""
        return 1000.0


class Generator(torch.Generator):
    """One of the CPU, for any device."""

    def __new__(cls, *_: Any) -> Generator:
        return super().__new__(cls)


class Stream:
    """In place of torch.cuda.Stream: everything is done at once."""

    def __init__(self, *_: Any) -> None:
        pass

    def wait_stream(self, *_: Any) -> None:
        pass


@contextmanager
def stream(_: Stream) -> Iterator[None]:
    yield


def doubles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[RunContext], RunContext]]:
    """A fixture: a function that lets a setup on the CPU take the way of a GPU, eagerly, with the doubles above."""
    for name, double in (
        ("CUDAGraph", Graph),
        ("graph", capture),
        ("Event", Event),
        ("Stream", Stream),
        ("stream", stream),
        ("current_stream", Stream),
        ("synchronize", lambda *_: None),
        ("get_rng_state", lambda *_: torch.get_rng_state()),
        ("set_rng_state", lambda *_: None),
    ):
        monkeypatch.setattr(torch.cuda, name, double)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, *_: self.clone())
    # The checks that look at values do so on a CPU only.
    for name in ("check_rows", "check_index"):
        monkeypatch.setattr(preprocess, name, lambda value, *_: value)
    monkeypatch.setattr(rng, "check_index", lambda value: value)
    monkeypatch.setattr(Event, "lag", 0)
    Graph.made.clear()
    Event.made.clear()

    def moved(setup: RunContext) -> RunContext:
        device = torch.device("cuda")
        setup.step.device = device
        for group in setup.step.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]))  # a captured step follows its schedule by a tensor
        set_learning_rate(setup.step.optimizer, setup.learning_rate(0))
        return replace(setup, device=device)

    yield moved
    Graph.made.clear()
    Event.made.clear()
