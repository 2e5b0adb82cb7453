"""What NVML reports of a GPU while it works: power, energy, clocks, and what holds the clocks back."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

SAMPLE_SECONDS = 0.2

REASONS = {
    "GpuIdle": "idle",
    "ApplicationsClocksSetting": "applications' clocks",
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "temperature (software)",
    "HwThermalSlowdown": "temperature (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
}
"""NVML's reasons for a lower clock, by the end of the constant's name, in words."""
BENIGN_REASONS = ("GpuIdle", "ApplicationsClocksSetting")
"""Reasons that are no throttling: nothing to do, and clocks that somebody asked for."""


@contextmanager
def _nvml(device: torch.device) -> Iterator[tuple[Any, Any]]:
    """NVML and its handle of a torch device; NVML numbers devices otherwise than torch does.

    Raises ImportError or NVMLError where the package, the driver or the permission is missing.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    finally:
        pynvml.nvmlShutdown()


def _bit(nvml: Any, reason: str) -> int:
    return int(getattr(nvml, f"nvmlClocksEventReason{reason}", 0))


def _reasons(nvml: Any, handle: Any) -> set[str]:
    """The names in REASONS of what holds the clocks back now."""
    bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return {name for name in REASONS if bits & _bit(nvml, name)}


def _in_words(reasons: set[str]) -> list[str]:
    return [words for name, words in REASONS.items() if name in reasons]


def gpu_state(device: torch.device) -> dict[str, Any]:
    """Return driver, clocks, temperature, power and throttle reasons, now; {"unavailable": reason} without NVML."""
    try:
        with _nvml(device) as (nvml, handle):
            return {
                "driver": nvml.nvmlSystemGetDriverVersion(),
                "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
                "memory_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
                "celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
                "watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                "power_limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
                "throttle_reasons": hex(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
            }
    except Exception as error:
        return {"unavailable": str(error)}


def gpu_use(device: torch.device) -> dict[str, Any] | None:
    """Return what shares a GPU and holds its clocks back, now; None on a CPU, or where NVML does not say.

    other_processes: that compute on it. This one must: NVML lists it too, in a container by another number.
    throttle_reasons: in words.
    """
    if device.type != "cuda":
        return None
    try:
        with _nvml(device) as (nvml, handle):
            processes = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
            reasons = _reasons(nvml, handle)
    except Exception:
        return None
    return {"other_processes": processes - 1, "throttle_reasons": _in_words(reasons)} if processes else None


class ClockSampler:
    """A context in which the clock of a GPU can be read, next to each sample of a timing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._context = ExitStack()
        self._nvml: tuple[Any, Any] | None = None

    def __enter__(self) -> ClockSampler:
        try:
            self._nvml = self._context.enter_context(_nvml(self._device))
        except Exception:
            self._nvml = None
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def now(self) -> tuple[int | None, int | None]:
        """Return the MHz of the multiprocessors and NVML's throttle reasons as bits; None where NVML has no answer."""
        if self._nvml is None:
            return None, None
        nvml, handle = self._nvml
        try:
            clock = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        except Exception:
            return None, None
        return clock, reasons & ~sum(_bit(nvml, name) for name in BENIGN_REASONS)


class PowerMonitor:
    """Watches a GPU from a thread between `start` and `stop`: five samples a second, and the energy counter."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="power", daemon=True)
        self._watts: list[float] = []
        self._mhz: list[int] = []
        self._reasons: set[str] = set()
        self._joules: float | None = None
        self._seconds = 0.0
        self._error: str | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, images: int) -> dict[str, Any]:
        """Return what was seen; {"unavailable": reason} without NVML. images: trained meanwhile."""
        self._stopped.set()
        self._thread.join()
        if self._error is not None or not self._watts:
            return {"unavailable": self._error or "no sample was taken"}
        integrated = statistics.fmean(self._watts) * self._seconds
        joules = integrated if self._joules is None else self._joules
        return {
            "seconds": self._seconds,
            "mean_watts": joules / self._seconds,
            "joules_per_image": joules / images if images else None,
            "energy_from": "samples of the power" if self._joules is None else "the GPU's energy counter",
            "mean_sm_mhz": statistics.fmean(self._mhz),
            "least_sm_mhz": min(self._mhz),
            "throttle_reasons": _in_words(self._reasons),
        }

    def _watch(self) -> None:
        try:
            with _nvml(self._device) as (nvml, handle):
                start, before = time.perf_counter(), _joules(nvml, handle)
                while True:
                    self._watts.append(nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
                    self._mhz.append(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
                    self._reasons |= _reasons(nvml, handle)
                    if self._stopped.wait(SAMPLE_SECONDS):
                        break
                after = _joules(nvml, handle)
                self._seconds = time.perf_counter() - start
                self._joules = None if before is None or after is None else after - before
        except Exception as error:
            self._error = str(error)


def _joules(nvml: Any, handle: Any) -> float | None:
    """Joules since the driver was loaded; None where the GPU does not count them."""
    try:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
    except nvml.NVMLError:
        return None
