"""Options: each says what it affects and states its range; what depends on that is derived from it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
import torch

from rethink_fast.cli.app import app, main
from rethink_fast.config import Affects, Corruption, Data, Model, Run, Session, Train
from rethink_fast.data.digest import key_of
from rethink_fast.defaults import affecting, resolve
from rethink_fast.errors import UserError, in_range
from rethink_fast.experiments import cache
from rethink_fast.recipes import FAST, RECIPES, fast_recipe, recipe

SECTIONS = (Data, Corruption, Model, Train)
OPTIONS = [(section, option) for section in (*SECTIONS, Session) for option in fields(section)]
NAMES = [option.name for _, option in OPTIONS]


def test_every_option_says_what_it_affects() -> None:
    assert [option.metadata.get("affects") in get_args(Affects) for _, option in OPTIONS] == [True] * len(OPTIONS)
    assert len(set(NAMES)) == len(NAMES), "affecting() gives the options by name"


def test_every_number_has_a_range() -> None:
    for _, option in OPTIONS:
        number = any(word in option.type for word in ("int", "float"))
        assert (option.metadata["range"] is not None) == number, option.name


def test_what_a_step_computes_is_affected_by_these_options() -> None:
    """A list that does not come from the metadata: what a recipe may set and what builds the network are results."""
    results = {"size", "max_samples", "corruption", "probability", "seed", "model", "dropout", "aux_head", "augment"}
    results |= {"batch_size", "optimizer", "lr", "schedule", "lr_decay", "momentum", "weight_decay", "precision"}
    results |= {"compile", "deterministic"}
    run = Run("cifar10")
    assert set(affecting(run, "results")) == results
    assert set(affecting(run, "length")) == {"epochs", "target_accuracy", "target_loss", "eval_interval"}
    free = {"data", "download", "workers", "on_decode_error", "cache_images", "recipe", "device"}
    assert set(affecting(run, "timings")) == free
    assert set(recipe("fast", "inception_small", 1000)) <= results | {
        "epochs",
        "eval_interval",
        "target_accuracy",
        "target_loss",
    }


OTHER: dict[str, Any] = {
    "cache_images": "none",
    "workers": 3,
    "data": "elsewhere",
    "on_decode_error": "skip",
    "device": "cpu:0",
}


@pytest.mark.parametrize("name", OTHER)
def test_an_option_of_timings_alone_leaves_the_key_of_a_result(name: str) -> None:
    run = resolve(Run("cifar10"), on_gpu=False, cores=1)
    section = "train" if name == "device" else "data"
    other = replace(run, **{section: replace(getattr(run, section), **{name: OTHER[name]})})
    keys = {key_of(cache.identity(each, "data", torch.device("cpu"))) for each in (run, other)}
    assert len(keys) == 1


def test_options_are_plain_values() -> None:
    run = Run("cifar10", train=Train(augment=("flip", "crop")))
    values = affecting(run, *get_args(Affects))
    assert json.loads(json.dumps(values)) == values
    assert values["augment"] == ["flip", "crop"]


def outside(least: float, most: float) -> list[str]:
    if isinstance(least, int):
        return [str(least - 1), str(int(most) + 1)]
    return [repr(least - 1e-9 if least == 0 else least / 2), repr(most * 2), "nan"]


@pytest.mark.parametrize("option", [o for _, o in OPTIONS if o.metadata["range"]], ids=lambda option: option.name)
def test_a_value_out_of_range_is_refused_with_the_range(option: Any, capfd: pytest.CaptureFixture[str]) -> None:
    least, most = option.metadata["range"]
    words = f"--{option.name.replace('_', '-')}"
    for value in outside(least, most):
        with pytest.raises(SystemExit) as stopped:
            main(["bench", "mnist", "--data", "synthetic", f"{words}={value}"])
        assert stopped.value.code == 2
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert line.startswith(f"rethink-fast: {words} ")
        stated = line.split("choose one in [")[1].removesuffix("].").split(", ")
        assert [float(bound) for bound in stated] == [float(least), float(most)]


def test_the_ends_of_a_range_are_in_it() -> None:
    assert in_range("x", 1e6, 1e-12, 1e6) == 1e6
    assert in_range("x", 1, 1, 4) == 1
    with pytest.raises(UserError, match=r"--lr 1e\+30 is out of range: choose one in \[1e-12, 1e\+06\]\.$"):
        in_range("--lr", 1e30, 1e-12, 1e6)
    with pytest.raises(UserError, match=r"x nan is out of range: choose one in \[0, 0.5\]"):
        in_range("x", float("nan"), 0.0, 0.5)


@pytest.mark.parametrize(
    ("name", "model", "images"),
    [(name, model, 50_000) for name, entries in RECIPES.items() for model in entries]
    + [("fast", model, max(each.least, 1)) for model, entries in FAST.items() for each in entries],
)
def test_a_recipe_holds_values_that_the_options_take(name: str, model: str, images: int) -> None:
    """Each value of a recipe, given as an option beside it, is no override."""
    options = recipe(name, model, images)
    words = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
    _, bound, _ = app.parse_args(["bench", "mnist", "--recipe", name, "--model", model, *words], exit_on_error=False)
    given = bound.arguments
    data = replace(given.get("data", Data()), max_samples=images)
    run = Run("mnist", data, model=given["model"], train=given["train"])
    assert resolve(run, on_gpu=False, cores=1).recipe_overrides == ()


def test_the_fast_recipe_is_the_last_that_has_enough_images() -> None:
    small, middle, large = FAST["alexnet_small"]
    borders = [(middle.least - 1, small), (middle.least, middle), (large.least - 1, middle), (large.least, large)]
    for images, expected in ((100, small), *borders, (1_281_167, large)):
        assert fast_recipe("alexnet_small", images) is expected
    run = Run("cifar10", model=Model("alexnet_small"), train=Train(recipe="fast"))
    for limit, expected in ((1_000, small), (10_000, middle), (None, large), (10**7, large)):
        chosen = resolve(replace(run, data=Data(max_samples=limit)), on_gpu=True, cores=1).train
        assert chosen.batch_size == expected.options["batch_size"] != 128
    assert all(entries[0].least == 0 for entries in FAST.values())
