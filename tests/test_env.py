"""`rethink-fast env`: what it says, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rethink_fast import Data, Model, Run, Session, Train, run
from rethink_fast.cli.app import main
from rethink_fast.cli.env import backends
from rethink_fast.env import choose_device, has_bfloat16
from rethink_fast.errors import UserError


def test_every_backend_that_is_not_usable_says_why_and_what_to_do() -> None:
    for backend in backends():
        assert backend.why
        assert backend.usable or backend.do, backend.name


def test_env_prints_a_table_and_json(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["env"])
    assert stopped.value.code == 0
    shown = capfd.readouterr().out
    assert torch.__version__ in shown
    assert "DALI" in shown
    with pytest.raises(SystemExit):
        main(["env", "--json"])
    facts = json.loads(capfd.readouterr().out)
    assert facts["packages"]["torch"] == torch.__version__
    names = {backend["name"] for backend in facts["backends"]}
    assert names == {backend.name for backend in backends()} >= {"CUDA", "DALI", "C++ kernels", "CUDA C++ kernels"}
    assert all(backend["usable"] or backend["do"] for backend in facts["backends"])


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="cuda:99"):
        choose_device("cuda:99")
    assert choose_device("cpu").type == "cpu"


def test_a_gpu_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are captured, and Triton launches, on the current device."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, 1))
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cuda") == torch.device("cuda")
    assert chosen == [torch.device("cuda:1")]


@pytest.mark.parametrize("flags", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bfloat16_is_read_from_the_flags(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: f"flags : sse avx2 {flags}\n")
    assert has_bfloat16()
    monkeypatch.setattr(Path, "read_text", lambda _: "flags : sse avx2 avx512f\n")
    assert not has_bfloat16()


@pytest.mark.parametrize(("instructions", "precision"), [(False, "bf16"), (False, "fp32"), (True, "bf16")])
def test_emulated_bf16_is_reported(
    instructions: bool,
    precision: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("rethink_fast.bench.run.has_bfloat16", lambda: instructions)
    train = Train(epochs=1, precision=precision, device="cpu")
    what = Run("mnist", Data("synthetic", max_samples=20), model=Model("mlp_1x512"), train=train)
    run(what, session=Session(tmp_path / "o"))
    assert ("bf16 is emulated" in caplog.text) == (not instructions and precision == "bf16")
