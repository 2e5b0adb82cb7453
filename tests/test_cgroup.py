"""Limits of containers and batch jobs, in trees of files like those of both versions of control groups."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Protocol

import pytest
import torch

from rethink_fast import cgroup, env
from rethink_fast.errors import UserError

GIB = 2**30
CPU = torch.device("cpu")
V2 = "30 23 0:26 / {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MEMORY = "35 31 0:32 {root} {top}/memory rw,relatime - cgroup cgroup rw,memory\n"
V1_CPU = "36 31 0:33 / {top}/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"

Files = dict[str, str | int]


class Limits(Protocol):
    """Lays out files, the process's groups and its mounts, and returns (cpu_quota, memory_left)."""

    def __call__(self, files: Files, own: str, mounts: str = "") -> tuple[float | None, int | None]: ...


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limits:
    def lay(files: Files, own: str, mounts: str = "") -> tuple[float | None, int | None]:
        top = tmp_path / "cgroup"
        for name, text in files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(f"{text}\n")
        process = tmp_path / "process"
        process.mkdir()
        (process / "cgroup").write_text(own)
        (process / "mountinfo").write_text(mounts.replace("{top}", str(top).replace(" ", "\\040")))
        monkeypatch.setattr(cgroup, "PROCESS", process)
        monkeypatch.setattr(cgroup, "CGROUP", top)
        return cgroup.cpu_quota(), cgroup.memory_left()

    return lay


def test_no_groups_no_limit(limits: Limits) -> None:
    assert limits({}, "") == (None, None)


@pytest.mark.parametrize("mounts", [V2, ""], ids=["by its mount", "in the usual place"])
def test_every_level_of_version_2_counts(limits: Limits, mounts: str) -> None:
    files: Files = {
        "slurm/cpu.max": "150000 100000",
        "slurm/memory.max": 4 * GIB,
        "slurm/memory.current": 3 * GIB,
        "slurm/job_1/memory.max": 2 * GIB,
        "slurm/job_1/memory.current": GIB // 2,
        "slurm/job_1/cpu.max": "max 100000",
        "slurm/job_1/step_0/memory.max": "max",
        "slurm/job_1/step_0/memory.current": 0,
        "slurm/job_2/memory.max": 1,
        "slurm/job_2/cpu.max": "1000 100000",
    }
    assert limits(files, "0::/slurm/job_1/step_0\n", mounts) == (1.5, GIB)


def test_version_1_by_controller(limits: Limits) -> None:
    files: Files = {
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": 50 * GIB,
        "memory/pbs/job/memory.limit_in_bytes": 3 * GIB,
        "memory/pbs/job/memory.usage_in_bytes": GIB,
        "cpu,cpuacct/pbs/cpu.cfs_quota_us": 400000,
        "cpu,cpuacct/pbs/cpu.cfs_period_us": 200000,
        "cpu,cpuacct/cpu.cfs_quota_us": -1,
        "cpu,cpuacct/cpu.cfs_period_us": 100000,
    }
    own = "9:name=systemd:/elsewhere\n4:memory:/pbs/job\n2:cpu,cpuacct:/pbs\n0::/\n"
    assert limits(files, own, V1_MEMORY.format(root="/", top="{top}") + V1_CPU) == (2.0, 2 * GIB)


def test_a_hybrid_of_both(limits: Limits) -> None:
    """Memory by version 1, processors by version 2 in its own folder."""
    files: Files = {
        "memory/a/memory.limit_in_bytes": GIB,
        "memory/a/memory.usage_in_bytes": 0,
        "unified/b/cpu.max": "100000 100000",
    }
    assert limits(files, "4:memory:/a\n0::/b\n") == (1.0, GIB)


def test_a_container_that_sees_its_own_group_alone(limits: Limits) -> None:
    """Its path is the host's, of which the mount shows what lies below the container's own group."""
    files: Files = {
        "memory/memory.limit_in_bytes": 4 * GIB,
        "memory/memory.usage_in_bytes": GIB,
        "memory/job/memory.limit_in_bytes": 2 * GIB,
        "memory/job/memory.usage_in_bytes": GIB,
    }
    mounts = V1_MEMORY.format(root="/docker/abc", top="{top}")
    assert limits(files, "4:memory:/docker/abc/job\n", mounts) == (None, GIB)


