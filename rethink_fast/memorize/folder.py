"""The folder of a population: its settings, a file for each group of models, and the results.

settings.json                      what every model depends on; written first
models/00000-00063.npz             what models 0 to 63 leave (training.Trained); whole or not there
scores.csv, predictions.npz, influence.npz, contact-sheet.png, memorize.json       written last
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..data.digest import data_identity
from ..defaults import affecting
from ..errors import UserError
from ..files import check_writable, read_bytes, remove_partial, write_atomic, write_json
from ..owned_folder import OwnedFolder
from ..rng import CONTRACT_VERSION
from ..schema import Each, read, shown
from ..train.setup import RunContext
from .presentations import SCORES
from .training import Trained

SETTINGS, MODELS = "settings.json", "models"
SCHEMA = 1
RESULTS = ("scores.csv", "predictions.npz", "influence.npz", "contact-sheet.png", "memorize.json")
WITHOUT_EFFECT = ("eval_interval", "compile")
MAX_BYTES = 2**32
BITS = ("included", "right", "test_right")


def identity(setup: RunContext, ratio: float) -> dict[str, Any]:
    """Return everything that the models depend on, but for their number, as plain values."""
    options = {k: v for k, v in affecting(setup.run, "results", "length").items() if k not in WITHOUT_EFFECT}
    common: dict[str, Any] = {"schema": SCHEMA, "contract_version": CONTRACT_VERSION, "device": setup.device.type}
    if setup.model_source is not None:
        common["model_source"] = setup.model_source["sha256"]
    samples = data_identity(setup.dataset)
    return {**common, "samples": samples, "ratio": ratio, "dataset": setup.run.dataset, **options}


def own(path: Path, settings: dict[str, Any]) -> OwnedFolder:
    """Return the folder, made or taken over, with its settings written.

    Raises UserError where it is in use, cannot be written, holds models of other settings, or something else.
    """
    folder = OwnedFolder(path)
    try:
        if (path / SETTINGS).exists():
            found = read(path / SETTINGS, Each(), "choose another folder by --out")
            differing = [
                f"{name.replace('_', ' ')} {shown(found.get(name))} there, {shown(value)} here"
                for name, value in settings.items()
                if found.get(name) != value
            ]
            if differing:
                raise _refused(path, f"holds models of other settings ({'; '.join(differing)})")
        else:
            others = sorted(name for name in os.listdir(path) if not name.startswith(".") and name != MODELS)
            if others:
                raise _refused(path, f"is not a population's folder, for it holds {shown(others[0])}")
            write_json(path / SETTINGS, settings)
        for name in RESULTS:
            check_writable(path / name, "choose another folder by --out")
        (path / MODELS).mkdir(exist_ok=True)
        remove_partial(path / MODELS)
    except OSError as error:
        folder.abandon()
        folder.close()
        raise UserError(
            f"--out {path} cannot be written ({error.strerror})", "choose another folder", option="--out", value=path
        ) from None
    except UserError:
        folder.close()
        raise
    return folder


def _refused(path: Path, problem: str) -> UserError:
    return UserError(f"--out {path} {problem}", "choose another folder by --out", option="--out", value=path)


def groups_in(path: Path) -> list[range]:
    """Return the models that have a file, in ascending order."""
    found = [re.fullmatch(r"(\d{5,})-(\d{5,})\.npz", name) for name in os.listdir(path / MODELS)]
    return sorted((range(int(m[1]), int(m[2]) + 1) for m in found if m), key=lambda group: (group.start, group.stop))


def usable_groups(path: Path, setup: RunContext, warn: Callable[[str], None]) -> list[range]:
    """Return the models whose file is whole, in ascending order; other files are removed, and `warn` says so."""
    found: list[range] = []
    for group in groups_in(path):
        try:
            if found and group.start < found[-1].stop:
                raise ValueError(f"model {group.start} is in the file before it")
            load(path, group, setup)
            found.append(group)
        except ValueError as error:
            warn(f"{group_file(path, group)} cannot be used ({error}): its models are trained again")
            group_file(path, group).unlink()
    return found


def group_file(path: Path, group: range) -> Path:
    """Return the file of some models."""
    return path / MODELS / f"{group.start:05d}-{group.stop - 1:05d}.npz"


def save(path: Path, group: range, trained: Trained) -> None:
    """Write the file of some models. Raises UserError."""
    values: dict[str, Any] = {name: np.packbits(getattr(trained, name), axis=1) for name in BITS}
    values |= {f"score_{name}": trained.scores[name] for name in SCORES}
    values |= {f"auroc_{name}": trained.auroc[name] for name in SCORES}
    plain = {field.name for field in fields(Trained)} - {*BITS, "scores", "auroc"}
    values |= {name: np.asarray(getattr(trained, name)) for name in sorted(plain)}
    file = io.BytesIO()
    np.savez(file, **values)
    write(group_file(path, group), file.getbuffer())


def write(path: Path, content: Any) -> None:
    """Write a file of the folder in one piece. Raises UserError where that cannot be."""
    try:
        write_atomic(path, content)
    except OSError as error:
        problem = f"{path} cannot be written ({error.strerror})"
        raise UserError(problem, "make room, and give the same command again", value=path) from None


def load(path: Path, group: range, setup: RunContext) -> Trained:
    """Read the file of some models. Raises ValueError, in words, where it is not whole."""
    n, k = len(setup.dataset.train.index), len(group)
    t = len(setup.dataset.test.index) if setup.dataset.test is not None else 0
    classes = setup.dataset.num_classes
    shapes: dict[str, tuple[int, ...]] = {
        **{"label_in": (n,), "label_out": (n,), "held_out": (n, classes), "images": (), "seconds": ()},
        **{"epochs": (k,), "reached": (k,), **{f"score_{name}": (n,) for name in SCORES}},
        **{f"auroc_{name}": (k,) for name in SCORES},
    }
    widths = dict(zip(BITS, (n, n, t), strict=True))
    shapes |= {name: (k, -(-width // 8)) for name, width in widths.items()}
    try:
        content = io.BytesIO(read_bytes(group_file(path, group), limit=MAX_BYTES))
        with np.load(content, allow_pickle=False) as file:
            found = {name: file[name] for name in shapes}
    except OSError as error:
        raise ValueError(error.strerror) from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise ValueError("it is not whole") from None
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(f"{name} has the shape {found[name].shape}, not {shape}")
    bits = {name: np.unpackbits(found[name], axis=1, count=width).astype(bool) for name, width in widths.items()}
    return Trained(
        **bits,
        **{name: found[name] for name in ("label_in", "label_out", "held_out", "epochs", "reached")},
        scores={name: found[f"score_{name}"] for name in SCORES},
        auroc={name: found[f"auroc_{name}"] for name in SCORES},
        images=int(found["images"]),
        seconds=float(found["seconds"]),
    )
