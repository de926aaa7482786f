"""NVML through a fake driver: right fields, and every error code becomes a reason."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from t2bench.meters.nvml import GpuReading, Nvml, open_nvml

pynvml = pytest.importorskip("pynvml")

UUID = "GPU-0123"
ERRORS = [*range(1, 29), 999]
QUERIES = {
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetMemoryInfo": "free_bytes",
    "nvmlDeviceGetClockInfo": "sm_clock_mhz",
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_w",
    "nvmlDeviceGetTotalEnergyConsumption": "energy_j",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "throttle_reasons",
    "nvmlDeviceGetEccMode": "ecc",
    "nvmlDeviceGetMigMode": "mig",
}


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


class Driver:
    """Behaves like the bindings on a machine with one GPU; any query can be made to fail."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, failing: dict[str, int] | None = None, **answers: Any) -> None:
        self._failing = failing or {}
        self._answers = {
            "nvmlInit": None,
            "nvmlSystemGetDriverVersion": b"575.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetUUID": UUID,
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetName": "Fake 100",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=1000, free=600),
            "nvmlDeviceGetClockInfo": 1500,
            "nvmlDeviceGetTemperature": 50,
            "nvmlDeviceGetPowerUsage": 250_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": 1_234_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetComputeRunningProcesses": [process(os.getpid(), 300), process(7, 50)],
            "nvmlDeviceGetGraphicsRunningProcesses": [process(os.getpid(), 320), process(7, 50)],
            **answers,
        }

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            raise AttributeError(name)

        def query(*_: Any) -> Any:
            if name in self._failing:
                raise pynvml.NVMLError(self._failing[name])
            return self._answers[name]

        return query


def test_a_full_reading() -> None:
    gpus = open_nvml(Driver())
    assert gpus.driver == "575.1"
    assert gpus.uuids() == (UUID,)
    assert gpus.read(UUID) == GpuReading(
        uuid=UUID,
        name="Fake 100",
        total_bytes=1000,
        free_bytes=600,
        process_bytes=320,  # the larger of the two lists, not their sum
        foreign_pids=(7,),
        sm_clock_mhz=1500,
        memory_clock_mhz=1500,
        temperature_c=50,
        power_w=250.0,
        power_limit_w=700.0,
        energy_j=1234.5,
        throttle_reasons=4,
        ecc=True,
        mig=False,
        unavailable={},
    )


def test_torch_names_devices_without_the_prefix() -> None:
    assert open_nvml(Driver()).read("0123").uuid == UUID


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("query", QUERIES)
def test_any_error_of_any_query_is_a_reason(query: str, code: int) -> None:
    reading = Nvml(Driver({query: code})).read(UUID)
    field = QUERIES[query]
    assert getattr(reading, field) is None
    assert reading.unavailable[field] == str(pynvml.NVMLError(code))
    assert reading.process_bytes == 320


@pytest.mark.parametrize("code", ERRORS)
def test_a_driver_that_does_not_start_is_replaced(code: int) -> None:
    gpus = open_nvml(Driver({"nvmlInit": code}))
    assert str(pynvml.NVMLError(code)) in gpus.reason
    assert gpus.uuids() == ()
    assert gpus.driver is None
    assert gpus.read(UUID).free_bytes is None
    assert gpus.read(UUID).unavailable["free_bytes"] == gpus.reason


def test_a_device_that_is_gone() -> None:
    code = pynvml.NVML_ERROR_GPU_IS_LOST
    gpus = Nvml(Driver({"nvmlDeviceGetHandleByIndex": code, "nvmlDeviceGetHandleByUUID": code}))
    assert gpus.uuids() == ()
    assert gpus.read(UUID).name is None
    assert gpus.read(UUID).unavailable["power_w"] == str(pynvml.NVMLError(code))


def test_another_pid_namespace_is_said_so() -> None:
    reading = Nvml(
        Driver(nvmlDeviceGetComputeRunningProcesses=[process(7, 50)], nvmlDeviceGetGraphicsRunningProcesses=[])
    ).read(UUID)
    assert reading.process_bytes is None
    assert "namespace" in reading.unavailable["process_bytes"]
    assert reading.foreign_pids == (7,)


def test_one_process_list_is_enough() -> None:
    reading = Nvml(Driver({"nvmlDeviceGetGraphicsRunningProcesses": pynvml.NVML_ERROR_NOT_SUPPORTED})).read(UUID)
    assert reading.process_bytes == 300
    assert "foreign_pids" not in reading.unavailable


def test_old_bindings_lack_queries() -> None:
    driver = Driver()
    del driver._answers["nvmlDeviceGetMigMode"]
    reading = Nvml(driver).read(UUID)
    assert reading.mig is None
    assert "nvmlDeviceGetMigMode" in reading.unavailable["mig"]
