"""Bad input on the command line: one line on stderr that names the value, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from rethink_fast.cli.app import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bench", "mnist", "--model", "mlp_1x521"], ["'mlp_1x521'", "mlp_3x512", "Did you mean 'mlp_1x512'?"]),
        (["bench", "mnist", "--corruption", "randm"], ["'randm'", "shuffled-pixels", "Did you mean 'random'?"]),
        (["bench", "minst"], ['"minst"', '"cifar10"', 'Did you mean "mnist"?']),
        (["bench", "mnist", "--epcohs", "3"], ["--epcohs", "--epochs"]),
        (["bench", "mnist", "--size", "big"], ["--size", '"big"']),
        (["bench", "mnist", "--corruption", "partial"], ["--probability"]),
        (["bench", "mnist", "--corruption", "partial", "--probability", "1.5"], ["--probability 1.5", "[0, 1]"]),
        (["bench", "mnist", "--corruption", "true", "--probability", "0.5"], ["--probability", "true", "partial"]),
        (["bench", "mnist", "--target-accuracy", "1.1"], ["--target-accuracy 1.1", "[0, 1]"]),
        (["bench", "mnist", "--epochs", "0"], ["--epochs 0"]),
        (["bench", "mnist", "--seed", "-1"], ["--seed -1"]),
        (["bench", "mnist", "--lr", "0"], ["--lr 0"]),
        (["bench", "mnist", "--device", "tpu"], ["'tpu'", "cpu, cuda"]),
        (["bench", "mnist", "--aux-head"], ["--aux-head", "inception_v3"]),
        (["bench", "mnist", "--model", "inception_v3", "--data", "synthetic", "--max-samples", "8"], ["28x28", "75"]),
        (["bench", "mnist", "--size", "29", "--data", "synthetic", "--max-samples", "8"], ["--size 29", "28 x 28"]),
        (
            ["bench", "mnist", "--augment", "crop", "--data", "synthetic", "--max-samples", "8"],
            ["--augment crop", "28 x 28"],
        ),
        (["bench", "mnist", "--max-samples", "1", "--data", "synthetic"], ["1 training image", "at least 2"]),
        (["bench", "mnist", "--data", "no/such/folder"], ["no/such/folder", "does not exist"]),
        (["bench", "imagenet", "--download"], ["image-net.org"]),
        (["bnch"], ['"bnch"', '"bench"']),
    ],
    ids=lambda value: "-".join(value)[:60] if isinstance(value, list) else None,
)
def test_bad_input_is_one_clear_line(
    words: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(*words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in expected:
        assert part in err
    assert not list(tmp_path.rglob("result.json"))
    assert not any((tmp_path / "runs").glob("*"))


def test_an_empty_folder_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for dataset in ("imagenet", "cifar10", "mnist"):
        assert run("bench", dataset, "--data", str(empty), "--out", str(tmp_path / "o")) == 2
        assert f"{empty} is empty" in capfd.readouterr().err
        assert not (tmp_path / "o").exists()


def test_an_unwritable_out_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    assert run("bench", "mnist", "--data", "synthetic", "--max-samples", "8", "--out", str(out)) == 2
    assert str(out) in capfd.readouterr().err


def test_a_record_is_never_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        "bench",
        "mnist",
        "--data",
        "synthetic",
        "--max-samples",
        "8",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]
    assert run(*words) == 0
    before = (tmp_path / "o" / "result.json").read_bytes()
    capfd.readouterr()
    assert run(*words) == 2
    assert "holds a record already" in capfd.readouterr().err
    assert (tmp_path / "o" / "result.json").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    out = tmp_path / "o"
    words = ["bench", "mnist", "--data", "synthetic", "--max-samples", "512", "--model", "mlp_3x512"]
    assert run(*words, "--lr", "1e5", "--batch-size", "16", "--epochs", "3", "--out", str(out)) == 2
    shown = capfd.readouterr().out
    record = json.loads((out / "result.json").read_text())
    assert record["stop_reason"] == "non_finite_loss"
    assert 1 <= record["first_non_finite_step"] == record["steps"]
    assert f"step {record['first_non_finite_step']}" in shown
    assert record["interrupted"] is False
    assert record["memorized"] is False