@pytest.mark.parametrize("own", ["0::/docker/abc\n", "0::/../../other\n", "0::/\n"])
def test_a_path_that_is_not_visible_leaves_the_mounted_group(limits: Limits, own: str) -> None:
    files: Files = {"memory.max": 2 * GIB, "memory.current": GIB, "cpu.max": "200000 100000"}
    assert limits(files, own, V2) == (2.0, GIB)


def test_another_containers_mount_is_not_ours(limits: Limits) -> None:
    files: Files = {"memory/memory.limit_in_bytes": 1, "memory/memory.usage_in_bytes": 0, "memory.max": "max"}
    mounts = V2 + V1_MEMORY.format(root="/docker/other", top="{top}/rootfs")
    assert limits(files, "0::/user.slice\n4:cpu:/\n", mounts) == (None, None)


def test_cache_is_free_and_high_is_a_limit(limits: Limits) -> None:
    stat = f"anon 5\ninactive_file {GIB}\nactive_file 7\nodd line of words"
    files: Files = {
        "a/memory.max": 4 * GIB,
        "a/memory.high": 3 * GIB,
        "a/memory.current": 2 * GIB,
        "a/memory.stat": stat,
    }
    assert limits(files, "0::/a\n", V2) == (None, 2 * GIB)


def test_version_1_knows_a_hidden_limit(limits: Limits) -> None:
    files: Files = {
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": GIB,
        "memory/memory.stat": f"inactive_file 3\nhierarchical_memory_limit {2 * GIB}\ntotal_inactive_file {GIB // 2}",
    }
    assert limits(files, "4:memory:/\n") == (None, 3 * GIB // 2)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000"}, (0.5, None)),  # the kernel's default period
        ({"cpu.max": ""}, (None, None)),
        ({"cpu.max": "0 100000"}, (None, None)),
        ({"cpu.max": "100000 0"}, (None, None)),
        ({"cpu.max": "-1 100000"}, (None, None)),
        ({"cpu.max": "lots of it"}, (None, None)),
        ({"memory.max": "\ufffd²"}, (None, None)),
        ({"memory.max": "9" * 5000}, (None, None)),
        ({"memory.max": GIB}, (None, GIB)),  # no file of what is used
        ({"memory.max": GIB, "memory.current": 2 * GIB}, (None, 0)),
        ({"memory.max": 0, "memory.current": 0}, (None, 0)),
        ({"memory.max/inner": "a folder in its place"}, (None, None)),
    ],
)
def test_odd_content(limits: Limits, files: Files, expected: tuple[float | None, int | None]) -> None:
    assert limits(files, "0::/\nno colons\n::\n", "garbage\n - \n" + V2) == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (1.5, 2), (7.9, 8), (64.0, 8)])
def test_cores_are_the_least_of_mask_and_quota(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: quota)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert env.cores() == env.environment()["cores"] == expected


def test_torch_gets_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    monkeypatch.setattr(env, "cores", lambda: 4)
    try:
        torch.set_num_threads(6)
        env.limit_threads(2)
        assert torch.get_num_threads() == 2
        assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "2"
        torch.set_num_threads(1)
        env.limit_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_free_memory_is_the_least_of_machine_groups_and_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_left", lambda: None)
    whole = env.free_memory(CPU)
    assert whole is not None
    assert whole > 2**28
    monkeypatch.setattr(cgroup, "memory_left", lambda: 12345)
    assert env.free_memory(CPU) == 12345
    with pytest.raises(UserError, match=r"kernel matrix of 1,000 images needs 0\.0 GB.*at most"):
        env.require_memory(50_000, 1000, CPU)
    env.require_memory(12345, 1000, CPU)
    monkeypatch.setattr(cgroup, "memory_left", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**20, 2**20))
    assert env.free_memory(CPU) == 0  # this process has more than a megabyte already
