"""Memorization: populations of perceptrons that each train on a part of MNIST or CIFAR-10, some with changed labels.

Margins are from a pilot of the same size, and below what it had.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..bench.seeds import spread
from ..config import DatasetName
from ..memorize.result import HIGH
from ..memorize.view import NAMES as SCORE_NAMES
from .curves import available
from .population_run import MODEL, RATIO, STEPS
from .scales import NAMES, Scale
from .spec import (
    Check,
    Experiment,
    Failed,
    Finding,
    Measure,
    NotRun,
    Plot,
    Result,
    Results,
    Series,
    Summary,
    TheoryTask,
)

SETTINGS: dict[DatasetName, tuple[int, float]] = {"mnist": (2_000, 0.02), "cifar10": (1_000, 0.01)}
"""Images at the laptop's scale, and learning rate."""
MODELS = 40
"""At the laptop's scale. With 24 models some sample of 1,000 is in every training set in one run of six."""
FULL_MODELS: dict[DatasetName, int] = {"mnist": 2_000, "cifar10": 200}
LABELS = {"true labels": 0.0, "a fifth random": 0.2}
TITLES: dict[DatasetName, str] = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
CURVES: dict[str, tuple[DatasetName, str, str]] = {
    "MNIST, true labels": ("mnist", "true labels", "all"),
    "MNIST, unchanged labels": ("mnist", "a fifth random", "unchanged"),
    "MNIST, changed labels": ("mnist", "a fifth random", "changed"),
    "CIFAR-10, true labels": ("cifar10", "true labels", "all"),
    "CIFAR-10, unchanged labels": ("cifar10", "a fifth random", "unchanged"),
    "CIFAR-10, changed labels": ("cifar10", "a fifth random", "changed"),
}
APART, BY_MEMORIZATION, BY_AUM = 0.5, 0.93, 0.95


def task(scale: Scale, dataset: DatasetName, labels: str) -> TheoryTask:
    """Return one population."""
    images, rate = SETTINGS[dataset]
    options = {
        "label_corruption": LABELS[labels],
        "images": None if scale.full else images,
        "models": FULL_MODELS[dataset] if scale.full else MODELS,
        "learning_rate": rate,
    }
    return TheoryTask("memorization", dataset, tuple(options.items()))


def tasks(scale: Scale) -> dict[tuple[DatasetName, str], TheoryTask]:
    """Return the populations by data set and labels."""
    return {(dataset, labels): task(scale, dataset, labels) for dataset in SETTINGS for labels in LABELS}


def _finished(scale: Scale, found: Results) -> dict[tuple[DatasetName, str], TheoryTask]:
    """Return the populations that have a result. Raises NotRun where none has."""
    done = {}
    for key, each in tasks(scale).items():
        with suppress(NotRun, Failed):
            found.all(each)
            done[key] = each
    if not done:
        raise NotRun
    return done


def _at(*keys: str) -> Measure:
    """Return a number of a population's result, by its path there."""

    def measure(result: Result) -> float | None:
        value = result.record["population"]
        for key in keys:
            value = value[key]
        return None if value is None else float(value)

    return measure


def _gap(key: str) -> Measure:
    return _at("gap_identity", key)


def _auroc(score: str, key: str) -> Measure:
    return _at("auroc_of_changed_labels", score, key)


def _said(found: Results, of: TheoryTask, measure: Measure, how: str = ".3f") -> str:
    """Return the mean over the seeds in words; "-" where there is none."""
    try:
        return f"{found.mean(of, measure):{how}}".replace("%", " %")
    except Failed:
        return "-"


