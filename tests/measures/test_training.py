"""The measures that train, with fits whose networks are known, and with the engine."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rethink_fast import measures
from rethink_fast.cli.app import main
from rethink_fast.measures.finished import FinishedRun, open_run
from rethink_fast.measures.rademacher import mcdiarmid
from rethink_fast.measures.ratt import slack, term
from rethink_fast.measures.stability import bound, distance, stability_curves
from rethink_fast.measures.suite import Report
from rethink_fast.measures.trained_suite import measure_by_training
from rethink_fast.measures.training import Watch, engine

N, CLASSES = 60, 4
INPUTS = torch.eye(N)
PLACES = torch.arange(N)
TEST = torch.eye(N), torch.arange(N) % CLASSES
"""Input i is unit vector i, so that a table of outputs is a network."""


class Table(nn.Module):
    """Outputs by input; 0 everywhere at first, so that class 0 is predicted."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.zeros(N, classes))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.outputs


class Lookup:
    """A Trainer that remembers its arguments. knows: which positions it can; fits: what it was called with."""

    def __init__(self, knows: Tensor | None = None, otherwise: Tensor | None = None) -> None:
        self.knows = torch.ones(N, dtype=torch.bool) if knows is None else knows
        self.otherwise = otherwise
        self.fits: list[tuple[Tensor, Tensor, int]] = []

    def __call__(
        self,
        positions: Tensor,
        labels: Tensor,
        *,
        classes: int,
        seed: int = 0,
        epochs: int | None = None,
        watch: Watch | None = None,
    ) -> nn.Module:
        self.fits.append((positions, labels, seed))
        table = Table(classes)
        with torch.no_grad():
            if self.otherwise is not None:
                table.outputs[PLACES, self.otherwise] = 0.5
            known = positions[self.knows[positions]]
            table.outputs[known, labels[self.knows[positions]]] = 1.0
        for epoch in range(1, (epochs or 3) + 1):
            if watch is not None:
                watch(epoch, table)
        return table


def test_a_network_that_fits_every_sign_has_complexity_1() -> None:
    found = measures.rademacher(Lookup(), PLACES, INPUTS, draws=3)
    assert found.value == 1.0
    assert found.error == pytest.approx(math.sqrt(2 * math.log(40) / (3 * N)))
    assert found.verdict == "vacuous"


def test_a_network_that_fits_no_sign_says_nothing_of_the_complexity() -> None:
    """Constant networks: their sum over n = 60 signs is what the draw has left over."""
    found = measures.rademacher(Lookup(torch.zeros(N, dtype=torch.bool)), PLACES, INPUTS, draws=20)
    assert abs(found.value) < 4 / math.sqrt(20 * N)
    assert found.verdict in (None, "vacuous")
    signs = Lookup()
    measures.rademacher(signs, PLACES, INPUTS, draws=2)
    assert not torch.equal(signs.fits[0][1], signs.fits[1][1]), "every draw has signs of its own"


def test_mcdiarmid_at_the_reference_point() -> None:
    assert mcdiarmid(5, 50_000) == pytest.approx(0.005432406062962478, rel=1e-12)


def test_one_changed_label_moves_a_lookup_at_that_point_alone() -> None:
    labels = torch.arange(N) % CLASSES
    fit = Lookup()
    found = measures.stability(fit, PLACES, labels, INPUTS, TEST, classes=CLASSES, pairs=4)
    assert found.details["beta"] == 0.5, "of one removed label: two removals give the same set"
    assert found.details["changed"] == [1 / N] * 4
    assert found.verdict == "vacuous"
    assert found.bound == bound(0.5, N, 0.0) == pytest.approx(1 + 121 * math.sqrt(math.log(20) / 120))
    changed = [int((other != labels).sum()) for _, other, _ in fit.fits[2:]]
    assert changed == [1, 1, 1, 1]


