"""Where a run goes on that torchrun has started anew by itself, because one of its ranks had failed."""

from __future__ import annotations

import json
from dataclasses import replace

from ..config import Run, Session
from ..errors import UserError
from ..train.checkpoint import Checkpoints
from ..train.distributed import Ranks
from .record import read_json


def check_launch(session: Session, run: Run, ranks: Ranks) -> None:
    """Raise UserError for what several processes, or a launcher that starts them anew, cannot do."""
    if ranks.may_restart and session.out is None and session.resume is None:
        raise UserError("torchrun --max-restarts needs --out DIR, where a restart finds what was done before.")
    if not ranks.several:
        return
    if session.profile:
        raise UserError(f"--profile takes a step apart in one process, and here are {ranks.count}: leave one out.")
    if session.seeds > 1:
        raise UserError(f"--seeds {session.seeds} has no effect on {ranks.count} ranks: start one run for each --seed.")
    if run.data.download:
        raise UserError(f"--download would be done by {ranks.count} ranks at once: do it first, in a run without them.")


def after_restart(session: Session, run: Run, ranks: Ranks) -> Session:
    """The session that a restart carries out: it resumes an unfinished run in its folder, from the last checkpoint.

    One that was stopped before it had a checkpoint begins again. Anything else in the folder is left alone, for
    RecordFolder to refuse: a finished run, or one of another configuration. run: resolved.
    """
    if not ranks.restarted or session.out is None:
        return session
    record, config = read_json(session.out / "result.json"), read_json(session.out / "config.json")
    if record is None or not record["interrupted"] or config != json.loads(json.dumps(run.as_dict())):
        return session
    if Checkpoints(session.out).exist():
        return replace(session, out=None, resume=session.out)
    (session.out / "result.json").unlink()
    return session
