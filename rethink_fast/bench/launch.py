"""What a launch of one or several processes may ask for, and the folder that its run gets."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from ..config import Run, Session
from ..defaults import ResolvedRun
from ..errors import UserError
from ..files import make_folder
from ..train.distributed import Distributed
from .console import ConsoleProgress
from .record_folder import RecordFolder
from .tensorboard import require_tensorboard


def check_launch(session: Session, run: Run, ranks: Distributed) -> None:
    """Raise UserError for options that several processes, or a launcher that restarts them, cannot serve."""
    if ranks.may_restart and session.out is None and session.resume is None:
        raise UserError(
            "torchrun --max-restarts needs a folder in which a restart finds the checkpoint",
            "add --out DIR",
            option="--out",
        )
    if session.tensorboard:
        require_tensorboard()
    if not ranks.is_distributed:
        return
    size = ranks.world_size
    if session.profile:
        raise UserError(
            f"--profile measures a single process, and there are {size}",
            "omit it, or start one process",
            option="--profile",
            value=True,
        )
    if session.seeds > 1:
        raise UserError(
            f"--seeds {session.seeds} has no effect on {size} ranks",
            "start one run for each --seed",
            option="--seeds",
            value=session.seeds,
            allowed="1",
        )
    if run.data.download:
        raise UserError(
            f"--download would run on {size} ranks at once",
            "download first, in a run of one process",
            option="--download",
            value=True,
        )


def after_restart(session: Session, ranks: Distributed) -> Session:
    """Return the session of a process that torchrun has restarted after a failure: it resumes in its folder."""
    if ranks.restarted and session.out is not None and session.out.is_dir():
        return replace(session, out=None, resume=session.out)
    return session


def open_folder(session: Session, run: ResolvedRun) -> RecordFolder:
    """Return the folder of the run, or of the runs of several seeds: the one asked for, or a new one under runs/."""
    if session.resume is None:
        if session.out is not None:
            return RecordFolder(session.out)
        made = default_folder(run)
        return RecordFolder(made[0], made=made)
    folder = RecordFolder(session.resume, resumed=True)
    if session.seeds > 1 and (folder.path / "config.json").exists():
        folder.close()
        raise UserError(
            f"--resume {folder.path} is a run with one seed",
            f"omit --seeds {session.seeds}",
            option="--seeds",
            value=session.seeds,
            allowed="1",
        )
    return folder


def can_resume(folder: RecordFolder, run: ResolvedRun, session: Session, screen: ConsoleProgress) -> bool:
    """Return whether the run resumes from a checkpoint in its folder; if not, it starts over there.

    run: resolved.
    Raises UserError where --resume names a folder that is not this run's.
    """
    if session.resume is None or folder.made:
        return False
    if folder.has_checkpoint(run):
        return True
    screen.warn(f"{folder.path} has no checkpoint: the run starts over there")
    return False


def default_folder(run: ResolvedRun) -> list[Path]:
    """Make runs/DATE-TIME-DATASET-CORRUPTION in the current folder, with a number where that exists.

    Returns the folders made, the deepest first.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{run.dataset}-{run.corruption.corruption}"
    number = 0
    while True:
        number += 1
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            return make_folder(path)
        except FileExistsError:
            if Path("runs").is_dir():
                continue
            raise UserError("runs is not a folder", "choose a folder by --out", option="--out", value="runs") from None
        except OSError as error:
            raise UserError(
                f"{path} cannot be made ({error.strerror})",
                "choose another folder by --out",
                option="--out",
                value=path,
            ) from None
