"""The network that a run leaves: model.pt, a plain state_dict, and model.json, what builds and feeds it again."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..corruptions import PIXEL_KINDS
from ..data.preprocess import NORMALISATIONS, Preprocessing, preprocess
from ..errors import UserError
from ..files import read_bytes, user_path, write_atomic, write_json
from ..models import build_model, is_own, source_of
from ..rng import CONTRACT_VERSION
from ..schema import Maybe, Number, check, read, shown
from ..text import printable
from .setup import RunContext
from .state import TrainState
from .torch_file import describe_misfit, loaded

WEIGHTS, MODEL = "model.pt", "model.json"
FORMAT = 1
ADVICE = "restore it, or run again"

_COUNT, _SIDE = Number(1, 2**40, whole=True), Number(1, 2**16, whole=True)
_FORMAT_SHAPE = {"format": int, "contract_version": int}
_SHAPE = {
    "architecture": {
        "name": str,
        "num_classes": _COUNT,
        "channels": Number(1, 1024, whole=True),
        "size": (_SIDE, _SIDE),
        "dropout": Number(0, 1),
        "aux_head": bool,
    },
    "model_source": Maybe({"file": str, "sha256": str}),
    "preprocessing": {
        "image_shape": (_SIDE, _SIDE, Number(1, 1024, whole=True)),
        "window": (*[Number(0, 2**16, whole=True)] * 2, _SIDE, _SIDE),
        "corruption": frozenset(("", *PIXEL_KINDS)),
        "seed": Number(0, 2**63 - 1, whole=True),
        "mean": Maybe([float]),
        "std": Maybe([float]),
        "normalisation": frozenset(NORMALISATIONS),
    },
    "classes": [str],
    "parameters": _COUNT,
    "sha256": str,
}


def save_weights(folder: Path, setup: RunContext, outcome: TrainState) -> None:
    """Write model.pt and model.json, the network of a run as it is. Raises OSError."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in setup.model.state_dict().items()}
    file = io.BytesIO()
    torch.save(weights, file)
    write_atomic(folder / WEIGHTS, file.getbuffer())
    write_json(folder / MODEL, _description(setup, outcome) | {"sha256": hashlib.sha256(file.getbuffer()).hexdigest()})


def _description(setup: RunContext, outcome: TrainState) -> dict[str, Any]:
    run, preprocessing, dataset = setup.run, setup.train.preprocessing, setup.dataset
    last = outcome.evaluated
    return {
        "format": FORMAT,
        "contract_version": CONTRACT_VERSION,
        "architecture": {
            "name": run.model.model,
            "num_classes": dataset.num_classes,
            "channels": dataset.train.images.shape[2],
            "size": list(preprocessing.size),
            "dropout": run.model.dropout,
            "aux_head": run.model.aux_head,
        },
        "model_source": setup.model_source,
        "preprocessing": {
            "image_shape": list(dataset.train.images.shape),
            "window": list(preprocessing.window),
            "corruption": preprocessing.corruption,
            "seed": preprocessing.seed,
            "mean": None if preprocessing.mean is None else preprocessing.mean.tolist(),
            "std": None if preprocessing.std is None else preprocessing.std.tolist(),
            "normalisation": preprocessing.normalisation,
        },
        "precision": run.train.precision,
        "classes": list(dataset.classes),
        "seed": run.corruption.seed,
        "parameters": setup.parameters,
        "steps": outcome.steps,
        "train_accuracy": last.train_accuracy if last is not None and last.step == outcome.steps else None,
    }


def load_model(folder: str | Path) -> nn.Module:
    """Return the network that a run left in its folder, on the CPU, in eval mode.

    folder: of a run that has ended.
    Its attribute `preprocess(images, index=None)` returns its input, as in the run's evaluation: float32 [B, C, h, w]
        for images uint8 [B, H, W, C] as the data set stores them. index: int64 [B], the sample indices, which
        random_pixels and gaussian need (rng.TEST_INDEX is added to those of test images).
    Raises UserError where there is none, or it is damaged, unknown, or of another contract.
    """
    folder = user_path(str(folder))
    if not (folder / MODEL).exists():
        problem = f"{folder} holds no {MODEL}"
        raise UserError(problem, "name the folder of a run that has ended, or of one of its seeds", value=folder)
    about = read(folder / MODEL, _FORMAT_SHAPE, ADVICE)
    for name, ours in (("format", FORMAT), ("contract_version", CONTRACT_VERSION)):
        if about[name] != ours:
            problem = f"{folder / MODEL} is of {name.replace('_', ' ')} {about[name]}, not {ours}"
            fix = "use the version of rethink_fast that wrote it"
            raise UserError(problem, fix, value=about[name], allowed=str(ours))
    read(folder / MODEL, _SHAPE, ADVICE)
    weights = _weights(folder, about)
    # A file must not have networks of any size made. An own network may do what the meta device cannot.
    own = is_own(about["architecture"]["name"])
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu" if own else "meta"), _NothingDrawnOnMeta():
            model = _built(about)
        preprocessing = _preprocessing_of(about)
    except UserError as error:
        raise UserError(f"{folder / MODEL}: {error}", value=folder / MODEL) from None
    except (ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{folder / MODEL} describes no network: {printable(str(error))[:300]}", ADVICE, value=folder / MODEL
        ) from None
    _check(weights, model.state_dict(), folder)
    if own:
        _warn_if_changed(about, folder)
    else:
        with torch.random.fork_rng(devices=[]):
            model = _built(about)
    model.load_state_dict(weights)
    shape = tuple(about["preprocessing"]["image_shape"])
    model.preprocess = partial(_preprocess, preprocessing, shape)  # type: ignore[assignment]
    return model.eval()


