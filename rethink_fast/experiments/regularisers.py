"""The paper's summary of regularisers, explicit and implicit: each alone, against the same network without it."""

from __future__ import annotations

from ..config import ModelName, Run
from . import measures
from .scales import DROPOUT, NAMES, WEIGHT_DECAY, Scale, training
from .spec import Check, Experiment, Finding, Result, Results, Row, Table, Value

NETWORK: ModelName = "alexnet_small"
LOSS = 5.0
"""Points of test accuracy that a regulariser may cost at most, before twice the standard error of a difference on our
test set: the paper's weight decay costs MLP 1x512 0.1 and Inception with crops 0.3."""


def explicit(scale: Scale) -> dict[str, Run]:
    """Return the run of each explicit regulariser, by its name."""
    return {
        "weight decay": training(scale, NETWORK, weight_decay=WEIGHT_DECAY),
        "dropout": training(scale, NETWORK, dropout=DROPOUT),
        "random crops": training(scale, NETWORK, augment=("crop",)),
        "flips": training(scale, NETWORK, augment=("flip",)),
        "rotation": training(scale, NETWORK, augment=("rotation",)),
    }


def early_stopping(result: Result) -> float | None:
    """Return the test accuracy of the best epoch less that of the last, in points."""
    best, last = measures.best_test_accuracy(result), measures.test_accuracy(result)
    return None if best is None or last is None else best - last


def _rows(scale: Scale) -> tuple[Row, ...]:
    plain = training(scale, NETWORK)
    inception, bare = training(scale, "inception_small"), training(scale, "inception_small_no_bn")

    def accuracies(effect: Value) -> tuple[Value, ...]:
        return (Value("train", measures.train_accuracy), Value("test", measures.test_accuracy), effect)

    def against(baseline: Run) -> Value:
        return Value("effect on test", measures.test_accuracy, baseline=baseline)

    rows = [Row((NAMES[NETWORK], "-", "none"), plain, accuracies(against(plain)))]
    rows += [
        Row((NAMES[NETWORK], "explicit", name), run, accuracies(against(plain)))
        for name, run in explicit(scale).items()
    ]
    early = Value("effect on test", early_stopping)
    test = Value("test", measures.best_test_accuracy)
    train = Value("train", measures.train_accuracy)
    rows.append(Row((NAMES[NETWORK], "implicit", "early stopping, the best epoch"), plain, (train, test, early)))
    rows.append(Row(("Inception", "implicit", "batch norm"), inception, accuracies(against(bare))))
    adam = training(scale, "mlp_1x512", optimizer="adam")
    sgd = training(scale, "mlp_1x512")
    rows.append(Row((NAMES["mlp_1x512"], "implicit", "SGD, against Adam"), sgd, accuracies(against(adam))))
    return tuple(rows)


def _none_is_needed(scale: Scale) -> Finding:
    def check(results: Results) -> Check:
        plain = training(scale, NETWORK)
        result = results.first(plain)
        score = results.mean(plain, measures.test_accuracy)
        return Check(score >= measures.chance(result) + 10, f"{score:.2f} %, chance {measures.chance(result):.0f} %")

    return Finding(
        "no explicit regulariser is needed to generalise",
        f"{NAMES[NETWORK]} without any: test accuracy at least 10 points above chance",
        check,
    )


def _none_matters(scale: Scale, name: str, run: Run) -> Finding:
    least = 0.0 if name == "random crops" else -LOSS

    def check(results: Results) -> Check:
        plain = training(scale, NETWORK)
        effect = results.spread(run, measures.test_accuracy, plain)
        error = 100 * (0.5 / (results.first(plain).record["n_test"] * effect.n)) ** 0.5
        return Check(effect.mean >= least - 2 * error, f"{effect.mean:+.2f} points, two errors are {2 * error:.2f}")

    says = "help" if name == "random crops" else "may help, and costs little"
    return Finding(
        f"{name} {says}",
        f"effect on the test accuracy of {NAMES[NETWORK]} of at least {least:g} points, less two standard errors",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """Return the experiment."""
    rows = _rows(scale)
    tasks = [row.task for row in rows if row.task is not None]
    tasks += [training(scale, "inception_small_no_bn"), training(scale, "mlp_1x512", optimizer="adam")]
    return Experiment(
        name="regularisers",
        title="Regularisers: explicit and implicit",
        tasks=tuple(dict.fromkeys(tasks)),
        tables=(
            Table(
                "Accuracy on true labels, and what a regulariser alone changes",
                ("network", "kind", "regulariser"),
                rows,
            ),
        ),
        findings=(
            _none_is_needed(scale),
            *(_none_matters(scale, name, run) for name, run in explicit(scale).items()),
        ),
        deviations=(
            "The paper has no such table: its talk sums up in words which regularisers were seen to matter.",
            f"Dropout is {DROPOUT:g} before each of the last two layers; the paper gives no rate for CIFAR-10.",
        ),
    )
