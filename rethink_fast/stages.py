"""The stages a run's wall time is made of. `with stage(NAME):` marks one; it costs nothing unless a watch is on.

order -> load -> decode -> copy -> corruption and augmentation -> forward -> backward -> update
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

STEP_STAGES = ("order", "load", "decode", "copy", "corruption and augmentation", "forward", "backward", "update")
"""What a training step goes through, in order."""

STAGES = (*STEP_STAGES, "evaluation", "checkpoint", "compile")


class StageTimer(Protocol):
    """What times the stages."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """Return a context whose time belongs to the stage `name`, less what belongs to stages inside it."""
        ...


_watch: StageTimer | None = None
_NOBODY: AbstractContextManager[None] = nullcontext()


def stage(name: str) -> AbstractContextManager[None]:
    """Mark a block as one of STAGES."""
    return _NOBODY if _watch is None else _watch.span(name)


@contextmanager
def profiling(watch: StageTimer | None) -> Iterator[None]:
    """Time every stage of this process by `watch` for the length of a block; None times nothing."""
    global _watch
    before, _watch = _watch, watch
    try:
        yield
    finally:
        _watch = before


def is_profiling() -> bool:
    """Return whether the stages are timed."""
    return _watch is not None
