"""Table 1: train and test accuracy on CIFAR-10, with and without crops, weight decay and batch norm, 19 rows."""

from __future__ import annotations

from ..config import ModelName, Run
from . import measures, paper_values
from .scales import MODEL_OF, NAMES, NO_BATCH_NORM_LR, WEIGHT_DECAY, Scale, training
from .spec import Check, Experiment, Finding, Results, Row, Table, Value

TOLERANCE: dict[ModelName, float] = {
    "inception_small": 1.5,
    "inception_small_no_bn": 3.0,
    "alexnet_small": 6.0,
    "mlp_3x512": 3.0,
    "mlp_1x512": 3.0,
}
"""Points of test accuracy. The paper disagrees with itself so far between its own runs of one configuration: Inception
85.75, 86.53 and 87.15; without batch norm 82.00 and 84.92; AlexNet 76.07 and 69.89. The MLPs agree with themselves
(50.51 and 50.49), but an independent reproduction stands up to 2.8 points above them."""
TRAIN_TOLERANCE = 1.0
"""Points of train accuracy: the paper's least on these rows is 99.34 where 100 was asked for."""


def row_run(scale: Scale, row: dict[str, object]) -> Run:
    """Return the run behind a row of the paper's table."""
    return training(
        scale,
        MODEL_OF[str(row["model"])],
        "random" if row["labels"] == "random" else "true",
        weight_decay=WEIGHT_DECAY if row["weight_decay"] else None,
        augment=("crop",) if row["random_crop"] else (),
    )


def _row(scale: Scale, paper: dict[str, object]) -> Row:
    model, random = MODEL_OF[str(paper["model"])], paper["labels"] == "random"
    train = Value(
        "train",
        measures.train_accuracy,
        float(str(paper["train_acc"])),
        TRAIN_TOLERANCE,
        "the paper's own rows lie up to 0.7 below the 100 % they aim at",
        comparable_at_any_scale=True,
    )
    test = Value(
        "test",
        measures.test_accuracy,
        float(str(paper["test_acc"])),
        0.9 if random else TOLERANCE[model],
        "chance: three standard errors of 10,000 test images, and as many of ours where they are fewer"
        if random
        else "how far the paper's own runs of one configuration, or an independent reproduction, lie apart",
        comparable_at_any_scale=random,
        extra_tolerance=(lambda result: 3 * measures.sampling_error(result)) if random else None,
    )
    labels = (
        str(paper["model"]),
        "yes" if paper["random_crop"] else "no",
        "yes" if paper["weight_decay"] else "no",
        str(paper["labels"]),
    )
    return Row(labels, row_run(scale, paper), (train, test))


def _memorize(scale: Scale) -> Finding:
    least = min(row["train_acc"] for row in paper_values.tables()["table1"] if row["labels"] == "random")

    def check(results: Results) -> Check:
        scores = {
            name: results.mean(training(scale, model, "random"), measures.train_accuracy)
            for model, name in NAMES.items()
        }
        worst = min(scores, key=lambda name: scores[name])
        return Check(scores[worst] >= least, f"least {scores[worst]:.2f} %, by {worst}")

    return Finding(
        "every network fits random labels", f"train accuracy of at least {least} %, the paper's least, for all", check
    )


def _chance(scale: Scale) -> Finding:
    def check(results: Results) -> Check:
        off = {}
        for model, name in NAMES.items():
            run = training(scale, model, "random")
            seeds = results.all(run)
            error = measures.sampling_error(seeds[0]) / len(seeds) ** 0.5
            distance = abs(results.mean(run, measures.test_accuracy) - measures.chance(seeds[0]))
            off[name] = (distance, 4 * error)
        worst = max(off, key=lambda name: off[name][0] / off[name][1])
        distance, margin = off[worst]
        return Check(
            all(distance <= margin for distance, margin in off.values()),
            f"most, in standard errors: {worst}, {distance:.2f} points off where {margin:.2f} are allowed",
        )

    return Finding(
        "a network that has fitted random labels is at chance on the test set",
        "within four standard errors of the test set of 10 %, for all",
        check,
    )


def _generalise(scale: Scale) -> Finding:
    def check(results: Results) -> Check:
        gaps = {
            name: results.mean(training(scale, model), measures.test_accuracy)
            - results.mean(training(scale, model, "random"), measures.test_accuracy)
            for model, name in NAMES.items()
        }
        worst = min(gaps, key=lambda name: gaps[name])
        return Check(gaps[worst] >= 10, f"least {gaps[worst]:.2f} points, by {worst}")

    return Finding(
        "with true labels the same networks, with no regulariser at all, generalise",
        "test accuracy at least 10 points above that with random labels, for all",
        check,
    )


def declare(scale: Scale) -> Experiment:
    """Return the experiment, with all 19 rows."""
    rows = tuple(_row(scale, row) for row in paper_values.tables()["table1"])
    return Experiment(
        name="table1",
        title="Table 1: CIFAR-10, true and random labels",
        tasks=tuple(row.task for row in rows if row.task is not None),
        tables=(Table("Accuracy", ("model", "crop", "weight decay", "labels"), rows),),
        findings=(_memorize(scale), _chance(scale), _generalise(scale)),
        deviations=(
            f"The paper gives no coefficient of weight decay: {WEIGHT_DECAY:g}, on weights alone.",
            f"Inception without batch norm starts at a learning rate of {NO_BATCH_NORM_LR:g}: at the paper's 0.1 it "
            "does not train from our initialisation.",
            "The paper does not say at which epoch its accuracies were read: ours are those of the last.",
            "The accuracies are from full passes in eval mode, without the random crops; the paper does not say.",
        ),
    )
