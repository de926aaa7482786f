"""What the GPU's driver says through NVML, field by field: a field that cannot be read is None and says why.

NVML is absent on a machine without a driver, and single queries fail for reasons of their own (no permission, MIG, not
supported by the card), so nothing here raises. No torch: the parent process reads it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReading:
    """One GPU at one moment.

    Attributes:
        uuid: what the device is matched by: indices differ between CUDA and NVML.
        name: product name.
        total_bytes: memory of the device.
        free_bytes: not in use by any process.
        process_bytes: what this process holds on the device: context, allocator and libraries.
        foreign_pids: other processes that use the device.
        sm_clock_mhz: current clock of the multiprocessors.
        memory_clock_mhz: current clock of the memory.
        temperature_c: of the chip.
        power_w: drawn now.
        power_limit_w: enforced limit.
        energy_j: used since the driver was loaded.
        throttle_reasons: bit mask of the reasons why clocks are held down.
        ecc: error correction is on.
        mig: the device is partitioned.
        unavailable: field -> why it is None.
    """

    uuid: str
    name: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    process_bytes: int | None = None
    foreign_pids: tuple[int, ...] | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    throttle_reasons: int | None = None
    ecc: bool | None = None
    mig: bool | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)


class Gpus(Protocol):
    """The devices NVML knows, or none of them."""

    reason: str
    driver: str | None

    def uuids(self) -> tuple[str, ...]:
        """UUIDs of all devices."""
        ...

    def read(self, uuid: str) -> GpuReading:
        """A reading of one device; every field None if it is not known."""
        ...


class NoGpus:
    """Stands in where NVML cannot be used.

    Attributes:
        reason: why.
        driver: always None.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.driver: str | None = None

    def uuids(self) -> tuple[str, ...]:
        """None."""
        return ()

    def read(self, uuid: str) -> GpuReading:
        """A reading without values."""
        return _unreadable(uuid, self.reason)


class Nvml:
    """NVML through its Python bindings, initialised.

    Args:
        binding: the `pynvml` module, or what behaves like it.
    """

    reason = ""

    def __init__(self, binding: Any) -> None:
        self._nvml: Any = binding
        self.driver: str | None = self._ask("driver", {}, lambda: _text(binding.nvmlSystemGetDriverVersion()))

    def uuids(self) -> tuple[str, ...]:
        """UUIDs of all devices, in NVML's order."""
        nvml = self._nvml
        count = self._ask("count", {}, nvml.nvmlDeviceGetCount) or 0
        found = []
        for index in range(count):
            handle = self._ask("handle", {}, partial(nvml.nvmlDeviceGetHandleByIndex, index))
            uuid = None if handle is None else self._ask("uuid", {}, partial(nvml.nvmlDeviceGetUUID, handle))
            if uuid is not None:
                found.append(_text(uuid))
        return tuple(found)

    def read(self, uuid: str) -> GpuReading:
        """A reading of the device with this UUID, with or without its `GPU-` prefix (torch omits it)."""
        nvml = self._nvml
        failed: dict[str, str] = {}
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        handle = self._ask("uuid", failed, lambda: nvml.nvmlDeviceGetHandleByUUID(name.encode()))
        if handle is None:
            return _unreadable(uuid, failed["uuid"])

        def ask(field_name: str, query: Callable[[Any], Any]) -> Any:
            return self._ask(field_name, failed, lambda: query(handle))

        memory = self._ask("total_bytes", failed, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        if memory is None:
            failed["free_bytes"] = failed["total_bytes"]
        process_bytes, foreign = self._processes(handle, failed)
        return GpuReading(
            uuid=name,
            name=ask("name", lambda h: _text(nvml.nvmlDeviceGetName(h))),
            total_bytes=None if memory is None else int(memory.total),
            free_bytes=None if memory is None else int(memory.free),
            process_bytes=process_bytes,
            foreign_pids=foreign,
            sm_clock_mhz=ask("sm_clock_mhz", lambda h: int(nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM))),
            memory_clock_mhz=ask(
                "memory_clock_mhz", lambda h: int(nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM))
            ),
            temperature_c=ask(
                "temperature_c", lambda h: int(nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU))
            ),
            power_w=ask("power_w", lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000.0),
            power_limit_w=ask("power_limit_w", lambda h: nvml.nvmlDeviceGetEnforcedPowerLimit(h) / 1000.0),
            energy_j=ask("energy_j", lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000.0),
            throttle_reasons=ask("throttle_reasons", lambda h: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(h))),
            ecc=ask("ecc", lambda h: bool(nvml.nvmlDeviceGetEccMode(h)[0])),
            mig=ask("mig", lambda h: bool(nvml.nvmlDeviceGetMigMode(h)[0])),
            unavailable=failed,
        )

    def _processes(self, handle: Any, failed: dict[str, str]) -> tuple[int | None, tuple[int, ...] | None]:
        """Bytes of this process, and the other processes.

        A process may be in the compute and in the graphics list, each time with all of its memory: the larger counts.
        """
        nvml = self._nvml
        lists = [
            self._ask("foreign_pids", failed, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
            self._ask("foreign_pids", failed, lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)),
        ]
        if all(found is None for found in lists):
            failed["process_bytes"] = failed["foreign_pids"]
            return None, None
        failed.pop("foreign_pids", None)
        entries = [entry for found in lists for entry in found or ()]
        mine = [int(e.usedGpuMemory) for e in entries if e.pid == os.getpid() and e.usedGpuMemory is not None]
        if not mine:
            failed["process_bytes"] = "NVML does not list this process (another PID namespace?) or not its memory"
        foreign = tuple(sorted({int(e.pid) for e in entries} - {os.getpid()}))
        return (max(mine) if mine else None), foreign

    def _ask(self, field_name: str, failed: dict[str, str], query: Callable[[], Any]) -> Any:
        """The answer, or None with the reason noted."""
        try:
            return query()
        except self._nvml.NVMLError as error:
            failed[field_name] = str(error)
        except AttributeError as error:  # the installed bindings are older than this query
            failed[field_name] = f"these NVML bindings cannot: {error}"
        return None


def open_nvml(binding: Any = None) -> Gpus:
    """NVML, or a stand-in that says why there is none.

    Args:
        binding: what to use instead of the installed `pynvml`.
    """
    if binding is None:
        try:
            import pynvml
        except ImportError as error:
            return NoGpus(f"the NVML bindings (nvidia-ml-py) are not installed: {error}")
        binding = pynvml
    try:
        binding.nvmlInit()
    except binding.NVMLError as error:
        return NoGpus(f"NVML: {error}")
    return Nvml(binding)


def _unreadable(uuid: str, reason: str) -> GpuReading:
    fields = set(GpuReading.__dataclass_fields__) - {"uuid", "unavailable"}
    return GpuReading(uuid=uuid, unavailable=dict.fromkeys(sorted(fields), reason))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
