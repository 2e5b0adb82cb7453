"""What NVML says of a GPU while it works: power, energy, clocks, and what holds the clocks back."""

from __future__ import annotations

import statistics
import threading
import time
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


def _handle(device: torch.device) -> Any:
    """NVML's handle of a torch device; NVML numbers devices otherwise than torch does."""
    import pynvml

    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def gpu_state(device: torch.device) -> dict[str, Any]:
    """Driver, clocks, temperature, power and what holds the clocks back, now; {"unavailable": reason} without NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # the package, the driver or the right to ask is missing
        return {"unavailable": str(error)}
    try:
        handle = _handle(device)
        return {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "power_limit_watts": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            "throttle_reasons": hex(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        }
    except Exception as error:
        return {"unavailable": str(error)}
    finally:
        pynvml.nvmlShutdown()


BENIGN_REASONS = ("GpuIdle", "ApplicationsClocksSetting")
"""Reasons that are no throttling: nothing to do, and clocks that somebody asked for."""


class ClockSampler:
    """The clock of a GPU and what holds it back, beside each sample of a timing. Use as a context manager."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._handle: Any = None

    def __enter__(self) -> ClockSampler:
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = _handle(self._device)
        except Exception:  # the package, the driver or the right to ask is missing
            self._handle = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            import pynvml

            pynvml.nvmlShutdown()

    def now(self) -> tuple[int | None, int | None]:
        """MHz of the multiprocessors, and the bits of NVML's throttle reasons; None where it cannot tell."""
        if self._handle is None:
            return None, None
        import pynvml

        harmless = 0
        for name in BENIGN_REASONS:
            harmless |= getattr(pynvml, f"nvmlClocksEventReason{name}", 0)
        try:
            clock = pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)
            reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except Exception:
            return None, None
        return clock, reasons & ~harmless


class PowerMonitor:
    """Watches a GPU from a thread between `start` and `stop`: five samples a second, and the energy counter."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="power", daemon=True)
        self._watts: list[float] = []
        self._mhz: list[int] = []
        self._reasons = 0
        self._joules: float | None = None
        self._seconds = 0.0
        self._error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, images: int) -> dict[str, Any]:
        """What was seen; {"unavailable": reason} where NVML cannot tell. images: trained meanwhile."""
        self._stopped.set()
        self._thread.join()
        if self._error is not None or not self._watts:
            return {"unavailable": self._error or "no sample was taken"}
        import pynvml

        integrated = statistics.fmean(self._watts) * self._seconds
        joules = integrated if self._joules is None else self._joules
        seen = [
            words
            for name, words in REASONS.items()
            if self._reasons & getattr(pynvml, f"nvmlClocksEventReason{name}", 0)
        ]
        return {
            "seconds": self._seconds,
            "mean_watts": joules / self._seconds,
            "joules_per_image": joules / images if images else None,
            "energy_from": "samples of the power" if self._joules is None else "the GPU's energy counter",
            "mean_sm_mhz": statistics.fmean(self._mhz),
            "least_sm_mhz": min(self._mhz),
            "throttle_reasons": seen,
        }

    def _watch(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # the package, the driver or the right to ask is missing
            self._error = str(error)
            return
        try:
            handle = _handle(self._device)
            start, before = time.perf_counter(), self._energy(handle)
            while True:
                self._watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
                self._mhz.append(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
                self._reasons |= pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
                if self._stopped.wait(SAMPLE_SECONDS):
                    break
            after = self._energy(handle)
            self._seconds = time.perf_counter() - start
            self._joules = None if before is None or after is None else after - before
        except Exception as error:
            self._error = str(error)
        finally:
            pynvml.nvmlShutdown()

    def _energy(self, handle: Any) -> float | None:
        """Joules since the driver was loaded; None where the GPU does not count them."""
        import pynvml

        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except pynvml.NVMLError:
            return None