def _gap_cells(scale: Scale) -> Callable[[Results], tuple[list[str], list[list[str]]]]:
    accuracies = ("train_accuracy", "held_out_accuracy", "test_accuracy")

    def cells(found: Results) -> tuple[list[str], list[list[str]]]:
        header = ["data", "labels", "images", "models", "models that fit", "train", "held-out", "test"]
        header += ["mean memorization", "minus (train - held-out)", "tolerance", f"samples with at least {HIGH:g}"]
        header += ["mean, changed labels", "mean, the others"]
        rows = []
        for (dataset, labels), of in _finished(scale, found).items():
            first = found.first(of).record
            rows.append(
                [
                    *(TITLES[dataset], labels, f"{first['n_train']:,}", f"{first['models']:,}"),
                    _said(found, of, _at("models_that_reached"), ",.0f"),
                    *(_said(found, of, _gap(key), ".2%") for key in accuracies),
                    _said(found, of, _gap("mean_memorization")),
                    _said(found, of, _gap("difference"), "+.4f"),
                    _said(found, of, _gap("tolerance"), ".4f"),
                    _said(found, of, _at("highly_memorized"), ",.0f"),
                    *(_said(found, of, _at(f"mean_memorization_{which}")) for which in ("changed", "clean")),
                ]
            )
        return header, rows

    return cells


def _score_cells(scale: Scale) -> Callable[[Results], tuple[list[str], list[list[str]]]]:
    def cells(found: Results) -> tuple[list[str], list[list[str]]]:
        done = {dataset: of for (dataset, labels), of in _finished(scale, found).items() if LABELS[labels]}
        if not done:
            raise NotRun
        header = ["score", *(f"{TITLES[dataset]}, {which}" for dataset in done for which in ("all models", "one"))]
        first = found.first(next(iter(done.values()))).record
        columns = [(of, key) for of in done.values() for key in ("population", "one_model")]
        rows = [
            [SCORE_NAMES.get(score, score), *(_said(found, of, _auroc(score, key)) for of, key in columns)]
            for score in first["population"]["auroc_of_changed_labels"]
        ]
        return header, rows

    return cells


def _curve(scale: Scale, found: Results, label: str) -> Series:
    dataset, labels, which = CURVES[label]
    seeds = [result.record["at_least"][which] for result in found.all(task(scale, dataset, labels))]
    points = [spread([100 * share for share in shares]) for shares in zip(*seeds, strict=True)]
    x = tuple(k / STEPS for k in range(STEPS + 1))
    y, std = tuple(each["mean"] for each in points), tuple(each["std"] for each in points)
    high = x.index(HIGH)
    return Series(label, x, y, std if len(seeds) > 1 else (), (x[high], y[high], "highly memorised"))


def _plot(scale: Scale) -> Plot:
    return Plot(
        "memorization",
        "Memorization: how many samples have how much",
        "memorization",
        "samples with at least that much, %",
        (),
        lambda found: available(partial(_curve, scale, found, label) for label in CURVES),
        x_limit=1.0,
        y_limits=(0.0, 100.0),
        note="changed and unchanged labels are those of a population with a fifth of the labels random; the star is at "
        f"{HIGH:g}, from where Feldman and Zhang (2020) count a sample as memorised; on MNIST the "
        "changed labels stand apart, on CIFAR-10 a perceptron memorises nearly every image, whatever its label",
    )


def _identity(scale: Scale, dataset: DatasetName) -> Finding:
    def check(found: Results) -> Check:
        gaps = [
            (result.record["population"]["gap_identity"], labels)
            for labels in LABELS
            for result in found.all(task(scale, dataset, labels))
        ]
        said = ", ".join(f"{gap['difference']:+.4f} of {gap['tolerance']:.4f} ({labels})" for gap, labels in gaps)
        return Check(all(gap["holds"] for gap, _ in gaps), said)

    return Finding(
        f"on {TITLES[dataset]} mean memorization is train minus held-out accuracy",
        "difference within four standard deviations of what unequal numbers of models per sample cause",
        check,
    )


