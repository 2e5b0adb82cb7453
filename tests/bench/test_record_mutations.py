"""Records with strange content: every reader takes them, or says in one line which file and which key do not fit."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rethink_fast import files, schema
from rethink_fast.bench.record_folder import RecordFolder
from rethink_fast.bench.saved import Record
from rethink_fast.bench.seeds import combine
from rethink_fast.cli.app import main
from rethink_fast.cli.plan import PlanOptions, estimate
from rethink_fast.compare import metrics, records, view
from rethink_fast.errors import UserError
from rethink_fast.experiments import cache
from rethink_fast.report.write import write_report

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 1e-320, 1e300, 10**400, float("nan"), float("inf")),
    *("", "x", "\x1b[31m\n\u202e", "a" * 100_000, "../../etc", [], [1], [[[]]], {}, {"": {"a": [None]}}),
)
ABSENT = object()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "run"
    words = "bench mnist --data synthetic --max-samples 100 --epochs 2 --device cpu --compile off --profile --out"
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), str(folder)])
    assert stopped.value.code == 0
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutations(values: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """The values with one of them changed or removed."""
    chosen, where = random.Random(12), list(places(values))
    for _ in range(number):
        made = copy.deepcopy(values)
        *outer, last = chosen.choice(where)
        container = made
        for key in outer:
            container = container[key]
        value = chosen.choice((*STRANGE, ABSENT))
        if value is ABSENT:
            del container[last]
        else:
            container[last] = value
        yield made


def survives(path: Path, values: Any, use: Callable[[Path], object]) -> bool:
    """Whether a reader takes the values. If not, its line names the file."""
    path.write_text(json.dumps(values))
    try:
        use(path)
    except UserError as error:
        line = str(error)
        assert str(path) in line or path.name in line or "different scale" in line or "the plan" in line, line
        assert "\n" not in line
        assert len(line) < 10_000
        return False
    return True


def test_every_reader_of_a_runs_record_survives_hundreds_of_mutations(real: Path, tmp_path: Path) -> None:
    whole = json.loads((real / "result.json").read_text())
    path = tmp_path / "result.json"
    good = metrics.read(real)

    def compared(path: Path) -> None:
        files.to_json(view.as_dict(records.compare(good, metrics.read(path), 0.03)))

    def planned(path: Path) -> None:
        files.to_json([line.value for line in estimate("mnist", PlanOptions(record=path))[0]])

    def loaded(path: Path) -> None:
        record = Record.load(path.parent)
        files.to_json([record.memorized, record.seconds_to_memorize, record.train_accuracy, dict(record)])

    def resumed(path: Path) -> None:
        with RecordFolder(tmp_path, resumed=True) as folder:
            record = folder.record()
            if record is not None:
                files.to_json(combine([whole, record], wanted=2))

    readers = (compared, planned, loaded, resumed)
    assert all(survives(path, whole, use) for use in readers)
    taken = sum(survives(path, values, use) for values in mutations(whole, 400) for use in readers)
    assert 0 < taken < 1600


def test_a_seeds_record_and_a_cache_entry_survive_mutations(real: Path, tmp_path: Path) -> None:
    whole = json.loads((real / "result.json").read_text())
    seeds = {"schema": 3, "seeds": [0, 1], "runs": [whole, whole]}
    for values in mutations(seeds, 150):
        survives(tmp_path / "result.json", values, metrics.read)
    identity = {"run": {"dataset": "mnist"}}
    (tmp_path / "result.json").write_text(json.dumps(whole))
    (tmp_path / "metrics.csv").write_bytes((real / "metrics.csv").read_bytes())
    cache.mark_complete(tmp_path, identity)
    seal = json.loads((tmp_path / cache.SEAL).read_text())
    assert cache.load(tmp_path, identity) is not None
    for values in mutations(seal, 100):
        (tmp_path / cache.SEAL).write_text(json.dumps(values))
        with suppress(ValueError):
            cache.load(tmp_path, identity)


def test_a_reproduction_survives_mutations(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "benchmarks" / "results" / "reproductions" / "laptop-20261127"
    whole = json.loads((committed / "reproduction.json").read_text())
    for name in ("figure1", "figure2", "memorization"):
        del whole["experiments"][name]  # pictures take long
    path = tmp_path / "reproduction.json"
    assert survives(path, whole, lambda path: write_report(path.parent))
    for values in mutations(whole, 60):
        survives(path, values, lambda path: write_report(path.parent))
        assert {each.name for each in tmp_path.iterdir()} == {"reproduction.json", "report.html", "report.md"}


def odd_file(kind: str, path: Path) -> Path:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(10 * 2**30)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "not UTF-8":
        path.write_bytes(b'{"schema": "\xff\xfe"}')
    elif kind == "long number":
        path.write_text('{"schema": ' + "9" * 5000 + "}")
    elif kind == "deep":
        path.write_text('{"a":' * 500 + "1" + "}" * 500)
    elif kind == "deeper":
        path.write_text("[" * 10**6)
    return path


ODD = ("fifo", "device", "large", "link to itself", "not UTF-8", "long number", "deep", "deeper", "absent")


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = odd_file(kind, tmp_path / "x.json")
    for words in (["compare", str(path), str(path)], ["plan", "mnist", "--record", str(path)]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert path.name in err
    if kind not in ("device", "absent"):
        (tmp_path / "reproduction.json").symlink_to(path)
        with pytest.raises(UserError, match=r"reproduction\.json"):
            write_report(tmp_path)


def test_the_check_names_the_key_and_the_value() -> None:
    shape = {"a": [{"b": schema.Number(0, 1)}], "c": schema.Maybe(frozenset(("x", "y")))}
    schema.check({"a": [{"b": 0.5}, {"b": 1}]}, shape)
    for value, said in (
        ({"a": [{"b": 0}, {"b": 2}]}, r"has a\[1\]\.b 2, where a number in \[0, 1\] is expected"),
        ({"a": [{"b": True}]}, r"has a\[0\]\.b True"),
        ({"a": [{"b": 10**400}]}, r"has a\[0\]\.b an integer of 1,329 bits"),
        ({"a": [{}]}, r"lacks a\[0\]\.b"),
        ({"a": {}}, "where a list is expected"),
        ({"a": [], "c": "z"}, "has c z, where one of x, y is expected"),
        ({"a": [], "c": "\x1b[31m"}, r"has c \\x1b\[31m, where"),
    ):
        with pytest.raises(ValueError, match=said):
            schema.check(value, shape)


def test_what_is_read_has_every_optional_key(tmp_path: Path) -> None:
    gpu = schema.Maybe({"name": str, "driver": schema.Maybe(str)})
    shape = {"gpu": gpu, "runs": schema.Each([{"x": schema.Maybe(float)}]), "pair": ({"y": schema.Maybe(int)}, str)}
    path = tmp_path / "file.json"
    path.write_text('{"gpu": {"name": "H100"}, "runs": {"a": [{}, {"x": 1.0}]}, "pair": [{}, "z"]}')
    assert schema.read(path, shape, "") == {
        "gpu": {"name": "H100", "driver": None},
        "runs": {"a": [{"x": None}, {"x": 1.0}]},
        "pair": [{"y": None}, "z"],
    }
    path.write_text('{"runs": {}, "pair": [{"y": 2}, "z"]}')
    assert schema.read(path, shape, "") == {"gpu": None, "runs": {}, "pair": [{"y": 2}, "z"]}
