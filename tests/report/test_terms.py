"""The paper's terms in one table: every number in it is read from the record, and what was not run says so."""

from __future__ import annotations

from typing import Any

import pytest

from rethink_fast.experiments import EXPERIMENTS
from rethink_fast.experiments.scales import LAPTOP
from rethink_fast.experiments.spec import Results
from rethink_fast.experiments.verdicts import judge
from rethink_fast.report.terms import TERMS, section

MEASURES = ("parameters", "path norm", "distance from start", "ntk complexity", "pac bayes", "speed", "weight norm")


@pytest.fixture
def values() -> dict[str, Any]:
    """Every experiment with results: each finding holds, and each number is 1.5."""
    experiments = {name: judge(declare(LAPTOP), Results({}, 1), {}, 1) for name, declare in EXPERIMENTS.items()}
    for experiment in experiments.values():
        for finding in experiment["findings"]:
            finding.update(verdict="pass", value="seen")
        for table in experiment["tables"]:
            for value in (value for row in table["rows"] for value in row["values"]):
                value["ours"] = {"n": 1, "of": 1, "mean": 1.5, "std": 0.0}
    experiments["measures"]["summaries"][0]["rows"] = [[name, "0.83", "0.47"] for name in MEASURES]
    return {"experiments": experiments}


def test_every_term_is_there_and_each_number_is_found(values: dict[str, Any]) -> None:
    assert [term.name for term in TERMS] == [
        *("VC dimension", "Rademacher complexity", "uniform stability"),
        *("weight decay", "dropout", "augmentation"),
        *("early stopping", "batch norm", "SGD"),
    ]
    for term in TERMS:
        for each in (*term.measured, *term.more):
            assert each(values) is not None, f"{term.name} looks for what no experiment has"
    text = "\n".join(section(values))
    assert "not run" not in text
    assert "every network fits random labels: seen" in text
    assert "dropout: +1.50 points of test accuracy (Alexnet)" in text
    assert "path norm against the gap over the grid: tau 0.83, Psi 0.47" in text


def test_what_fails_says_so_and_what_was_not_run_too(values: dict[str, Any]) -> None:
    stability = values["experiments"]["stability"]["findings"]
    next(row for row in stability if row["statement"].startswith("uniform"))["verdict"] = "fail"
    del values["experiments"]["table1"]
    values["experiments"]["figure2"]["findings"][-1]["verdict"] = "not run"
    values["experiments"]["regularisers"]["tables"][0]["rows"][7]["values"][-1]["ours"] = None
    rows = {line.split("|")[1].strip(): line for line in section(values) if line.startswith("|")}
    assert "replaced sample: not so, seen" in rows["uniform stability"]
    assert "every network fits random labels" not in rows["Rademacher complexity"]
    assert rows["batch norm"].split("|")[4].strip() == "not run"
    assert rows["batch norm"].split("|")[5].strip() == "not run"


def test_a_record_without_measures_or_of_another_kind_is_shown_without_it(values: dict[str, Any]) -> None:
    for name in ("measures", "stability", "memorization"):
        del values["experiments"][name]
    assert section(values) == []
    assert "not run" in "\n".join(section({"experiments": {"stability": {"findings": []}}}))