def _weights(folder: Path, about: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    try:
        data = read_bytes(path, limit=8 * about["parameters"] + 2**24)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", ADVICE, value=path) from None
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise UserError(f"{path} is damaged, or not that of {MODEL}: its checksum does not agree", ADVICE, value=path)
    try:
        weights: dict[str, Tensor] = loaded(data)
        check(weights, {})
    except ValueError as error:
        raise UserError(f"{path} {error}", ADVICE, value=path) from None
    return weights


def _check(weights: dict[str, Tensor], expected: dict[str, Tensor], folder: Path) -> None:
    for name in weights.keys() ^ expected.keys():
        raise UserError(
            f"{folder / WEIGHTS} has or lacks {shown(name)}, unlike {MODEL}", ADVICE, value=folder / WEIGHTS
        )
    for name, value in expected.items():
        misfit = describe_misfit(weights[name], value)
        if misfit is not None:
            raise UserError(f"{folder / WEIGHTS} has {name} of {misfit}", ADVICE, value=folder / WEIGHTS)


class _NothingDrawnOnMeta(TorchFunctionMode):
    """For a normal draw on the meta device PyTorch imports sympy, 1.7 s of processor time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # normal_ of a tensor, or a function of nn.init.
        if func.__name__.endswith("normal_"):
            drawn: Tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if drawn.is_meta:
                return drawn
        return func(*args, **kwargs)


def _built(about: dict[str, Any]) -> nn.Module:
    options = dict(about["architecture"])
    return build_model(options.pop("name"), **{**options, "size": tuple(options["size"])})


def _warn_if_changed(about: dict[str, Any], folder: Path) -> None:
    then, now = about.get("model_source"), source_of(about["architecture"]["name"])
    if then != now:
        file = (then or {}).get("file")
        logging.getLogger("rethink_fast").warning("%s has changed since the run in %s", file, folder)


def _preprocessing_of(about: dict[str, Any]) -> Preprocessing:
    network, stored = about["architecture"], about["preprocessing"]
    mean, std = (None if stored[name] is None else torch.tensor(stored[name]) for name in ("mean", "std"))
    height, width, channels = stored["image_shape"]
    top, left, *window = stored["window"]
    fits = {
        "classes": len(about["classes"]) == network["num_classes"],
        "channels": channels == network["channels"],
        "window": top + window[0] <= height and left + window[1] <= width,
        "mean and std": all(values is None or len(values) == channels for values in (mean, std)),
    }
    if not all(fits.values()):
        raise ValueError(f"its {next(name for name, fit in fits.items() if not fit)} cannot belong to the rest")
    return Preprocessing(
        window=tuple(stored["window"]),
        corruption=stored["corruption"],
        seed=stored["seed"],
        size=tuple(network["size"]),
        normalisation=stored["normalisation"],
        mean=mean,
        std=std,
    )


def _preprocess(
    preprocessing: Preprocessing, shape: tuple[int, ...], images: Tensor, index: Tensor | None = None
) -> Tensor:
    if tuple(images.shape[1:]) != shape:
        allowed = ", ".join(map(str, shape))
        raise ValueError(f"images of {list(images.shape)} are not allowed: give uint8 [B, {allowed}]")
    if index is None and preprocessing.corruption in ("random_pixels", "gaussian"):
        raise ValueError(f"{preprocessing.corruption} is a function of the sample index: give index, int64 [B]")
    if preprocessing.mean is not None and preprocessing.std is not None:
        preprocessing = replace(
            preprocessing, mean=preprocessing.mean.to(images.device), std=preprocessing.std.to(images.device)
        )
    rows = torch.arange(len(images), device=images.device)
    return preprocess(images, rows, rows if index is None else index, preprocessing, epoch=None)
