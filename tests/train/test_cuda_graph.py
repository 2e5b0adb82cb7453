"""The captured step of a GPU, by the doubles of fake_cuda.py: the eager step's numbers, in all that a run does."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rethink_fast.bench.console import loss_of
from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.data import DataOptions, Dataset, InMemoryImages, load_dataset
from rethink_fast.defaults import resolve
from rethink_fast.errors import Interrupted
from rethink_fast.stages import profiling
from rethink_fast.train.checkpoint import Checkpoints
from rethink_fast.train.compile import steps_per_graph, warm_up
from rethink_fast.train.cuda_graph import CudaGraphCall
from rethink_fast.train.loop import StepProgress, fit
from rethink_fast.train.profile import Profile
from rethink_fast.train.setup import RunContext, build_run
from rethink_fast.train.state import TrainState
from rethink_fast.train.step import LEAD
from rethink_fast.train.throughput import model_rate
from tests.train import fake_cuda


@pytest.fixture(params=[1, 3], ids=["one step a graph", "3 steps a graph"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moved]:
    """The doubles, with so many steps in a graph, or as many as an epoch has full batches."""
    monkeypatch.setattr("rethink_fast.train.compile.steps_per_graph", lambda _, batches: min(request.param, batches))
    yield from fake_cuda.doubles(monkeypatch)


CPU = torch.device("cpu")
DATA = load_dataset("cifar10", DataOptions("synthetic", max_samples=70, workers=1))
Moved = Callable[[RunContext], RunContext]


class Quiet:
    """A listener that keeps the ticks."""

    def __init__(self) -> None:
        self.ticks: list[StepProgress] = []
        self.saved = 0

    def on_ready(self, outcome: TrainState) -> None: ...

    def on_progress(self, tick: StepProgress) -> None:
        self.ticks.append(tick)

    def on_epoch(self, row: Any, outcome: TrainState) -> None: ...

    def save(self, outcome: TrainState) -> None:
        self.saved += 1


class TwoHeads(nn.Module):
    """Auxiliary logits in training, batch norm, and dropout."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28 * 3, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.head, self.aux = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10)), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def made(
    *,
    seed: int = 0,
    model: str = "mlp_1x512",
    dropout: float = 0.0,
    like: RunContext | None = None,
    data: Dataset = DATA,
    **train: Any,
) -> RunContext:
    train = {"batch_size": 32, "epochs": 3, "compile": "off", "lr": 0.02} | train
    run = Run("cifar10", Data(max_samples=70), Corruption("random", seed=seed), Model(model, dropout), Train(**train))  # type: ignore[arg-type]
    return build_run(resolve(run, on_gpu=False, cores=1), data, CPU, like=like)


def rates_as_tensors(setup: RunContext) -> RunContext:
    """The eager run rounds its learning rates as the captured one does."""
    for group in setup.step.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
    return setup


def trained(
    setup: RunContext, *, check: Callable[[], None] = lambda: None, outcome: TrainState | None = None
) -> TrainState:
    return fit(setup, Quiet(), check, outcome=outcome)


def numbers(outcome: TrainState) -> list[dict[str, Any]]:
    timed = ("train_seconds", "images_per_second")
    return [{k: v for k, v in vars(row).items() if k not in timed} for row in outcome.rows]


