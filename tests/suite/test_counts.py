"""What is counted without a clock: that differences are seen, margins hold, and what cannot be counted says so."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import counts
from benchmarks.counts import Part, Unavailable, check, differences, instructions, resources, step
from benchmarks.counts.__main__ import PARTS, main

EXPECTED = {"a": {"operators": 10, "bytes": 1000}, "kind": "x"}


def part(found: Any, versions: Any = lambda: {"torch": "1"}) -> Part:
    return Part("made_up", "nothing", versions, lambda: found, {"bytes": 0.05})


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (EXPECTED, []),
        ({"a": {"operators": 10, "bytes": 1050}, "kind": "x"}, []),
        ({"a": {"operators": 10, "bytes": 1051}, "kind": "x"}, ["a / bytes: 1051, was 1000 (+5.1%)"]),
        ({"a": {"operators": 9, "bytes": 1000}, "kind": "x"}, ["a / operators: 9, was 10 (-10.0%)"]),
        ({"a": {"operators": 10, "bytes": 1000}, "kind": "y"}, ["kind: y, was x"]),
        ({"a": {"operators": 10}, "kind": "x"}, ["a / bytes: 1000 is no longer counted"]),
        ({"a": {"operators": 10, "bytes": 1000, "new": 1}, "kind": "x"}, ["a / new: 1 is new"]),
    ],
)
def test_every_difference_beyond_the_margin_is_a_line(found: dict[str, Any], lines: list[str]) -> None:
    assert differences(part(found), EXPECTED, found) == lines


def test_a_part_is_written_compared_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "FOLDER", tmp_path)
    assert check(part(EXPECTED), update=False).said == "not compared"
    assert check(part(EXPECTED), update=True).said == "written"
    assert check(part(EXPECTED), update=False).said == "the same"
    assert check(part({**EXPECTED, "kind": "y"}), update=False).said == "differs"
    other = check(part({}, lambda: {"torch": "2"}), update=False)
    assert (other.said, other.lines) == ("not compared", ("committed with torch 1, here torch 2",))

    def absent() -> dict[str, str | None]:
        raise Unavailable("there is no valgrind")

    assert check(part({}, absent), update=False).lines == ("there is no valgrind",)


def test_the_command_ends_with_1_where_a_count_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counts, "FOLDER", tmp_path)
    monkeypatch.setitem(PARTS, "made_up", part(EXPECTED))
    assert main(["made_up", "--update"]) == 0
    assert main(["made_up"]) == 0
    monkeypatch.setitem(PARTS, "made_up", part({**EXPECTED, "kind": "y"}))
    assert main(["made_up"]) == 1
    assert "kind: y, was x" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["unheard-of"])


def test_everything_is_committed() -> None:
    for each in PARTS.values():
        stored = json.loads(each.path.read_text())
        assert stored["versions"]
        assert stored["counts"]
    compiled = json.loads(PARTS["step"].path.read_text())["counts"]["inception_small"]["compiled"]
    assert (compiled["graph breaks"], compiled["recompilations"]) == (0, 0)
    for model in step.MODELS:
        assert json.loads(PARTS["step"].path.read_text())["counts"][model]["update"]["host synchronisations"] == 0


def test_operators_bytes_and_what_is_read_back() -> None:
    linear, x = nn.Linear(8, 4, bias=False), torch.zeros(2, 8)
    with torch.no_grad():
        assert step.counted(lambda: linear(x)) == {
            "operators": 2,
            "different operators": 2,
            "bytes written": 2 * 4 * 4,  # the transposed weight is a view
            "host synchronisations": 0,
        }
        assert step.counted(lambda: linear(x).sum().item())["host synchronisations"] == 1


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_are_counted_exactly(tmp_path: Path) -> None:
    """A loop of so many rounds has so many more instructions, and twice the same count."""
    source, program = tmp_path / "loop.cpp", tmp_path / "loop"
    source.write_text(
        "#include <cstdlib>\n"
        'extern "C" __attribute__((noinline)) void case_loop(int n) {\n'
        "  for (volatile int i = 0; i < n; i = i + 1) {}\n}\n"
        'extern "C" __attribute__((noinline)) void case_none() {}\n'
        "int main(int, char** argv) { case_none(); case_loop(std::atoi(argv[1])); return 0; }\n"
    )
    subprocess.run([*instructions.compiler(), "-O1", str(source), "-o", str(program)], check=True)
    few, more, most = (instructions.instructions(program, str(n), "loop") for n in (100, 200, 300))
    assert more > few > 0
    assert most - more == more - few
    assert instructions.instructions(program, "100", "loop") == few


def test_the_families_of_instructions() -> None:
    opcodes = ("LDG.E.64 R2", "@!P0 FFMA R1", "IMAD.MOV.U32 R1", "MUFU.LG2 R1", "STL [R1]", "NOP", "EXIT")
    sass = "".join(f"        /*{16 * k:04x}*/                   {op} ;\n" for k, op in enumerate(opcodes))
    found = resources.of_code("REG:24 STACK:8 SHARED:128 LOCAL:0 CONSTANT[0]:100", sass)
    assert found == {
        "registers": 24,
        "stack": 8,
        "spills": 1,
        "shared": 128,
        "instructions": 6,
        "mix": {"branch": 1, "float": 1, "global memory": 1, "integer": 1, "special": 1, "spills": 1},
    }
