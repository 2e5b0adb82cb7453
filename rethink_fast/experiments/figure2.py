"""Figure 2: implicit regularisers: early stopping, and batch norm on CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..config import ModelName, Run
from . import measures, paper_values
from .curves import available, over_epochs
from .declare import Check, Experiment, Finding, Found, Plot, Row, Series, Table, Value
from .scale import Scale, training
from .table1 import TOLERANCE

NETWORKS: dict[str, ModelName] = {"Inception": "inception_small", "Inception w/o BN": "inception_small_no_bn"}
EARLY_STOPPING = 3.0
"""Points that the best epoch may lie above the last one on CIFAR-10: the paper sees "no potential benefit"; its own
curves have 0.2 and 0.4. The most of some twenty noisy epochs lies about two standard errors above their mean."""


def _test_curve(found: Found, run: Run, label: str) -> Series:
    """Test accuracy over the epochs, with a mark at the best one."""
    series = over_epochs(found, run, label, "test_accuracy")
    top = max(range(len(series.y)), key=lambda place: series.y[place])
    return Series(series.label, series.x, series.y, series.spread, (series.x[top], series.y[top], "best"))


def _ours(scale: Scale, found: Found) -> list[Series]:
    makers: list[Callable[[], Series]] = []
    for label, model in NETWORKS.items():
        run = training(scale, model)
        makers.append(partial(over_epochs, found, run, f"train({label})", "train_accuracy"))
        makers.append(partial(_test_curve, found, run, f"test({label})"))
    return available(makers)


def _plot(scale: Scale) -> Plot:
    paper = []
    for label in NETWORKS:
        for which in ("train", "test"):
            x, y = paper_values.curve("fig2b", f"{which}({label})")
            epochs = tuple(1000 * at / paper_values.STEPS_PER_EPOCH for at in x)
            paper.append(Series(f"{which}({label})", epochs, y))
    return Plot(
        "figure2b",
        "Figure 2b: with and without batch norm, no explicit regulariser",
        "epochs",
        "accuracy",
        tuple(paper),
        partial(_ours, scale),
        y_limits=(0.0, 1.02),
        note="the mark is the best test accuracy of a run: what early stopping could give at most",
    )


def _imagenet() -> Plot:
    names = paper_values.series("fig2a")
    curves = {name: paper_values.curve("fig2a", name) for name in names}
    paper = [Series(name, x, y) for name, (x, y) in curves.items()]
    return Plot(
        "figure2a",
        "Figure 2a: ImageNet, Inception V3",
        "thousand training steps (of 50 asynchronous workers)",
        "accuracy",
        tuple(paper),
        lambda found: [],
        note="the paper's curves alone: its asynchronous steps have no counterpart in epochs, and ours are not run",
    )


def _table(scale: Scale) -> Table:
    rows = []
    for label, model in NETWORKS.items():
        y = paper_values.curve("fig2b", f"test({label})")[1]
        reason = "how far the paper's own runs of one configuration lie apart"
        values = (
            Value("final test", measures.test_accuracy, round(100 * y[-1], 2), TOLERANCE[model], reason),
            Value("best test", measures.best_test_accuracy, round(100 * max(y), 2), TOLERANCE[model], reason),
        )
        rows.append(Row((label,), training(scale, model), values))
    return Table("Figure 2b: test accuracy at the last epoch, and at the best", ("network",), tuple(rows))


def _stopping(scale: Scale) -> Finding:
    def check(found: Found) -> Check:
        gains = {}
        for label, model in NETWORKS.items():
            run = training(scale, model)
            results = found.all(run)
            error = 100 * (0.25 / (results[0].record["n_test"] * len(results))) ** 0.5
            gain = found.mean(run, measures.best_test_accuracy) - found.mean(run, measures.test_accuracy)
            gains[label] = (gain, max(EARLY_STOPPING, 2 * error))
        worst = max(gains, key=lambda label: gains[label][0] - gains[label][1])
        gain, margin = gains[worst]
        return Check(gain <= margin, f"most {gain:.2f} points, by {worst}, where {margin:.2f} are allowed")

    return Finding(
        "on CIFAR-10 early stopping gains little",
        f"the best epoch lies at most {EARLY_STOPPING:g} points, or two standard errors, above the last",
        check,
    )


def _batch_norm(scale: Scale) -> Finding:
    def check(found: Found) -> Check:
        runs = [training(scale, model) for model in NETWORKS.values()]
        results = found.all(runs[0])
        error = 100 * (0.5 / (results[0].record["n_test"] * len(results))) ** 0.5
        gap = found.mean(runs[0], measures.test_accuracy) - found.mean(runs[1], measures.test_accuracy)
        return Check(abs(gap) <= 10 + 2 * error, f"{gap:+.2f} points, two standard errors are {2 * error:.2f}")

    return Finding(
        "batch norm changes the test accuracy by a few points alone: both networks generalise",
        "at most 10 points and two standard errors between them; the paper has 1.6 to 3.8",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """Both panels at a scale."""
    return Experiment(
        name="figure2",
        title="Figure 2: implicit regularisers",
        tasks=tuple(training(scale, model) for model in NETWORKS.values()),
        tables=(_table(scale),),
        plots=(_imagenet(), _plot(scale)),
        findings=(_stopping(scale), _batch_norm(scale)),
        departures=(
            "Figure 2a is ImageNet with 50 asynchronous workers, whose effective batch is unknown: it is not run, and "
            "the paper's curves are shown alone.",
        ),
    )
