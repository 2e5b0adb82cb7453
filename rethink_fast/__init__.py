"""How fast can this network memorise noise? Zhang et al. (2017) as a high-throughput benchmark.

For your own code: `corrupt` corrupts a batch, `CorruptedDataset` wraps any map-style dataset, `load_model`
gives back the network of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CorruptedDataset", "__version__", "corrupt", "load_model"]

if TYPE_CHECKING:
    from .corruptions.corrupt import corrupt
    from .corruptions.dataset import CorruptedDataset
    from .train.weights import load_model


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that importing one module of the package does not import all of it.
    if name == "corrupt":
        from .corruptions.corrupt import corrupt

        return corrupt
    if name == "CorruptedDataset":
        from .corruptions.dataset import CorruptedDataset

        return CorruptedDataset
    if name == "load_model":
        from .train.weights import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
