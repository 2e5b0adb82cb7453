"""The official files, fetched only when the user asks for them (--download)."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError, bad_path
from ..files import write_atomic
from ..text import printable
from . import search_path
from .registry import REGISTRY, SMALL_SETS
from .source import Progress

FILES = {row.name: row.downloads for row in REGISTRY}
"""Where each file of a data set is, and its published MD5 sum."""

CHUNK = 2**20
SECONDS = 30
MAX_BYTES = 2**29
"""The largest of the files has 170 MB."""


def fetch(dataset: str, *, progress: Progress | None = None) -> Path:
    """Download a data set into the user's cache, check it and return its folder. Raises UserError."""
    if dataset == "imagenet":
        raise UserError(
            "imagenet cannot be downloaded without an account",
            "register at https://image-net.org, and lay it out as ROOT/train/WNID/*.JPEG and "
            "ROOT/val/WNID/*.JPEG (or ROOT/val/*.JPEG with LOC_val_solution.csv in ROOT), then give --data ROOT",
            option="--download",
            value="imagenet",
        )
    cache = search_path.cache_dir()
    if cache is None:
        problem = "--download has no place to put files, as there is no home folder"
        raise UserError(problem, "set XDG_CACHE_HOME to one", option="--download")
    folder = cache / SMALL_SETS[dataset].folder
    if not FILES[dataset]:
        raise UserError(
            f"--download does not fetch {dataset}, which is part of a larger archive",
            f"unpack the gzip.zip of EMNIST into {folder}, or name its folder by --data",
            option="--download",
            value=dataset,
        )
    for url, md5 in FILES[dataset].items():
        fetch_file(url, folder / url.rsplit("/", 1)[1], md5, progress=progress)
    return folder


def fetch_file(url: str, path: Path, md5: str, *, progress: Progress | None = None) -> None:
    """Download one file to `path`, which appears only once it is whole and has this MD5 sum. Raises UserError."""
    place = path.parent

    def fill(file: BinaryIO) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            length = answer.headers.get("Content-Length") or ""
            total, done = int(length) if length.isdecimal() else 0, 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > MAX_BYTES:
                    raise bad_path(url, f"gives more than {MAX_BYTES:,} bytes", f"fetch it by hand into {place}")
                if progress is not None:
                    progress(f"downloading {path.name}", done, max(total, done))
        if digest.hexdigest() != md5:
            raise bad_path(
                url, f"has the MD5 sum {digest.hexdigest()} instead of {md5}", "try again, or fetch it by hand"
            )

    try:
        place.mkdir(parents=True, exist_ok=True)
        write_atomic(path, fill)
    except UserError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        reason = printable(f"{error.code} {error.reason}")[:200]
        raise bad_path(url, f"answers {reason}", f"fetch it by hand into {place}") from None
    except urllib.error.URLError as error:
        reason = printable(f"{error.reason}")[:200]
        raise bad_path(url, f"cannot be reached ({reason})", f"fetch it by hand into {place}") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a redirect to something that is no address
        raise bad_path(
            url, f"could not be fetched into {place} ({printable(f'{error}')[:200]})", "try again, or fetch it by hand"
        ) from None
