"""Recipes: what each sets, what differs from it is named, and a network without one says which have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rethink_fast.config import Corruption, Data, Model, Run, Train
from rethink_fast.defaults import ResolvedRun, resolve
from rethink_fast.errors import UserError
from rethink_fast.models import MODELS
from rethink_fast.recipes import FAST
from tests.bench.helpers import cli, load


def run_of(model: str, **train: Any) -> ResolvedRun:
    run = Run("cifar10", Data(max_samples=100), Corruption("random"), Model(model), Train(**train))
    return resolve(run, on_gpu=False, cores=1)


def test_the_paper_s_recipe_is_its_appendix() -> None:
    for model, lr in {"inception_small": 0.1, "alexnet_small": 0.01, "mlp_1x512": 0.01, "mlp_3x512": 0.01}.items():
        given = run_of(model, recipe="paper").train
        assert (given.optimizer, given.lr, given.momentum, given.lr_decay) == ("sgd", lr, 0.9, 0.95)
        assert (given.batch_size, given.weight_decay, given.schedule) == (128, 0.0, "exponential")


def test_the_recipe_of_the_authors_script_is_its_defaults() -> None:
    for model, lr in {"wrn_28_1": 0.1, "mlp_1x512": 0.01}.items():
        run = resolve(Run("cifar10", model=Model(model), train=Train(recipe="authors-script")), on_gpu=True, cores=1)
        given = run.train
        assert (given.optimizer, given.lr, given.momentum, given.weight_decay) == ("sgd", lr, 0.9, 1e-4)
        assert (given.batch_size, given.epochs, given.schedule, given.lr_decay) == (128, 300, "step", 0.1)
        assert (given.augment, given.precision, given.target_loss, run.data.size) == ((), "fp32", 0.0, 32)
        assert run.recipe_overrides == ()


def test_what_differs_from_the_authors_script_is_said() -> None:
    train = Train(recipe="authors-script", epochs=30, target_loss=0.05)
    run = resolve(Run("cifar10", Data(size=28), model=Model("wrn_28_1"), train=train), on_gpu=False, cores=1)
    assert (run.data.size, run.train.epochs, run.train.target_loss) == (28, 30, 0.05)
    expected = {"size 28 in place of 32", "epochs 30 in place of 300", "target_loss 0.05 in place of 0.0"}
    assert set(run.recipe_overrides) == expected
    with pytest.raises(UserError, match=r"authors-script has no .* inception_small: the script gives them for wrn"):
        resolve(Run("cifar10", train=Train(recipe="authors-script")), on_gpu=False, cores=1)


def test_a_recipe_that_is_changed_is_no_longer_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["mnist", "--data", "synthetic", "--max-samples", "300", "--epochs", "1", "--recipe", "paper"]
    assert cli("bench", *words, "--lr", "0.2", "--out", str(tmp_path / "o")) == 0
    assert "no longer the recipe paper: lr 0.2 in place of 0.01" in capfd.readouterr().out
    assert load(tmp_path / "o")["recipe"] == {"name": "paper", "overrides": ["lr 0.2 in place of 0.01"]}
    assert cli("bench", *words, "--lr", "0.01", "--out", str(tmp_path / "same")) == 0
    assert load(tmp_path / "same")["recipe"] == {"name": "paper", "overrides": []}


def test_a_network_without_a_recipe_says_which_have_one() -> None:
    with pytest.raises(UserError, match=r"--recipe paper has no hyper-parameters for wrn_28_1: .*mlp_1x512"):
        run_of("wrn_28_1", recipe="paper")
    for model in set(MODELS) - set(FAST):
        with pytest.raises(UserError, match=f"--recipe fast has no entry for {model}: choose"):
            run_of(model, recipe="fast")


@pytest.mark.parametrize(("images", "shown"), [("300", True), ("30000", False)])
def test_a_fast_recipe_of_far_more_images_says_so(
    images: str, shown: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["mnist", "--data", "synthetic", "--model", "mlp_1x512", "--recipe", "fast", "--precision", "fp32"]
    assert cli("bench", *words, "--max-samples", images, "--epochs", "1", "--out", str(tmp_path / "o")) == 0
    line = f"--recipe fast of mlp_1x512 was found on 50,000 images, and this run has {int(images):,}"
    assert (line in capfd.readouterr().out) == shown
