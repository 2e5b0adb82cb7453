"""The declarations: whole, shared between tables, and such that the paper passes by its own numbers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from rethink_fast.config import Run
from rethink_fast.corruptions.partially_corrupted_labels import corrupt_labels_reference
from rethink_fast.defaults import resolve
from rethink_fast.errors import UserError
from rethink_fast.experiments import EXPERIMENTS, SCALES, Experiment, Scale, measures, paper_values, table2
from rethink_fast.experiments.curves import first_crossing
from rethink_fast.experiments.figure1 import COME_DOWN, CONDITIONS, CORRUPTED_TOO
from rethink_fast.experiments.figure2 import IMAGENET
from rethink_fast.experiments.scales import ALL_LEVELS, FIGURE_NAMES, FULL, LAPTOP, training
from rethink_fast.experiments.selection import trained as trained_for
from rethink_fast.experiments.spec import Check, Failed, Finding, NotRun, Result, Results, Task, TheoryTask, with_seed
from rethink_fast.experiments.table1 import row_run as table1_run
from rethink_fast.experiments.table4 import row_run as table4_run
from rethink_fast.experiments.verdicts import judge
from rethink_fast.files import to_json
from rethink_fast.report.wording import caption

ROWS = {"table1": 19, "table2": 7, "table3": 5, "table4": 6, "theorem1": 2}


def made(run: Task, **changes: Any) -> Result:
    """A result of a run on the whole of CIFAR-10."""
    record = {
        "dataset": "cifar10",
        "n_train": 50_000,
        "n_test": 10_000,
        "num_classes": 10,
        "train_accuracy": 1.0,
        "test_accuracy": 0.5,
        "best_test_accuracy": 0.5,
        "time_to_memorize": {"loss<=0.05": {"seconds": 1.0, "epochs": 10, "steps": 1}},
        "stop_reason": "max_epochs",
        **changes,
    }
    row = {
        "epoch": 1.0,
        "train_loss": 0.1,
        "online_loss": 0.2,
        "online_accuracy": record["train_accuracy"],
        "test_accuracy": 0.5,
    }
    return Result(record, (row,))


def verdicts(
    experiment: Experiment, results: dict[Task, Result | str], but: str | None = None
) -> tuple[list[str], list[str]]:
    """Of all values but those of one column, and of all findings."""
    judged = judge(experiment, Results(results, 1), {}, 1)
    values = [value for table in judged["tables"] for row in table["rows"] for value in row["values"]]
    return [value["verdict"] for value in values if value["column"] != but], [
        finding["verdict"] for finding in judged["findings"]
    ]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_row_stands_on_a_task_of_its_experiment(scale: Scale) -> None:
    for name, declare in EXPERIMENTS.items():
        experiment = declare(scale)
        assert experiment.name == name
        rows = [row for table in experiment.tables for row in table.rows]
        if name in ROWS:
            assert len(rows) == ROWS[name]
        if not experiment.skipped_because:
            assert {row.task for row in rows if row.task} <= set(experiment.tasks)
        assert len(set(experiment.tasks)) == len(experiment.tasks)
        assert experiment.deviations
        for task in experiment.tasks:
            if isinstance(task, Run):
                resolve(task, on_gpu=scale.full, cores=2)
        judged = judge(experiment, Results({}, 1), {}, 1)
        assert judged["status"] == "not run"
        assert all(finding["verdict"] == "not run" for finding in judged["findings"])


def test_at_full_scale_the_runs_are_the_papers_recipe() -> None:
    for row in paper_values.tables()["table1"]:
        run = resolve(table1_run(FULL, row), on_gpu=True, cores=2)
        assert run.data.max_samples is None
        assert run.train.batch_size == 128
        expected = {"lr 0.01 in place of 0.1"} if run.model.model == "inception_small_no_bn" else set()
        expected |= {"weight_decay 5e-05 in place of 0.0"} if row["weight_decay"] else set()
        assert set(run.recipe_overrides) == expected


def test_tables_and_figures_share_runs() -> None:
    tasks = {name: set(declare(FULL).tasks) for name, declare in EXPERIMENTS.items()}
    for model in FIGURE_NAMES.values():
        assert training(FULL, model, probability=0.0) == training(FULL, model) in tasks["table1"] & tasks["figure1"]
        assert training(FULL, model, probability=1.0) == training(FULL, model, "random") in tasks["table1"]
    assert tasks["figure2"] <= tasks["table1"] | tasks["table2"]
    assert all(task.dataset == "cifar10" for task in EXPERIMENTS["figure2"](LAPTOP).tasks)


def test_the_papers_own_table_1_passes() -> None:
    results: dict[Task, Result | str] = {}
    for row in paper_values.tables()["table1"]:
        run = table1_run(FULL, row)
        accuracies = {"train_accuracy": row["train_acc"] / 100, "test_accuracy": row["test_acc"] / 100}
        results[run] = made(run, **accuracies)
    experiment = EXPERIMENTS["table1"](FULL)
    values, findings = verdicts(experiment, results)
    assert set(values) == {"agrees"}
    assert set(findings) == {"pass"}
    forgetful = training(FULL, "mlp_1x512", "random")
    for wrong in ({"train_accuracy": 0.9, "test_accuracy": 0.1}, {"train_accuracy": 1.0, "test_accuracy": 0.2}):
        values, findings = verdicts(experiment, {**results, forgetful: made(forgetful, **wrong)})
        assert values.count("differs") == 1
        assert findings.count("fail") == 1
    values, findings = verdicts(experiment, {**results, forgetful: "the loss became NaN"})
    assert values.count("failed") == 2
    assert findings == ["fail"] * 3


def test_the_papers_own_figure_1_passes_and_another_order_does_not() -> None:
    tables = paper_values.tables()

    def results(curve_of: dict[str, str]) -> dict[Task, Result | str]:
        found: dict[Task, Result | str] = {}
        for label, model in FIGURE_NAMES.items():
            rows = zip(
                ALL_LEVELS, tables["fig1b"][label]["epochs_inferred"], tables["fig1c_test_error"][label], strict=True
            )
            for level, time, error in rows:
                run = training(FULL, model, probability=level)
                moment = {"loss<=0.05": {"seconds": 1.0, "epochs": time, "steps": 1}}
                found[run] = made(run, time_to_memorize=moment, test_accuracy=1 - error)
        for label, kind in CONDITIONS.items():
            run = training(FULL, "inception_small", kind)
            fitted = tables["fig1a_first_epoch_le"][label]["0.05"]
            result = found.get(run) or made(
                run, time_to_memorize={"loss<=0.05": {"seconds": 1.0, "epochs": fitted, "steps": 1}}
            )
            assert isinstance(result, Result)
            points = zip(*paper_values.curve("fig1a", curve_of[label]), strict=True)
            curve = tuple({**result.curve[0], "epoch": 1000 * at / 391, "online_loss": loss} for at, loss in points)
            found[run] = Result(result.record, curve)
        return found

    paper = {label: label for label in CONDITIONS}
    experiment = EXPERIMENTS["figure1"](FULL)
    values, findings = verdicts(experiment, results(paper), but=CORRUPTED_TOO)
    assert set(values) == {"agrees"}
    assert set(findings) == {"pass"}
    swapped = {**paper, "gaussian": "random pixels", "random pixels": "gaussian"}
    assert verdicts(experiment, results(swapped))[1].count("fail") == 1


def test_failed_to_converge_is_what_table_4_expects_of_alexnet() -> None:
    experiment = EXPERIMENTS["table4"](FULL)
    results: dict[Task, Result | str] = {task: made(task) for task in experiment.tasks if isinstance(task, Run)}
    alexnet = table4_run(FULL, "Alexnet", "wd")
    for result, expected in (
        (made(alexnet, train_accuracy=0.1), "agrees"),
        ("the loss became NaN", "agrees"),
        (made(alexnet, train_accuracy=1.0), "differs"),
    ):
        assert verdicts(experiment, {**results, alexnet: result})[0][1] == expected


def test_the_papers_own_table_2_passes_and_other_numbers_do_not() -> None:
    results: dict[Task, Result | str] = {}
    for row in paper_values.tables()["table2"]:
        run = table2.row_run(row)
        record = {
            "dataset": "imagenet",
            "n_train": 1_281_167,
            "n_test": 50_000,
            "num_classes": 1000,
            "train_accuracy": row["top1_train"] / 100,
            "train_top5_accuracy": row["top5_train"] / 100,
            "test_accuracy": row["top1_test"] / 100,
            "test_top5_accuracy": row["top5_test"] / 100,
            "best_test_accuracy": row.get("best_top1_test", row["top1_test"]) / 100,
            "best_test_top5_accuracy": row.get("best_top5_test", row["top5_test"]) / 100,
        }
        results[run] = Result(record)
    experiment = EXPERIMENTS["table2"](FULL)
    values, findings = verdicts(experiment, results)
    assert values.count("agrees") == 7 * 4 + 2 * 2
    assert values.count("no reference") == 5 * 2
    assert findings == ["pass"]
    last = next(run for run in results if isinstance(run, Run) and run.corruption.corruption == "random")
    result = results[last]
    assert isinstance(result, Result)
    result.record["test_top5_accuracy"] = 0.0070
    assert verdicts(experiment, results)[0].count("differs") == 1


def test_figure_2a_is_drawn_from_the_runs_of_table_2_and_the_paper_passes() -> None:
    experiment = EXPERIMENTS["figure2"](FULL)
    of = {label: table2.runs()[row] for label, row in IMAGENET.items()}
    assert set(of.values()) <= set(experiment.tasks)

    def results(curves: Mapping[str, tuple[float, ...]]) -> dict[Task, Result | str]:
        found: dict[Task, Result | str] = {}
        for label, run in of.items():
            seen = curves[label]
            rows: tuple[dict[str, float | None], ...] = tuple(
                {"epoch": 10.0 * place, "train_accuracy": 1.0, "test_accuracy": value}
                for place, value in enumerate(seen, 1)
            )
            record = {"dataset": "imagenet", "test_accuracy": seen[-1], "best_test_accuracy": max(seen)}
            found[run] = Result(record, rows)
        return found

    paper = {label: paper_values.curve("fig2a", f"test({label})")[1] for label in of}
    ends = {label: (0.1, max(seen), seen[-1]) for label, seen in paper.items()}
    judged = judge(experiment, Results(results(ends), 1), {}, 1)
    plot, (finding, *_) = judged["plots"][0], judged["findings"]
    assert finding["verdict"] == "pass"
    assert {series["label"] for series in plot["ours"]} == {series["label"] for series in plot["paper"]}
    drawn = next(series for series in plot["ours"] if series["label"] == "test(w/o aug, dropout)")
    assert (drawn["x"], drawn["mark"]) == ((10.0, 20.0, 30.0), (20.0, 0.72706, "best"))
    flat = {**ends, "w/o aug, dropout": (0.1, 0.68, 0.675)}
    assert verdicts(experiment, results(flat))[1][0] == "fail"
    del of["w/o aug, dropout"]
    judged = judge(experiment, Results(results(ends), 1), {}, 1)
    assert judged["findings"][0]["verdict"] == "not run"
    assert len(judged["plots"][0]["ours"]) == 4


def test_a_smaller_scale_is_not_held_against_the_papers_test_accuracy() -> None:
    results: dict[Task, Result | str] = {}
    for row in paper_values.tables()["table1"]:
        run = table1_run(LAPTOP, row)
        results[run] = made(run, n_train=256, n_test=256, test_accuracy=0.12 if row["labels"] == "random" else 0.4)
    values, _ = verdicts(EXPERIMENTS["table1"](LAPTOP), results)
    assert values.count("not comparable") == 14
    assert values.count("agrees") == 24  # 19 train accuracies, and 5 test accuracies within chance of 256 images


@pytest.mark.parametrize(("passed", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_finding_passes_or_fails(passed: bool, verdict: str) -> None:
    finding = Finding("statement", "margin", lambda _: Check(passed, "7"))
    assert judge(Experiment("e", "E", (), findings=(finding,)), Results({}, 1), {}, 1)["findings"] == [
        {"statement": "statement", "margin": "margin", "verdict": verdict, "value": "7"}
    ]


def test_where_a_curve_comes_down() -> None:
    curve = [(1.0, 3.0), (None, 9.0), (2.0, 2.0), (3.0, None), (4.0, 0.0), (5.0, 3.0)]
    assert [first_crossing(curve, level) for level in (3.5, 2.5, 1.0, 0.0, -1.0)] == [1.0, 1.5, 3.0, 4.0, None]


def test_the_paper_s_own_curves_come_down_in_the_order_that_is_asserted() -> None:
    curves = [paper_values.curve("fig1a", label) for label in CONDITIONS]
    times = [
        first_crossing(((1000 * at / 391, loss) for at, loss in zip(x, y, strict=True)), COME_DOWN) for x, y in curves
    ]
    assert times == pytest.approx([1.82, 6.10, 14.37, 15.77, 29.03], abs=0.01)


def test_the_laptop_s_figure_1_trains_the_narrow_inception() -> None:
    trained = {run.model.model for run in EXPERIMENTS["figure1"](LAPTOP).tasks if isinstance(run, Run)}
    assert trained == {"inception_small_quarter", "alexnet_small", "mlp_1x512"}
    figure1, table1 = ({name: EXPERIMENTS[name](LAPTOP)} for name in ("figure1", "table1"))
    assert trained_for(figure1, ["inception_small"], LAPTOP) == ("inception_small_quarter",)
    assert trained_for(figure1, ["inception_small_quarter"], LAPTOP) == ("inception_small_quarter",)
    assert trained_for(table1, ["inception_small"], LAPTOP) == ("inception_small",)
    both = ("inception_small", "inception_small_quarter")
    assert trained_for(figure1 | table1, ["inception_small"], LAPTOP) == both
    with pytest.raises(UserError, match="--models 'mlp_3x512' is unknown: choose one of inception_small_quarter"):
        trained_for(figure1, ["mlp_3x512"], LAPTOP)
    run = resolve(training(LAPTOP, "inception_small", figure1=True), on_gpu=False, cores=2)
    assert LAPTOP.size_of(run) == LAPTOP.figure1_sizes["inception_small"]


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_the_test_error_that_corrupted_labels_would_give(probability: float) -> None:
    """As expected of the labels that the contract draws: within five standard errors of 100,000 images."""
    labels = torch.arange(100_000) % 10
    guesses = torch.where(torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.4, labels, 9 - labels)
    corrupted = corrupt_labels_reference(labels, torch.arange(len(labels)), 10, probability, 0)
    accuracy = (guesses == labels).double().mean().item()
    expected = measures.test_error_if_corrupted(probability)(made(training(FULL, "mlp_1x512"), test_accuracy=accuracy))
    assert (guesses != corrupted).double().mean().item() == pytest.approx(expected, abs=5 * 0.5 / 100_000**0.5)
    without = made(training(FULL, "mlp_1x512"), test_accuracy=None)
    assert measures.in_percent(measures.test_error_if_corrupted(probability))(without) is None


def test_found_tells_what_was_not_run_from_what_failed() -> None:
    run = training(FULL, "mlp_1x512")
    with pytest.raises(NotRun):
        Results({}, 2).all(run)
    with pytest.raises(Failed, match="broken"):
        Results({run: "broken"}, 2).all(run)
    second = with_seed(run, 1)
    assert len(Results({run: "broken", second: made(second)}, 2).all(run)) == 1
    never = made(run, time_to_memorize={"loss<=0.05": None})
    with pytest.raises(Failed, match="not reached"):
        Results({run: never}, 1).spread(run, measures.epochs_to_fit)


def test_a_baseline_is_subtracted_seed_by_seed_where_both_have_run() -> None:
    run, other = training(FULL, "mlp_1x512"), training(FULL, "mlp_1x512", "random")
    results: dict[Task, Result | str] = {}
    for seed, (accuracy, baseline) in enumerate([(0.9, 0.5), (0.8, None), (None, 0.1), (0.7, 0.6)]):
        for task, value in ((run, accuracy), (other, baseline)):
            own = with_seed(task, seed)
            results[own] = "broken" if value is None else made(own, test_accuracy=value)
    over = Results(results, 4).spread(run, measures.test_accuracy, other)
    assert (over.n, over.of) == (2, 3)
    assert (over.least, over.most) == pytest.approx((10.0, 40.0))


def test_the_order_of_figure_1_holds_in_every_seed() -> None:
    times = dict(zip(CONDITIONS, (2.0, 4.0, 6.0, 8.0, 10.0), strict=True))

    def verdict(gaussian: float) -> str:
        """The mean of three seeds stays 6."""
        results: dict[Task, Result | str] = {}
        for label, kind in CONDITIONS.items():
            for seed, shift in enumerate((-gaussian, 0.0, gaussian) if label == "gaussian" else (0.0, 0.0, 0.0)):
                run = with_seed(training(FULL, "inception_small", kind), seed)
                result = made(run)
                points = ({**result.curve[0], "epoch": times[label] + shift, "online_loss": COME_DOWN},)
                results[run] = Result(result.record, points)
        (order,) = [each for each in EXPERIMENTS["figure1"](FULL).findings if "order" in each.statement]
        return "pass" if order.check(Results(results, 3)).passed else "fail"

    assert [verdict(1.5), verdict(2.5)] == ["pass", "fail"]


@pytest.mark.parametrize(("dip", "passes"), [(1, True), (2, False)])
def test_times_to_fit_may_fall_by_an_epoch(dip: int, passes: bool) -> None:
    times = dict(zip(LAPTOP.figure1_sizes["alexnet_small"].levels, (16, 19, 19 - dip, 20), strict=True))
    results: dict[Task, Result | str] = {}
    for level, time in times.items():
        run = training(LAPTOP, "alexnet_small", probability=level, figure1=True)
        results[run] = made(run, time_to_memorize={"loss<=0.05": {"seconds": 1.0, "epochs": time, "steps": 1}})
    name = "AlexNet: the time to fit"
    (grows,) = [each for each in EXPERIMENTS["figure1"](LAPTOP).findings if each.statement.startswith(name)]
    assert grows.check(Results(results, 1)).passed == passes


def test_a_level_that_was_not_run_is_a_gap_in_its_curve() -> None:
    results: dict[Task, Result | str] = {}
    for level in (0.0, 0.1, 1.0):
        run = training(FULL, "alexnet_small", probability=level)
        results[run] = made(run, time_to_memorize={"loss<=0.05": {"seconds": 1.0, "epochs": 10, "steps": 1}})
    times, *errors = EXPERIMENTS["figure1"](FULL).plots[1:]
    assert len(errors) == 2
    for plot in (times, *errors):
        (curve,) = plot.ours(Results(results, 1))
        assert curve.x == ALL_LEVELS
        assert [level for level, y in zip(curve.x, curve.y, strict=True) if not math.isnan(y)] == [0.0, 0.1, 1.0]
        assert curve.spread == ()
    (_, drawn, *_) = judge(EXPERIMENTS["figure1"](FULL), Results(results, 1), {}, 1)["plots"]
    assert caption(json.loads(to_json(drawn))).endswith("Inception, MLP 1x512, AlexNet in part")


def test_seeds_are_apart() -> None:
    for task in (training(FULL, "mlp_1x512"), TheoryTask("theorem1", "cifar10")):
        assert len({with_seed(task, number) for number in range(3)}) == 3


def test_the_curves_agree_with_the_table_of_thresholds() -> None:
    """Two readings of one figure: the points of the curves, and the first epochs in the table."""
    first = paper_values.tables()["fig1a_first_epoch_le"]
    for label in CONDITIONS:
        x, y = paper_values.curve("fig1a", label)
        # the last one is cut off by the frame of the figure
        assert all(abs(b - a - 0.391) < 1e-4 for a, b in itertools.pairwise(x[:-1]))
        for threshold, epoch in first[label].items():
            assert next(place for place, loss in enumerate(y, 1) if loss <= float(threshold)) == epoch
