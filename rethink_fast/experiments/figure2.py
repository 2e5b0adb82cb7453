"""Figure 2: implicit regularisers: early stopping, on ImageNet and CIFAR-10, and batch norm on CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..config import ModelName, Run
from ..defaults import DEFAULTS
from . import measures, paper_values, table2
from .curves import available, over_epochs
from .scales import Scale, training
from .spec import Check, Experiment, Finding, Plot, Results, Row, Series, Table, Value
from .table1 import TOLERANCE

NETWORKS: dict[str, ModelName] = {"Inception": "inception_small", "Inception w/o BN": "inception_small_no_bn"}
MARK = "the best test accuracy of a run: what early stopping could give at most"
EARLY_STOPPING = 3.0
"""Points that the best epoch may lie above the last one on CIFAR-10: the paper sees "no potential benefit"; its own
curves have 0.2 and 0.4. The most of some twenty noisy epochs lies about two standard errors above their mean."""
IMAGENET_GAIN = 1.0
"""Points that the best epoch at least lies above the last one on ImageNet, without augmentation: the paper's Table 2
has 5.4 and 3.4, and the noise of an accuracy on 50,000 images is 0.2."""
IMAGENET = {
    "w/ aug, wd, dropout": ("true", 1, 1, 1),
    "w/o aug, dropout": ("true", 0, 0, 1),
    "w/o aug, wd, dropout": ("true", 0, 0, 0),
}
"""The curves of Figure 2a, and their rows of Table 2: labels, augmentation, dropout, weight decay."""
PAPER_STEPS = 10_000
"""Length of its axis, in thousands."""


def _test_curve(results: Results, run: Run, label: str, unit: float) -> Series:
    """Test accuracy over the epochs, with a mark at the best one."""
    series = over_epochs(results, run, label, "test_accuracy", unit)
    top = max(range(len(series.y)), key=lambda place: series.y[place])
    return replace(series, mark=(series.x[top], series.y[top], "best"))


def _ours(runs: dict[str, Run], results: Results, unit: float = 1.0) -> list[Series]:
    makers: list[Callable[[], Series]] = []
    for label, run in runs.items():
        makers.append(partial(over_epochs, results, run, f"train({label})", "train_accuracy", unit))
        makers.append(partial(_test_curve, results, run, f"test({label})", unit))
    return available(makers)


def _imagenet_runs() -> dict[str, Run]:
    runs = table2.runs()
    return {label: runs[row] for label, row in IMAGENET.items()}


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
        partial(_ours, {label: training(scale, model) for label, model in NETWORKS.items()}),
        y_limits=(0.0, 1.02),
        note="with and without batch norm the training set is fitted and the test accuracy is far above chance; the "
        f"mark is {MARK}",
    )


def _imagenet() -> Plot:
    paper = []
    for name in paper_values.series("fig2a"):
        x, y = paper_values.curve("fig2a", name)
        paper.append(Series(name, tuple(100 * at / PAPER_STEPS for at in x), y))
    default = DEFAULTS["imagenet"]
    steps = table2.EPOCHS * -(-default.full_size // default.batch_size) / 1e6
    return Plot(
        "figure2a",
        "Figure 2a: ImageNet, Inception V3",
        f"percent of {PAPER_STEPS // 1000} million steps (the paper) and of {steps:.1f} million (ours)",
        "top-1 accuracy",
        tuple(paper),
        partial(_ours, _imagenet_runs(), unit=table2.EPOCHS / 100),
        y_limits=(0.0, 1.02),
        note="weight decay and augmentation raise the test accuracy, and without them it is still far above chance; "
        f"ours are the runs of Table 2; the mark is {MARK}",
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
    def check(results: Results) -> Check:
        gains = {}
        for label, model in NETWORKS.items():
            run = training(scale, model)
            seeds = results.all(run)
            error = 100 * (0.25 / (seeds[0].record["n_test"] * len(seeds))) ** 0.5
            gain = results.mean(run, measures.best_test_accuracy) - results.mean(run, measures.test_accuracy)
            gains[label] = (gain, max(EARLY_STOPPING, 2 * error))
        worst = max(gains, key=lambda label: gains[label][0] - gains[label][1])
        gain, margin = gains[worst]
        return Check(gain <= margin, f"most {gain:.2f} points, by {worst}, where {margin:.2f} are allowed")

    return Finding(
        "on CIFAR-10 early stopping gains little",
        f"the best epoch lies at most {EARLY_STOPPING:g} points, or two standard errors, above the last",
        check,
    )


def _stopping_on_imagenet() -> Finding:
    plain = {label: run for label, run in _imagenet_runs().items() if not run.train.augment}

    def check(results: Results) -> Check:
        gains = {
            label: results.mean(run, measures.best_test_accuracy) - results.mean(run, measures.test_accuracy)
            for label, run in plain.items()
        }
        text = "; ".join(f"{gain:+.2f} {label}" for label, gain in gains.items())
        return Check(min(gains.values()) >= IMAGENET_GAIN, text)

    return Finding(
        "on ImageNet without augmentation early stopping could improve the test accuracy",
        f"the best epoch lies at least {IMAGENET_GAIN:g} point above the last, with weight decay and without; the "
        "paper has 5.4 and 3.4",
        check,
    )


def _batch_norm(scale: Scale) -> Finding:
    def check(results: Results) -> Check:
        runs = [training(scale, model) for model in NETWORKS.values()]
        seeds = results.all(runs[0])
        error = 100 * (0.5 / (seeds[0].record["n_test"] * len(seeds))) ** 0.5
        gap = results.mean(runs[0], measures.test_accuracy) - results.mean(runs[1], measures.test_accuracy)
        return Check(abs(gap) <= 10 + 2 * error, f"{gap:+.2f} points, two standard errors are {2 * error:.2f}")

    return Finding(
        "batch norm changes the test accuracy by a few points alone: both networks generalise",
        "at most 10 points and two standard errors between them; the paper has 1.6 to 3.8",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """Return the experiment, with both panels; at the laptop scale without our runs on ImageNet."""
    tasks = [training(scale, model) for model in NETWORKS.values()]
    tasks += _imagenet_runs().values() if scale.full else ()
    alone = "" if scale.full else f" It takes all of ImageNet on a GPU: --scale full, and not {scale.name}."
    return Experiment(
        name="figure2",
        title="Figure 2: implicit regularisers",
        tasks=tuple(tasks),
        tables=(_table(scale),),
        plots=(_imagenet(), _plot(scale)),
        findings=(_stopping_on_imagenet(), _stopping(scale), _batch_norm(scale)),
        deviations=(
            "Figure 2a has the steps of 50 asynchronous workers, whose effective batch is unknown, and ours those of "
            f"one SGD: each is drawn over the length of its own run.{alone}",
        ),
    )