def test_the_changed_sample_itself_counts_for_uniform_stability() -> None:
    """None of the pairs' samples, 0, 19, 39 and 59, is a test image here: nothing else moves."""
    labels, others = torch.arange(N) % CLASSES, torch.arange(1, 19)
    found = measures.stability(
        Lookup(), PLACES, labels, INPUTS, (INPUTS[others], labels[others]), classes=CLASSES, pairs=4
    )
    assert found.value == 0
    assert found.details["changed"] == [0] * 4
    assert found.details["beta"] == 0.5


def test_a_network_that_ignores_its_labels_is_stable() -> None:
    blind = Lookup(torch.zeros(N, dtype=torch.bool))
    found = measures.stability(blind, PLACES, torch.zeros(N, dtype=torch.int64), INPUTS, TEST, classes=CLASSES)
    assert found.value == 0
    assert found.details["beta"] == 0
    assert found.verdict is None


def test_curves_of_pairs_have_every_epoch_and_a_pair_alike_has_none() -> None:
    labels = torch.arange(N) % CLASSES
    fit = Lookup()
    own, pair = stability_curves(fit, PLACES, labels, INPUTS, TEST, classes=CLASSES, changes=(None, 19), epochs=3)
    assert len(own) == len(pair) == 3
    assert {each.distance for each in own} == {0.0}
    assert {(each.point, each.error, each.changed) for each in own} == {(0.0, 0.0, 0.0)}
    # One of 60 ones has moved to another place: |w - w'|^2 = 2, and |w|^2 = |w'|^2 = 60.
    assert pair[-1].distance == pytest.approx(math.sqrt(2 / 120))
    assert (pair[-1].point, pair[-1].error, pair[-1].changed) == (1.0, 1.0, 1 / N)
    # The loss of image 19 is ln(e + 3) - 1 before, and 1 more after.
    assert pair[-1].largest_loss == pytest.approx(1.0)
    assert pair[-1].mean_loss == pytest.approx(1 / N)
    assert [int((other != labels).sum()) for _, other, _ in fit.fits] == [0, 0, 1]


def test_halves_are_disjoint_and_disagree_by_count() -> None:
    truth = torch.arange(N) % CLASSES
    fit = Lookup(otherwise=(truth + 1) % CLASSES)
    found = measures.disagreement(fit, PLACES, truth, TEST, classes=CLASSES)
    first, second = (set(positions.tolist()) for positions, _, _ in fit.fits)
    assert not first & second
    assert len(first) == len(second) == N // 2
    assert fit.fits[0][2] != fit.fits[1][2], "and begin from other weights"
    # Each is right on its own half and wrong on the other: they agree nowhere.
    assert found.value == 1
    assert found.details["errors"] == [0.5, 0.5]
    assert found.verdict is None


def test_halves_that_err_apart_from_each_other_track_their_error() -> None:
    """Each is wrong on its own tenth of the images: they disagree on 12 of 60, and err on 6."""
    truth = torch.arange(N) % CLASSES
    found = measures.disagreement(Lookup(otherwise=truth), PLACES, truth, TEST, classes=CLASSES)
    assert found.value == 0
    assert found.verdict == "tracks"


def test_the_parts_of_the_gap_of_a_lookup() -> None:
    """It remembers every label, right or wrong: all of the gap is memorization."""
    labels = torch.arange(N) % CLASSES
    test = torch.eye(N), (labels + 1) % CLASSES
    fit = Lookup()
    found = measures.rrm(fit, PLACES, labels, INPUTS, test, classes=CLASSES, eta=0.2)
    share = found.details["changed"] / N
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / N)
    (_, given, _), (_, noisy, _) = fit.fits
    assert torch.equal(given, labels)
    assert int((noisy != labels).sum()) == found.details["changed"], "every label drawn is another one"
    assert set(((noisy - labels) % CLASSES).tolist()) == {0, 1, 2, 3}
    assert found.details["robustness"] == pytest.approx(share)
    assert found.details["memorization"] == pytest.approx(1 - share)
    assert found.details["rationality"] == 0
    assert found.value >= found.details["gap"] == 1


def test_a_share_that_changes_nothing_is_said() -> None:
    labels = torch.arange(N) % CLASSES
    with pytest.raises(measures.Unreadable, match="none of 60 is"):
        measures.rrm(Lookup(), PLACES, labels, INPUTS, TEST, classes=CLASSES, eta=0.0)


