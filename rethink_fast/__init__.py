"""How fast can this network memorise noise? Zhang et al. (2017) as a high-throughput benchmark.

For your own code: `corrupt` corrupts a batch, `CorruptedDataset` wraps any map-style dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CorruptedDataset", "__version__", "corrupt"]

if TYPE_CHECKING:
    from .corruptions.corrupt import corrupt
    from .data.corrupted import CorruptedDataset


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that importing one module of the package does not import all of it.
    if name == "corrupt":
        from .corruptions.corrupt import corrupt

        return corrupt
    if name == "CorruptedDataset":
        from .data.corrupted import CorruptedDataset

        return CorruptedDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