def _test_gap(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        gaps = [
            (result.record["population"]["gap_identity"], dataset)
            for dataset in SETTINGS
            for result in found.all(task(scale, dataset, "true labels"))
        ]
        if any(gap["test_holds"] is None for gap, _ in gaps):
            raise Failed("it has no test images")
        said = ", ".join(
            f"{TITLES[dataset]} {gap['mean_memorization']:.3f} against "
            f"{gap['train_accuracy'] - gap['test_accuracy']:.3f}"
            for gap, dataset in gaps
        )
        return Check(all(gap["test_holds"] for gap, _ in gaps), said)

    return Finding(
        "with true labels mean memorization is the generalization gap, train minus test accuracy",
        "within four standard deviations of sampling both sets, on MNIST and CIFAR-10",
        check,
    )


def _apart(scale: Scale) -> Finding:
    def check(found: Results) -> Check:
        of = task(scale, "mnist", "a fifth random")
        changed, clean = (found.mean(of, _at(f"mean_memorization_{key}")) for key in ("changed", "clean"))
        return Check(changed >= clean + APART, f"{changed:.3f} against {clean:.3f}")

    return Finding(
        "on MNIST changed labels are memorised and the others mostly not",
        f"mean memorization of changed labels larger by at least {APART:g} (the pilot has 0.78)",
        check,
    )


def _finds(scale: Scale, score: str, key: str, least: float, words: str, pilot: float) -> Finding:
    def check(found: Results) -> Check:
        area = found.mean(task(scale, "mnist", "a fifth random"), _auroc(score, key))
        return Check(area >= least, f"AUROC {area:.3f}")

    return Finding(words, f"AUROC of at least {least:g} (the pilot has {pilot:g})", check)


def declare(scale: Scale) -> Experiment:
    """The populations at a scale."""
    by_memorization = "on MNIST memorization by the whole population finds the changed labels"
    by_aum = "on MNIST a single run finds them as well, by the margins of its logits (AUM)"
    return Experiment(
        name="memorization",
        title="Memorization: which samples, and how much",
        tasks=tuple(tasks(scale).values()),
        plots=(_plot(scale),),
        summaries=(
            Summary(
                "Memorization and the gap",
                _gap_cells(scale),
                (
                    "mem(i) = Pr[sample i is right | trained with it] - Pr[the same | trained without it]; the second "
                    "term averages to the held-out accuracy, so mean memorization is a gap.",
                    "With a fifth of the labels random, those of held-out images are too, and those of test images are "
                    "not: mean memorization is then not the gap to the test accuracy.",
                    "Each population's scores, its influences on test images and its sheet of the most and the least "
                    "memorised images are in runs/FOLDER/population; the table of runs names the folders.",
                ),
            ),
            Summary(
                "Scores against changed labels, AUROC",
                _score_cells(scale),
                ("One: the mean over the models of what one run finds among its own samples.",),
            ),
        ),
        findings=(
            *(_identity(scale, dataset) for dataset in SETTINGS),
            _test_gap(scale),
            _apart(scale),
            _finds(scale, "memorization", "population", BY_MEMORIZATION, by_memorization, 0.971),
            _finds(scale, "aum", "one_model", BY_AUM, by_aum, 0.981),
        ),
        deviations=(
            "The paper speaks of memorization without a measure of it for a sample: this is that of Feldman (2020), "
            "estimated as in Feldman and Zhang (2020).",
            f"Each model is {NAMES[MODEL]} on {100 * RATIO:g} % of the images, trained until all of its labels are "
            "right, in 32-bit floating point.",
            "All images of MNIST and 2,000 models are the size of Feldman and Zhang's demonstration; networks and "
            f"epochs are not. CIFAR-10 has {FULL_MODELS['cifar10']} models. The margins are from 2,000 images."
            if scale.full
            else f"{MODELS} models: the standard error of one sample's memorization is up to 0.17, that of the means "
            "far smaller. Of CIFAR-10 only the gaps are asserted: so few images teach a perceptron little of the "
            "others, nearly all are memorised, and changed labels do not stand out.",
        ),
    )
