"""Which measure predicts the gap: the statistics by hand and on a published pilot, and `rethink-fast evaluate`."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from rethink_fast.cli.app import main
from rethink_fast.errors import UserError
from rethink_fast.measures.evaluate import (
    evaluate,
    freedom,
    kendall,
    noise_weight,
    ranks,
    residual_correlation,
    sign_error,
)
from rethink_fast.measures.evaluate_view import _number
from rethink_fast.measures.run_table import read_run_table

PILOT = Path(__file__).parent / "pilot_grid.csv"
"""32 perceptrons on MNIST: label noise, width h, n and lr varied; trained to a loss of 0.05."""
PUBLISHED = {
    "pacbayes_init": (0.83, 0.47, (1.00, 0.62, 0.12, 0.12)),
    "ntk_complexity": (0.80, 0.25, (1.00, 0.0, 0.0, 0.0)),
    "path": (0.71, 0.50, (1.00, 0.75, 0.50, -0.25)),
    "path/margin": (0.67, 0.49, (0.96, 0.62, 0.62, -0.25)),
    "dist_init": (0.65, 0.41, (1.00, 0.62, 0.25, -0.25)),
    "prod_spec": (0.60, 0.27, (0.96, -0.12, 0.50, -0.25)),
    "TSE(sum of epoch losses)": (0.59, 0.53, (1.00, 0.50, 0.38, 0.25)),
    "R_A/margin": (0.55, 0.05, (0.96, -0.50, 0.00, -0.25)),
    "input_sensitivity": (0.52, 0.41, (0.88, 0.50, -0.12, 0.38)),
    "pacbayes_mag_flat": (0.48, 0.60, (0.91, 0.50, 0.50, 0.50)),
    "epochs_to_fit": (0.45, 0.50, (1.00, 0.56, 0.19, 0.25)),
    "pacbayes_flat": (0.43, 0.28, (0.95, -0.56, 0.50, 0.25)),
    "prod_fro": (0.37, 0.19, (1.00, -0.50, 0.50, -0.25)),
    "prod_fro/margin": (0.32, 0.21, (0.96, -0.50, 0.62, -0.25)),
    "pacbayes_orig": (0.25, 0.31, (1.00, -0.50, 0.50, 0.25)),
    "L2": (0.15, 0.19, (1.00, -0.50, 0.50, -0.25)),
    "params": (-0.07, -0.12, (0.0, -0.50, 0.0, 0.0)),
    "grad_variance": (-0.11, -0.01, (-0.17, 0.38, -0.12, -0.12)),
    "inv_margin": (-0.13, 0.05, (-0.67, 0.38, 0.50, 0.00)),
}
"""tau, Psi, and psi of noise, h, n and lr."""
GRID = np.array(list(itertools.product(range(3), range(2), range(2))))
GAP = GRID @ np.array([4.0, 2.0, 1.0])


def test_the_pilots_table() -> None:
    table = read_run_table(PILOT)
    assert list(table.settings) == ["noise", "h", "n", "lr"]
    assert (table.gap_name, table.n_test) == ("gap", None)
    assert set(table.unused) == {"train", "test"}
    found = evaluate(table.measures, table.gap, table.codes)
    assert set(found) == set(PUBLISHED)
    for name, (tau, granulated, psi) in PUBLISHED.items():
        half = pytest.approx  # of the last digit printed
        assert found[name].tau == half(tau, abs=0.00501), name
        assert found[name].granulated == half(granulated, abs=0.00501), name
        assert found[name].psi == half(psi, abs=0.00501), name
        assert found[name].environments == 48 + 16 * 3
        assert (found[name].beyond is None) == (name == "params")
    ntk = found["ntk_complexity"]  # 4 widths and learning rates alike: a tie is half an error
    assert (ntk.percentile_90, ntk.worst, ntk.at_worst) == (0.5, 1.0, 8)


def test_an_oracle_is_perfect_and_its_opposite_is_always_wrong() -> None:
    found = evaluate({"oracle": 10 * GAP, "opposite": -GAP}, GAP, GRID)
    oracle, opposite = found["oracle"], found["opposite"]
    assert (oracle.tau, oracle.granulated, oracle.psi) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert (oracle.sign_error, oracle.percentile_90, oracle.worst) == (0.0, 0.0, 0.0)
    assert (opposite.tau, opposite.granulated, opposite.sign_error, opposite.worst) == (-1.0, -1.0, 1.0, 1.0)
    assert opposite.at_worst == opposite.environments == 12 + 6 + 6
    assert (oracle.worst_environment, oracle.at_worst) == (None, 0)
    assert oracle.beyond is None  # this gap is a sum over the hyper-parameters
    pair = opposite.worst_environment
    assert pair is not None
    assert (GRID[pair.one].tolist(), GRID[pair.other].tolist()) == ([0, 0, 0], [2, 0, 0])  # the gaps differ by 8


def test_a_measure_of_one_hyper_parameter_says_nothing_along_the_others() -> None:
    found = evaluate({"first": GRID[:, 0].astype(float)}, GAP, GRID)["first"]
    assert found.psi == (1.0, 0.0, 0.0)
    assert found.granulated == pytest.approx(1 / 3)
    assert found.sign_error == pytest.approx((12 * 0 + 12 * 0.5) / 24)
    assert found.beyond is None


def test_noise_predicts_nothing() -> None:
    rng = np.random.default_rng(0)
    codes = np.array(list(itertools.product(range(8), range(8), range(4))))
    found = evaluate({"noise": rng.normal(size=256)}, rng.normal(size=256), codes)["noise"]
    # The standard deviation of tau over 256 independent pairs is 0.042; five of them.
    assert abs(found.tau) < 0.21
    assert found.sign_error == pytest.approx(0.5, abs=0.1)
    assert abs(found.beyond or 1) < 5 / math.sqrt(freedom(codes))


def test_repeats_are_averaged_and_paired_within_environments() -> None:
    codes = np.array([[0], [0], [1], [1]])
    gap, measure = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 9.0, 6.0, 7.0])
    found = evaluate({"m": measure}, gap, codes)["m"]
    assert (found.tau, found.psi) == (1.0, (1.0,))  # means 5 and 6.5
    assert found.sign_error == 0.5  # of the pairs (1, 6), (1, 7), (9, 6), (9, 7), the last two are wrong


def test_ties_in_the_gap_are_no_environment_and_noise_weighs_the_rest() -> None:
    one, other = np.array([1.0]), np.array([2.0])
    assert sign_error((one, other), (one, one)) is None
    assert sign_error((one, one), (one, other)) == 0.5
    assert noise_weight(np.array([0.05]), 10_000)[0] + 0.5 == pytest.approx(0.9999850934428636, rel=1e-12)
    assert noise_weight(np.array([0.0, 0.01]), 1_000).tolist() == [0.0, 0.0]
    assert sign_error((one, other), (np.array([0.30]), np.array([0.31])), n_test=1000) is None
    assert sign_error((one, other), (np.array([0.30]), np.array([0.60])), n_test=1000) == 0.0


@pytest.mark.parametrize(("repeats", "counts"), [(3, True), (4, False)])
def test_an_environment_needs_pairs_of_repeats_where_the_table_has_them(repeats: int, counts: bool) -> None:
    """Two configurations far apart, and a third of which one run alone differs from the second."""
    codes = np.repeat(np.array([[0, 0], [1, 0], [1, 1]]), repeats, 0)
    gap = np.repeat([0.1, 0.6, 0.6], repeats)
    gap[-1] = 0.9
    measure = np.repeat([1.0, 2.0, 0.0], repeats)
    found = evaluate({"m": measure}, gap, codes, n_test=10_000)["m"]
    # One run of the third differs from every run of the second: as many pairs as repeats, all of weight 1/2.
    assert found.environments == 1 + counts
    assert found.worst == (1.0 if counts else 0.0)
    assert found.sign_error == (0.5 if counts else 0.0)
    assert evaluate({"m": measure}, gap, codes)["m"].environments == 2, "without n_test all count"
    one, other = (measure[:repeats], measure[repeats : 2 * repeats]), (gap[:repeats], gap[repeats : 2 * repeats])
    assert sign_error(one, other, 10_000, least=repeats**2) == 0.0, "all pairs alike have their full number"
    assert sign_error(one, other, 10_000, least=repeats**2 + 1) is None


def test_the_residual_finds_what_the_hyper_parameters_do_not_explain() -> None:
    rng = np.random.default_rng(1)
    codes = np.array(list(itertools.product(range(4), range(4), range(4))))
    hidden = rng.normal(size=64)
    gap = 100 * codes[:, 0] + hidden
    assert kendall(hidden, gap) < 0.5
    assert (residual_correlation(hidden, gap, codes) or 0) > 0.4
    assert residual_correlation(np.exp(hidden), gap, codes) == residual_correlation(hidden, gap, codes)
    assert abs(residual_correlation(rng.normal(size=64), gap, codes) or 1) < 0.4
    assert residual_correlation(codes[:, 1] + codes[:, 2] * 4.0, gap, codes[:, 1:]) is None
    assert residual_correlation(gap, hidden, np.arange(64)[:, None]) is None
    assert freedom(codes) == 64 - 1 - 3 * 3


def test_ranks_and_tau_by_hand() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    assert kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    assert kendall(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / math.sqrt(2 * 3))
    assert kendall(np.ones(3), np.arange(3.0)) == 0.0


def test_tau_and_residuals_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    for n in (2, 30, 1500):  # more than a block of rows
        x, y = rng.integers(0, 20, n).astype(np.float64), rng.normal(size=n)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
        assert np.array_equal(ranks(x) + 1, stats.rankdata(x))


def test_too_many_environments_are_refused_before_they_are_made() -> None:
    values = np.arange(2000.0)
    with pytest.raises(UserError, match="1,999,000 pairs of configurations"):
        evaluate({"m": values}, values, np.arange(2000)[:, None])


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "grid.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_columns_are_taken_for(tmp_path: Path) -> None:
    lines = [",cell,width,size,depth,seed,m,text,one,test_error,n_test,generalization_gap"]
    for row, (width, depth, seed) in enumerate(itertools.product(("8", "16"), ("a", "b"), (0, 1))):
        lines.append(f"{row},{row // 2},{width},{int(width) ** 2},{depth},{seed},{row / 7},t{row},1,0.5,1000,{row % 3}")
    table = read_run_table(write(tmp_path, "\ufeff" + "\r\n".join(lines) + "\r\n\r\n"))
    assert table.settings == {"width": ["8", "16"], "depth": ["a", "b"]}
    assert set(table.measures) == {"cell", "size", "m"}
    assert table.n_test == 1000
    assert set(table.unused) == {"column 1", "seed", "text", "one", "test_error"}
    assert table.unused["text"] == "not numbers: t0 in run 1"
    named = read_run_table(tmp_path / "grid.csv", hyperparameters=["seed", "width"], measures=["one"])
    assert list(named.settings) == ["seed", "width"]
    assert list(named.measures) == ["one"]
    assert named.unused["m"] == "not asked for"


def test_the_columns_of_a_published_table_are_known_by_their_names(tmp_path: Path) -> None:
    rows = "".join(f"{lr};{row};0.5;{row + 0.5}\n" for row, lr in enumerate((1, 2, 4)))
    table = read_run_table(
        write(tmp_path, "hp.lr;complexity.params;gen.gap;other\n" + rows.replace(";0.5;", ";.1;", 1))
    )
    assert list(table.settings) == ["hp.lr"]
    assert list(table.measures) == ["complexity.params"]
    assert table.unused == {"other": "not asked for"}


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", {}, "is not a table of runs"),
        ("gap\n1\n2\n", {}, "is not a table of runs"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", {}, "is not CSV: it is not text in UTF-8"),
        ('gap,m\n1,2\n3,"4\n', {}, "is not CSV (unexpected end of data)"),
        ("gap,m\n1,2\n", {}, "has 1 run(s)"),
        ("gap,m\n", {}, "has 0 run(s)"),
        ("gap,m\n1,2\n3\n", {}, "has 1 cells in run 2 and 2 in its header"),
        ("gap,gap\n1,2\n3,4\n", {}, "has two columns called gap"),
        ("gap,m\n1,2\n1,3\n", {}, "has the same gap in all 2 runs"),
        ("gap,m\n1,2\nx,3\n", {}, "has no number under gap: x in run 2"),
        ("gap,m\n1,2\nnan,3\n", {}, "has no number under gap: nan in run 2"),
        ("gap,m\n1,2\n2,\n", {"measures": ["m"]}, "has no number under m: '' in run 2"),
        ("gap,m\n1,2\n2,inf\n", {"measures": ["m"]}, "has no number under m: inf in run 2"),
        ("gap,m\n1,a\n2,b\n", {}, "has no column of numbers that is a measure"),
        ("a,m\n1,2\n2,3\n", {}, "has no column called gap: name it by --gap, one of a, m"),
        ("gap_a,gap_b\n1,2\n2,3\n", {}, "several columns for the gap (gap_a, gap_b)"),
        ("gap,m\n1,2\n2,3\n", {"measures": ["n"]}, "column 'n' is unknown"),
        ("gap,m\n1,2\n2,3\n", {"hyperparameters": ["m"], "measures": ["m"]}, "column 'm' is named twice"),
        ("gap,m\n1,2\n2,3\n", {"measures": ["gap"]}, "column 'gap' is the gap, so it cannot be"),
    ],
)
def test_what_is_no_table_of_runs_is_refused(
    tmp_path: Path, content: str | bytes, options: dict[str, list[str]], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        read_run_table(write(tmp_path, content), **options)  # type: ignore[arg-type]
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize("columns", [60, 200])
def test_the_command(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert call(str(PILOT), "--json", "--measures", "params, pacbayes_init") == 0
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert list(values["measures"]) == ["pacbayes_init", "params"]
    best = values["measures"]["pacbayes_init"]
    assert best["psi"] == pytest.approx({"noise": 1.0, "h": 0.625, "n": 0.125, "lr": 0.125})
    # The gaps of 500 and 1,000 images at this noise differ by 0.086, and the measure says the opposite.
    assert best["worst_environment"] == {
        "hyperparameter": "n",
        "values": ["500", "1000"],
        "with": {"noise": "0.5", "h": "512", "lr": "0.01"},
    }
    assert values["hyperparameters"]["noise"] == ["0", "0.25", "0.5", "1"]
    assert "worst of pacbayes init: n 500 and 1000, with noise 0.5, h 512, lr 0.01" in err
    assert "25 degrees of freedom are left" in err
    assert ("psi noise" in err) == (columns == 200)
    assert ("too few for psi" in err) == (columns == 60)
    assert "…" not in err


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_of_the_table_is_wider_than_the_terminal(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = ["width,label_corruption,seed,gap,pac_bayes,speed,train_accuracy,test_accuracy"]
    for row, (width, corruption) in enumerate(itertools.product((8, 16), (0.0, 0.5, 1.0))):
        lines.append(f"{width},{corruption},{row},{corruption + row / 90},{row},{-row},1,{row}")
    assert call(str(write(tmp_path, "\n".join(lines)))) == 0
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line[0] in "┏┃┡│└"]
    assert {len(line) for line in table} == {max(map(len, table))}
    assert max(map(len, table)) <= columns
    assert "…" not in out
    assert "psi" in out
    assert _number(-0.004) == "0.00"
    assert "not used: train_accuracy, test_accuracy (a result, not a measure)" in out


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([str(tmp_path / "none.csv")], [str(tmp_path)], [str(PILOT), "--gap", "gop"]):
        assert call(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
