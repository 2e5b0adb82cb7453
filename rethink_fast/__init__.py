"""How fast can this network memorise noise? Zhang et al. (2017) as a high-throughput benchmark.

For your own code:

    record = rethink_fast.run(Run("cifar10", corruption=Corruption("random")))  # trains, and writes the run's folder
    record = Record.load("runs/...")                                            # record["train_accuracy"]
    model = record.load_model()
    dataset = load_dataset("mnist", DataOptions("synthetic"))

`corrupt` corrupts a batch, and `CorruptedDataset` wraps any map-style dataset.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .bench.run import run
    from .bench.saved import Record
    from .config import Corruption, Data, Model, Run, Session, Train
    from .corruptions.corrupt import corrupt
    from .corruptions.dataset import CorruptedDataset
    from .data import load_dataset
    from .data.options import DataOptions
    from .errors import UserError
    from .pack.dataset import pack_dataset
    from .train.weights import load_model

_PLACES = {
    "Corruption": "config",
    "CorruptedDataset": "corruptions.dataset",
    "Data": "config",
    "DataOptions": "data.options",
    "Model": "config",
    "Record": "bench.saved",
    "Run": "config",
    "Session": "config",
    "Train": "config",
    "UserError": "errors",
    "corrupt": "corruptions.corrupt",
    "load_dataset": "data",
    "load_model": "train.weights",
    "pack_dataset": "pack.dataset",
    "run": "bench.run",
}
__all__ = [
    "CorruptedDataset",
    "Corruption",
    "Data",
    "DataOptions",
    "Model",
    "Record",
    "Run",
    "Session",
    "Train",
    "UserError",
    "__version__",
    "corrupt",
    "load_dataset",
    "load_model",
    "pack_dataset",
    "run",
]


def __getattr__(name: str) -> Any:
    # Imported at first use, so that importing one module of the package does not import all of it.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
