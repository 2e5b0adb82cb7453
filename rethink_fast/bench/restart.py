"""What several processes cannot do, and where a run goes on that torchrun has started again."""

from __future__ import annotations

from dataclasses import replace

from ..config import Run, Session
from ..errors import UserError
from ..train.distributed import Distributed


def check_launch(session: Session, run: Run, ranks: Distributed) -> None:
    """Raise UserError for what several processes, or a launcher that starts them again, cannot do."""
    if ranks.may_restart and session.out is None and session.resume is None:
        raise UserError("torchrun --max-restarts needs --out DIR, where a restart finds what was done before.")
    if not ranks.is_distributed:
        return
    if session.profile:
        raise UserError(f"--profile takes a step apart in one process, and here are {ranks.world_size}: leave one out.")
    if session.seeds > 1:
        raise UserError(
            f"--seeds {session.seeds} has no effect on {ranks.world_size} ranks: start one run for each --seed."
        )
    if run.data.download:
        raise UserError(
            f"--download would be done by {ranks.world_size} ranks at once: do it first, in a run without them."
        )


def after_restart(session: Session, ranks: Distributed) -> Session:
    """Return the session of a process that torchrun has started again after a failure: it resumes in its folder."""
    if ranks.restarted and session.out is not None and session.out.is_dir():
        return replace(session, out=None, resume=session.out)
    return session
