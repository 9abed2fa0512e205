"""The seam to NVML, its only user: which GPUs are here, what is free on each, who holds it, which are linked.

nvidia-ml-py comes with the locks; the library that it loads comes with the driver. Without that there is no GPU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from configs.errors import ExternalError

GIB = 2**30
USUAL_SHARE = 0.92  # vLLM's own (vllm/config/cache.py)
# Beyond a share: CUDA's context and the graphs, which vLLM takes after it has counted (vllm/v1/worker/gpu_worker.py).
BESIDE_GIB = 1.5


class Device(NamedTuple):
    """A GPU, or an instance of one (MIG). `held`: GiB by the process that holds them; `linked`: the same for GPUs that
    NVLink connects, or that all are without it."""

    uuid: str
    name: str
    total_gib: float
    free_gib: float
    held: dict[int, float]
    linked: str = ""
    is_instance: bool = False

    def usable_gib(self, ours: set[int], taken_gib: float = 0.0) -> float:
        """What there is beside what others hold. `ours`: processes that make room, or are the question. `taken_gib`:
        what these were told to take: in a container NVML names no process, or by numbers of the host, or not how much
        one holds; so what nobody is named for is theirs up to that."""
        named = sum(gib for pid, gib in self.held.items() if pid in ours)
        nobodys = max(0.0, self.total_gib - self.free_gib - sum(self.held.values()))
        return self.free_gib + named + min(max(0.0, taken_gib - named), nobodys)


@contextmanager
def nvml() -> Iterator[Any]:
    """The library, loaded; None where no driver is."""
    try:
        import pynvml
    except ImportError:  # an environment of an earlier lock
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise ExternalError(f"NVML: {error}", hint="nvidia-smi") from error
    finally:
        pynvml.nvmlShutdown()


def devices() -> list[Device]:
    """Those that CUDA may use, in the driver's order; none without a driver. Raises ExternalError where it fails."""
    with nvml() as library:
        if library is None:
            return []
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        links = links_of(library, handles)
        return [one for handle, link in zip(handles, links, strict=True) for one in parts_of(library, handle, link)]


def visible_devices() -> list[Device]:
    """Those that this process sees (CUDA_VISIBLE_DEVICES), in its order."""
    here = devices()
    named = {str(number): one for number, one in enumerate(here)} | {one.uuid: one for one in here}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return here if seen is None else [named[one] for word in seen.split(",") if (one := word.strip()) in named]


def free_share(count: int) -> float | None:
    """Of the memory of the first `count` GPUs that this process sees (CUDA_VISIBLE_DEVICES), what one more server may
    take beside what runs there. None where that is as much as vLLM takes by itself, or no GPU is here."""
    shares = [(one.free_gib - BESIDE_GIB) / one.total_gib for one in visible_devices()[:count]]
    least = min(shares, default=USUAL_SHARE)
    return None if least >= USUAL_SHARE else max(0.01, math.floor(1000 * least) / 1000)


def parts_of(library: Any, handle: Any, link: str) -> Iterator[Device]:
    """The GPU; where it is split, its instances in its place."""
    if not is_split(library, handle):
        yield describe(library, handle, link, is_instance=False)
        return
    for index in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except library.NVMLError:  # as many as there may be, not as there are
            continue
        yield describe(library, instance, "", is_instance=True)


def is_split(library: Any, handle: Any) -> bool:
    try:
        return bool(library.nvmlDeviceGetMigMode(handle)[0])
    except library.NVMLError:  # a GPU that cannot be
        return False


def describe(library: Any, handle: Any, link: str, *, is_instance: bool) -> Device:
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    held = {
        int(one.pid): (one.usedGpuMemory or 0) / GIB for one in library.nvmlDeviceGetComputeRunningProcesses(handle)
    }
    uuid, name = library.nvmlDeviceGetUUID(handle), library.nvmlDeviceGetName(handle)
    return Device(uuid, name, memory.total / GIB, memory.free / GIB, held, link, is_instance)


def links_of(library: Any, handles: list[Any]) -> list[str]:
    """By GPU the name of those that it is linked with: the lowest of their numbers. Where NVLink connects none, layers
    go over the bus, to any of them."""
    pairs = [
        (one, other)
        for one in range(len(handles))
        for other in range(one)
        if has_link(library, handles[one], handles[other])
    ]
    if not pairs:
        return [""] * len(handles)
    lowest = list(range(len(handles)))
    for _ in handles:
        for one, other in pairs:
            lowest[one] = lowest[other] = min(lowest[one], lowest[other])
    return [str(number) for number in lowest]


def has_link(library: Any, one: Any, other: Any) -> bool:
    try:
        status = library.nvmlDeviceGetP2PStatus(one, other, library.NVML_P2P_CAPS_INDEX_NVLINK)
    except library.NVMLError:
        return False
    return bool(status == library.NVML_P2P_STATUS_OK)
