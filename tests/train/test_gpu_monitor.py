"""What is read from NVML, by a double of its Python module."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rethink_fast.contention import Contention
from rethink_fast.train.gpu_monitor import ClockSampler, PowerMonitor, gpu_state, gpu_use

GPU = torch.device("cuda")


class Nvml(SimpleNamespace):
    """In place of pynvml: a GPU that is idle (bit 1) and at its power cap (bit 4), and counts 50 J a reading."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = "sm", "memory", "gpu"
    nvmlClocksEventReasonGpuIdle, nvmlClocksEventReasonSwPowerCap, nvmlClocksEventReasonHwSlowdown = 1, 4, 8

    def __init__(self) -> None:
        super().__init__(opened=0, energy=0, counts_energy=True, processes=["this one"])

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetClockInfo(self, handle: str, clock: str) -> int:
        assert handle == "GPU-1234"
        return {"sm": 1500, "memory": 2600}[clock]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return 1 | 4

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self.counts_energy:
            raise self.NVMLError
        self.energy += 50_000
        return int(self.energy)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[str]:
        return list(self.processes)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetTemperature(self, handle: str, sensor: str) -> int:
        return 40

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 300_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    double = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", double)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1234"))
    return double


def test_the_state_of_a_gpu(nvml: Nvml) -> None:
    state = gpu_state(GPU)
    assert state.pop("throttle_reasons") == hex(5)
    numbers = {"sm_mhz": 1500, "memory_mhz": 2600, "celsius": 40, "watts": 300, "power_limit_watts": 700}
    assert state == {"driver": "570.1", **numbers}
    assert nvml.opened == 0


def test_others_on_a_gpu_make_a_run_busy(nvml: Nvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rethink_fast.contention.TASKS", tmp_path)  # nothing is known of the processors
    alone = {"other_processes": 0, "throttle_reasons": ["idle", "power cap"]}
    assert gpu_use(GPU) == alone
    contention = Contention(lambda: gpu_use(GPU))
    assert contention.as_dict()["gpu_end"] == alone
    assert contention.as_dict()["busy"] is None
    nvml.processes = ["this one", "another"]
    facts = contention.as_dict()
    assert (facts["gpu_start"], facts["gpu_end"], facts["busy"]) == (alone, {**alone, "other_processes": 1}, True)
    nvml.processes = []  # where NVML may not list processes
    assert gpu_use(GPU) is None
    assert gpu_use(torch.device("cpu")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_use(GPU) is None


def test_a_clock_without_the_harmless_reasons(nvml: Nvml) -> None:
    with ClockSampler(GPU) as clock:
        assert clock.now() == (1500, 4)
        assert nvml.opened == 1
    assert nvml.opened == 0


@pytest.mark.parametrize("counts_energy", [True, False])
def test_power_and_energy(counts_energy: bool, nvml: Nvml) -> None:
    nvml.counts_energy = counts_energy
    monitor = PowerMonitor(GPU)
    monitor.start()
    while not monitor._watts:
        time.sleep(0.001)
    found = monitor.stop(images=100)
    seconds = found["seconds"]
    joules = 50 if counts_energy else 300 * seconds
    assert found["mean_watts"] == pytest.approx(joules / seconds)
    assert found["joules_per_image"] == pytest.approx(joules / 100)
    assert found["energy_from"] == ("the GPU's energy counter" if counts_energy else "samples of the power")
    assert (found["mean_sm_mhz"], found["least_sm_mhz"]) == (1500, 1500)
    assert found["throttle_reasons"] == ["idle", "power cap"]
    assert nvml.opened == 0


def test_without_nvml_it_is_said(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise nvml.NVMLError("no driver")

    monkeypatch.setattr(nvml, "nvmlInit", missing)
    assert gpu_state(GPU) == {"unavailable": "no driver"}
    with ClockSampler(GPU) as clock:
        assert clock.now() == (None, None)
    monitor = PowerMonitor(GPU)
    monitor.start()
    assert monitor.stop(images=1) == {"unavailable": "no driver"}