def same(one: RunContext, other: RunContext) -> None:
    ours, theirs = one.step.state(), other.step.state()
    ours.pop("generator.cuda", None), theirs.pop("generator.cuda", None)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.3},
    "adam": {"optimizer": "adam", "lr": 1e-3},
    "rmsprop": {"optimizer": "rmsprop", "weight_decay": 1e-3, "schedule": "linear"},
    "augmented": {"augment": ("flip", "rotation")},
    "linear": {"schedule": "linear"},
    "eval every 2": {"eval_interval": 2},
    "one batch": {"batch_size": 70},
    "seven batches": {"batch_size": 10, "optimizer": "preconditioned-adam", "lr": 1e-3},
    "a short last batch": {"batch_size": 11, "schedule": "linear"},
    "a long last batch": {"batch_size": 23},
    "convolutions": {"model": "alexnet_small", "epochs": 2},
    "batch norm": {"model": "inception_small", "epochs": 1},
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow if way == "batch norm" else ()) for way in WAYS]
)
@pytest.mark.parametrize("top5", [False, True])
def test_a_captured_run_is_the_eager_one(way: str, top5: bool, cuda: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    if top5 and way not in ("plain", "dropout"):
        pytest.skip("the two do not depend on each other")
    monkeypatch.setattr("rethink_fast.train.setup.TOP_5_ABOVE", 5 if top5 else 10)
    plain = rates_as_tensors(made(**WAYS[way]))
    expected = trained(plain)
    graphed = cuda(made(**WAYS[way]))  # seeds the generator again
    found = trained(graphed)
    assert sum(graph.replays for graph in fake_cuda.Graph.made) > 0
    assert numbers(found) == numbers(expected)
    assert found.steps == expected.steps > 0
    same(graphed, plain)


def test_a_network_with_an_auxiliary_head(cuda: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rethink_fast.train.setup.build_model", TwoHeads)
    plain = rates_as_tensors(made())
    expected = numbers(trained(plain))
    graphed = cuda(made())
    assert numbers(trained(graphed)) == expected
    same(graphed, plain)


@pytest.mark.parametrize("stop", [1, 2])
def test_stopped_in_an_epoch_and_resumed(stop: int, cuda: Moved, tmp_path: Any) -> None:
    expected = trained(rates_as_tensors(made(batch_size=10, dropout=0.3)))
    calls = itertools.count()

    def check() -> None:
        if next(calls) == stop:
            raise Interrupted

    first = cuda(made(batch_size=10, dropout=0.3))
    outcome = trained(first, check=check)
    assert (outcome.stop_reason, outcome.batch) == (
        "interrupted",
        stop if first.step.steps_per_graph == 1 else 3 * stop,
    )
    Checkpoints(tmp_path).save(first, outcome)
    second = cuda(made(batch_size=10, dropout=0.3))
    outcome, note = Checkpoints(tmp_path).load(second)
    assert note is None
    found = trained(second, outcome=outcome)
    assert numbers(found) == numbers(expected)


def test_seeds_in_a_row(cuda: Moved) -> None:
    """One step for all of them: neither counters, graphs nor what was polled stay from the one before."""
    expected = [numbers(trained(rates_as_tensors(made(seed=seed)))) for seed in (0, 1)]
    first = cuda(made(seed=0))
    rows = [numbers(trained(first))]
    first.step._loss_poll.polled = math.inf, True
    second = replace(made(seed=1, like=first), device=first.device)
    assert not second.step.poll_loss()[1]
    rows.append(numbers(trained(second)))
    assert rows == expected


@pytest.mark.parametrize("lag", [0, 2])
def test_a_first_epoch_longer_than_a_tick_is_trained_to_its_end(
    lag: int,
    cuda: Moved,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new event has passed before it is recorded: nothing may be read by it."""
    monkeypatch.setattr("rethink_fast.train.clocks.TICK_SECONDS", 0.0)
    monkeypatch.setattr(fake_cuda.Event, "lag", lag)
    setup, listener = cuda(made(batch_size=10, epochs=2)), Quiet()
    outcome = fit(setup, listener, lambda: None)
    assert [row.step for row in outcome.rows] == [7, 14]
    several, rest = divmod(7, setup.step.steps_per_graph)
    assert len(listener.ticks) == 2 * (several + rest)
    losses = [tick.loss for tick in listener.ticks]
    assert losses[0] is None
    assert [loss_of(tick)[:5] for tick in listener.ticks[: 2 + lag]] == [""] * (1 + lag) + ["loss "]
    assert all(loss is not None and 0.1 < loss < 20 for loss in losses[1 + lag :])
    assert setup.step.poll_loss()[1] is False


def test_a_loss_that_is_not_finite_is_seen_at_the_next_look(cuda: Moved) -> None:
    setup = cuda(made())
    step = setup.step
    step.begin_epoch(0)
    assert step.poll_loss()[0] is None
    step.first_non_finite_step.fill_(3)
    assert [step.poll_loss()[1] for _ in range(2)] == [False, True]
    step.load_state(step.state())
    assert step.poll_loss()[1] is False, "what was seen before belongs to another state"


@pytest.mark.parametrize(("lr", "step"), [(1e3, 7), (1e4, 6), (1e5, 5), (1e6, 4)])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(lr: float, step: int, cuda: Moved) -> None:
    expected = trained(rates_as_tensors(made(batch_size=10, lr=lr)))
    found = trained(cuda(made(batch_size=10, lr=lr)))
    assert expected.first_non_finite_step == step
    assert found.stop_reason == expected.stop_reason == "non_finite_loss"
    assert (found.first_non_finite_step, found.steps) == (expected.first_non_finite_step, expected.steps)


def test_the_first_evaluation_counts_each_sample_once(cuda: Moved) -> None:
    """Its graph is made inside the evaluation, after the scores began."""
    setup = cuda(made())
    setup.step.begin_scores()
    for _ in range(2):
        for batch in setup.train.eval_batches():
            setup.step.score(setup.train, batch)
    assert setup.step.score_counts[3].item() == 2 * 70


def test_the_host_is_a_few_steps_ahead_at_most(cuda: Moved) -> None:
    setup = cuda(made(batch_size=7))
    setup.step.begin_epoch(0)
    for done, batch in enumerate(setup.train.epoch(0), 1):
        setup.step.train(setup.train, batch)
        events = fake_cuda.Event.made
        assert sum(event.recorded for event in events) == done
        assert sum(event.waits for event in events) == max(0, done - LEAD)
        assert len(events) == min(done, LEAD)


class Launches(TorchDispatchMode):
    """Counts what the host launches between replays of graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view:
            self.names[function._schema.name.removeprefix("aten::")] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("steps", "copies"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_the_host_launches_a_copy_and_a_graph_for_several_steps(
    steps: int, copies: int, cuda: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is copied once an epoch, rows and samples are one tensor, and the learning rate stays where it is."""
    monkeypatch.setattr("rethink_fast.train.compile.steps_per_graph", lambda *_: steps)
    monkeypatch.setattr(fake_cuda.Graph, "replay", lambda graph: setattr(graph, "replays", graph.replays + 1))
    held = DATA.train
    assert isinstance(held.images, InMemoryImages)
    images, index = InMemoryImages(held.images.images, CPU), torch.arange(len(held.images.images))
    whole = replace(DATA, train=replace(held, images=images, labels=held.labels[held.index], index=index))
    setup = cuda(made(batch_size=10, data=whole))
    warm_up(setup)
    assert setup.step.steps_per_graph == steps
    for graph in fake_cuda.Graph.made:
        graph.replays = 0
    batches = setup.train.epoch(0, 1, steps)
    first = next(batches)
    with Launches() as launches:
        for batch in itertools.chain([first], batches):
            setup.step.train(setup.train, batch)
    assert sum(graph.replays for graph in fake_cuda.Graph.made) == copies
    assert launches.names == {"copy_": copies}


def test_several_steps_where_the_host_cannot_keep_ahead() -> None:
    assert [steps_per_graph(seconds, 1000) for seconds in (1e-3, 100e-6, 99e-6, 50e-6, 1e-6)] == [1, 1, 11, 20, 32]
    assert [steps_per_graph(10e-6, batches) for batches in (0, 1, 2, 50)] == [1, 1, 2, 32]


def test_images_that_are_read_batch_by_batch_have_a_graph_for_each_step(
    cuda: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = cuda(made())
    monkeypatch.setattr(type(setup.train.split.images), "resident", False)
    warm_up(setup)
    assert setup.step.steps_per_graph == 1


def test_one_tensor_given_twice_is_copied_once(cuda: Moved) -> None:
    total = torch.zeros(2)
    one, other = torch.ones(2), torch.ones(2)

    def add(a: Tensor, b: Tensor) -> None:
        total.add_(a).add_(b)

    def restore() -> None:
        total.zero_()

    call = CudaGraphCall(add, (one, one), fixed=(False, False), restore=restore)
    with Launches() as launches:
        call(other, other)
    assert launches.names["copy_"] == 1
    assert total.tolist() == [2, 2]
    with pytest.raises(ValueError, match="two tensors are given where one was captured"):
        call(one, other)


class Stages:
    """A watch that keeps the stages, each with the replays of graphs in it and without those of stages inside."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        before = sum(graph.replays for graph in fake_cuda.Graph.made)
        yield
        self.seen.append((name, sum(graph.replays for graph in fake_cuda.Graph.made) - before))


@pytest.mark.parametrize("way", ["plain", "dropout", "augmented", pytest.param("batch norm", marks=pytest.mark.slow)])
def test_a_profile_times_graphs_one_for_each_stage(way: str, cuda: Moved) -> None:
    """What is profiled is what runs: the stages are replayed, and their numbers are the eager ones."""
    plain = rates_as_tensors(made(**WAYS[way]))
    expected, stages = numbers(trained(plain)), Stages()
    graphed = cuda(made(**WAYS[way]))
    with profiling(stages):
        found = trained(graphed)
    assert numbers(found) == expected
    same(graphed, plain)
    names = ["corruption and augmentation", "forward", "backward", "update"]
    steps = [seen for seen in stages.seen if seen[0] in names]
    one = [(name, 1) for name in names]
    assert steps[-4 * found.steps :] == one * found.steps
    assert all(replays <= 1 for name, replays in stages.seen if name == "copy")


def test_a_profile_of_a_captured_run(cuda: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real profile with the doubles of events: every stage of the device has an event pair for each step."""
    setup = cuda(made())
    profile = Profile(setup)
    monkeypatch.setattr("rethink_fast.train.profile.measure_limits", lambda _: None)
    monkeypatch.setattr(profile, "_meter", None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: None)
    profile.ready(TrainState())
    with profiling(profile):
        outcome = trained(setup)
    profile.finish(outcome)
    seconds = {name: sum(row["seconds"][name] for row in profile._rows) for name in profile._rows[0]["seconds"]}
    # an event pair of the double is a second apart; fitting the optimizer is an update too
    assert [seconds[name] for name in ("corruption and augmentation", "forward", "backward")] == [outcome.steps] * 3
    assert seconds["update"] == outcome.steps + 1


def test_the_rate_of_the_model_is_that_of_its_graph(cuda: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rethink_fast.train.throughput.RATE_SECONDS", 0.05)
    setup = cuda(made())
    before = setup.step.state()
    assert model_rate(setup) > 0
    assert [graph.replays > 1 for graph in fake_cuda.Graph.made] == [True]
    for name, value in setup.step.state().items():
        assert torch.equal(value, before[name]), name


def test_a_capture_may_not_wait_for_the_device(cuda: Moved) -> None:
    """The double refuses what CUDA refuses."""
    setup = cuda(made())

    def waits(inputs: Tensor, labels: Tensor, total: int | None = None) -> None:
        setup.step.first_non_finite_step.item()

    setup.step.update = waits  # type: ignore[method-assign]
    batch = setup.train.warmup_batch(10)
    with pytest.raises(RuntimeError, match="not permitted while a graph is captured"):
        setup.step.train(setup.train, batch)
