"""The limits of a container or a batch job: its control groups, of version 1 and 2, from this process's to the top.

    processors   cpu.max; cpu.cfs_quota_us and cpu.cfs_period_us
    memory       memory.max and memory.high less memory.current; memory.limit_in_bytes less memory.usage_in_bytes

A limit at any level binds, so every level counts. What cannot be seen from inside a container, or read, is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")
CGROUP = Path("/sys/fs/cgroup")


def cpu_quota() -> float | None:
    """Return the processors whose time this process's groups may use, such as 1.5, or None without a quota."""
    pairs = []
    for folder in _levels("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        pairs.append((quota, period or "100000"))
        pairs.append((_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")))
    numbers = [(_number(quota), _number(period)) for quota, period in pairs]
    return min((quota / period for quota, period in numbers if quota and period), default=None)


def memory_left() -> int | None:
    """Return the bytes that this process's groups may still take, or None without a limit.

    Pages of files that were not used lately (inactive_file) count as free: the kernel counts them as used, and gives
    them up before it refuses memory. memory.high counts as a limit: above it a process is slowed down to a crawl.
    """
    left = []
    for folder in _levels("memory"):
        stat = dict(words for line in _text(folder / "memory.stat").splitlines() if len(words := line.split()) == 2)
        limits = [_number(_text(folder / f"memory.{name}")) for name in ("max", "high", "limit_in_bytes")]
        limits.append(_number(stat.get("hierarchical_memory_limit", "")))  # version 1: also of levels out of sight
        used = _number(_text(folder / "memory.current")) or _number(_text(folder / "memory.usage_in_bytes")) or 0
        cache = _number(stat.get("total_inactive_file", stat.get("inactive_file", ""))) or 0
        left += [max(0, limit - max(0, used - cache)) for limit in limits if limit is not None]
    return min(left, default=None)


def _levels(controller: str) -> Iterator[Path]:
    """The folder of this process's group, and of each one above it, in each hierarchy that may hold the controller."""
    for line in _text(PROCESS / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        folders = [folder for root, point in _mounts(names and controller) for folder in _above(path, root, point)]
        if not folders:
            usual = (CGROUP / names, CGROUP / controller) if names else (CGROUP, CGROUP / "unified")
            folders = [folder for point in usual for folder in _above(path, "/", point)]
        yield from folders


def _mounts(controller: str) -> Iterator[tuple[str, Path]]:
    """Where a hierarchy of version 1 with this controller, or with "" of version 2, is mounted; and which group is."""
    for line in _text(PROCESS / "mountinfo").splitlines():
        mount, _, rest = line.partition(" - ")
        places, (kind, *options) = mount.split(), rest.split() or [""]
        if kind != ("cgroup" if controller else "cgroup2") or len(places) < 5:
            continue
        if not controller or controller in ",".join(options).split(","):
            root, point = (re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), name) for name in places[3:5])
            yield root, Path(point)


def _above(path: str, root: str, point: Path) -> Iterator[Path]:
    """The folders of the group `path` and of those above it where the group `root` is mounted at `point`."""
    if not point.is_dir():
        return
    group, top = PurePosixPath(path), PurePosixPath(root)
    if ".." not in top.parts and not group.is_relative_to(top):
        return  # another container's
    # A group outside the namespace is shown with "..": of the groups above it, only the mounted one can be found.
    inside = PurePosixPath() if ".." in (group.parts + top.parts) else group.relative_to(top)
    yield from (point / level for level in (inside, *inside.parents))


def _text(path: Path) -> str:
    """What a file holds, or "" where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """A whole number of at least 0; None for what is none, such as "max"."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