def test_ratt_of_a_lookup_and_of_the_truth() -> None:
    truth = torch.arange(N) % 2
    test = torch.eye(N), truth
    remembers = measures.ratt(Lookup(), PLACES, truth, INPUTS, test, epochs=2)
    assert remembers.value == pytest.approx(1 + term(0.0, 40, 20, 0.05))
    assert remembers.verdict == "vacuous"
    knows = measures.ratt(
        Lookup(torch.zeros(N, dtype=torch.bool), otherwise=truth), PLACES, truth, INPUTS, test, epochs=2
    )
    row = knows.details["epochs"][0]
    assert row["clean"] == row["test"] == 0
    assert knows.value == pytest.approx(1 - 2 * row["random"] + term(row["random"], 40, 20, 0.05))


def test_without_slack_the_bound_is_the_clean_error() -> None:
    assert slack(0.03, 0.5) == pytest.approx(0.03)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("run") / "run"
    options = (
        "--data",
        "synthetic",
        "--max-samples",
        "200",
        "--lr",
        "0.02",
        "--device",
        "cpu",
        "--corruption",
        "random",
    )
    with pytest.raises(SystemExit):
        main(["bench", "mnist", *options, "--out", str(folder)])
    return open_run(folder)


def test_the_engine_goes_on_as_the_run_did(run: FinishedRun) -> None:
    """On all of its samples and labels it gives the run's own network, bit for bit."""
    everyone = torch.arange(run.n)
    labels = run.setup.labels[run.setup.dataset.train.index]
    ours = engine(run)(everyone, labels, classes=run.classes)
    for a, b in zip(ours.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_engine_takes_the_labels_it_is_given(run: FinishedRun) -> None:
    positions, signs = torch.arange(100), torch.arange(100) // 3 % 2
    model = engine(run)(positions, signs, classes=2)
    index = run.setup.dataset.train.index[:100]
    predicted = model(run.inputs(run.setup.dataset.train, index)).argmax(1)
    assert (predicted == signs).double().mean() >= 0.99


def test_the_pair_of_a_set_with_itself_differs_by_exactly_0(run: FinishedRun) -> None:
    fit, positions = engine(run), torch.arange(50)
    labels = run.setup.labels[run.setup.dataset.train.index[:50]]
    first, again, other = (fit(positions, labels, classes=10, epochs=3, seed=seed) for seed in (0, 0, 1))
    assert distance(first, again) == 0
    assert distance(first, other) > 0.1


def test_exactly_so_many_epochs_and_as_many_classes(run: FinishedRun) -> None:
    seen: list[int] = []
    positions, signs = torch.arange(4), torch.arange(4) % 2
    until_it_fits: list[int] = []
    engine(run)(positions, signs, classes=2, watch=lambda epoch, _: until_it_fits.append(epoch))
    wanted = len(until_it_fits) + 5
    model = engine(run)(positions, signs, classes=2, epochs=wanted, watch=lambda epoch, _: seen.append(epoch))
    assert seen == list(range(1, wanted + 1))
    assert model(run.train_sample(3)[0]).shape == (3, 2)
    assert not model.training


def quiet(what: str, done: int, total: int) -> None: ...


def test_every_measure_that_trains_joins_the_report(run: FinishedRun) -> None:
    found = measure_by_training(Report(run, {}, {}, {}), quiet)
    assert set(found.measures) == {"rademacher", "stability", "disagreement", "rrm", "ratt"}
    assert found.measures["rademacher"].value >= 0.99
    assert found.measures["stability"].details["beta"] == 0.5
    assert found.measures["disagreement"].value > 0.7, "random labels: halves agree by chance alone"
    assert found.measures["rrm"].value >= found.measures["rrm"].details["gap"]


@pytest.mark.slow
def test_the_command_takes_train(run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["measure", str(run.folder), "--train"])
    assert stopped.value.code == 0
    assert "one-sided" in " ".join(capsys.readouterr().out.split())
    assert '"ratt"' in Path(run.folder / "measures.json").read_text()
