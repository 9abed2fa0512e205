"""What NVML says of GPUs, instances and links. The library is a fake: no GPU is here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ExternalError
from infra.nvml import GIB, Device, devices, free_share

pytestmark = pytest.mark.unit


class NVMLError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """`gpus`: facts of each; `links`: pairs that NVLink connects."""

    NVMLError = NVMLError
    NVML_P2P_CAPS_INDEX_NVLINK, NVML_P2P_STATUS_OK = 2, 0

    def __init__(self, gpus: list[dict[str, Any]], links: set[frozenset[int]] | None = None) -> None:
        super().__init__(gpus=gpus, links=links or set(), opened=0, has_driver=True)

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        if self.gpus[index].get("lost"):
            raise NVMLError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetMigMode(self, gpu: dict[str, Any]) -> list[int]:
        if "instances" not in gpu:
            raise NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = gpu["instances"][index]
        except IndexError:
            raise NVMLError("Not Found") from None
        return found

    def nvmlDeviceGetMemoryInfo(self, gpu: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(total=gpu["total"] * GIB, free=gpu["free"] * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: dict[str, Any]) -> list[SimpleNamespace]:
        held = gpu.get("held", {})
        return [SimpleNamespace(pid=pid, usedGpuMemory=None if gib is None else gib * GIB) for pid, gib in held.items()]

    def nvmlDeviceGetUUID(self, gpu: dict[str, Any]) -> str:
        return str(gpu["uuid"])

    def nvmlDeviceGetName(self, gpu: dict[str, Any]) -> str:
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetP2PStatus(self, one: dict[str, Any], other: dict[str, Any], index: int) -> int:
        numbers = frozenset(self.gpus.index(gpu) for gpu in (one, other))
        return 0 if numbers in self.links else 6


def gpu(number: int, **facts: Any) -> dict[str, Any]:
    return {"uuid": f"GPU-{number}", "total": 80, "free": 79} | facts


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml([gpu(0)])
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


def test_without_a_driver_there_is_no_gpu(library: FakeNvml) -> None:
    library.has_driver = False
    assert devices() == []


def test_a_gpu_is_known_by_its_uuid_and_by_who_holds_its_memory(library: FakeNvml) -> None:
    library.gpus = [gpu(0, free=20, held={10: 40, 11: 18, 12: None})]
    (found,) = devices()
    assert (found.uuid, found.total_gib, found.free_gib) == ("GPU-0", 80, 20)
    assert found.held == {10: 40, 11: 18, 12: 0}, "a driver in a container may not say how much"
    assert found.usable_gib({11, 99}) == 38
    assert library.opened == 0


@pytest.mark.parametrize(
    ("held", "taken", "usable"),
    [
        ({}, 36.0, 60.0 + 20.0),
        ({}, 10.0, 60.0 + 10.0),
        ({11: 20}, 36.0, 80.0),
        ({99: 20}, 36.0, 60.0),
        ({11: 0}, 20.0, 80.0),
        ({99: 12}, 36.0, 60.0 + 8.0),
    ],
    ids=[
        "nobody named",
        "less was taken",
        "ours named",
        "a stranger's",
        "named without how much",
        "the stranger's rest",
    ],
)
def test_what_nobody_is_named_for_is_ours_as_far_as_we_took_it(
    held: dict[int, float], taken: float, usable: float
) -> None:
    assert Device("GPU-0", "x", 80.0, 60.0, held).usable_gib({11}, taken) == usable


def test_a_gpu_that_is_split_is_its_instances(library: FakeNvml) -> None:
    parts = [{"uuid": f"MIG-{number}", "total": 20, "free": 20} for number in range(3)]
    library.gpus = [gpu(0, instances=parts), gpu(1)]
    assert [(one.uuid, one.is_instance) for one in devices()] == [
        ("MIG-0", True),
        ("MIG-1", True),
        ("MIG-2", True),
        ("GPU-1", False),
    ]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (set(), [{0, 1, 2, 3}]),
        ({frozenset({0, 1}), frozenset({2, 3})}, [{0, 1}, {2, 3}]),
        ({frozenset({3, 2}), frozenset({2, 1}), frozenset({1, 0})}, [{0, 1, 2, 3}]),
        ({frozenset({0, 3})}, [{0, 3}, {1}, {2}]),
    ],
    ids=["the bus alone", "two pairs", "a chain", "one pair"],
)
def test_gpus_that_nvlink_connects_bear_one_name(
    library: FakeNvml, links: set[frozenset[int]], expected: list[set[int]]
) -> None:
    library.gpus, library.links = [gpu(number) for number in range(4)], links
    names: dict[str, set[int]] = {}
    for number, one in enumerate(devices()):
        names.setdefault(one.linked, set()).add(number)
    assert sorted(names.values(), key=min) == expected


def test_a_gpu_that_fails_is_an_error_of_the_world(library: FakeNvml) -> None:
    library.gpus = [gpu(0), gpu(1, lost=True)]
    with pytest.raises(ExternalError, match="GPU is lost"):
        devices()
    assert library.opened == 0


@pytest.mark.parametrize(
    ("free", "visible", "count", "share"),
    [
        ([79, 79], None, 1, None),
        ([40, 79], None, 1, 0.481),
        ([40, 79], "1", 1, None),
        ([40, 79], "GPU-0", 1, 0.481),
        ([79, 20], "0, GPU-1", 2, 0.231),
        ([79, 20], "1,0", 1, 0.231),
        ([1, 79], None, 1, 0.01),
        ([], None, 1, None),
        ([40], "", 1, None),
    ],
    ids=["alone", "beside another", "the other GPU", "by UUID", "the fuller of two", "in CUDA's order", "full",
         "no GPU", "none to be seen"],
)  # fmt: skip
def test_one_more_server_takes_what_others_left(
    library: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    free: list[float],
    visible: str | None,
    count: int,
    share: float | None,
) -> None:
    library.gpus = [gpu(number, free=gib) for number, gib in enumerate(free)]
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_share(count) == share
