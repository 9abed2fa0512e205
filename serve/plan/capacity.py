"""Memory for two servers, or for one: the arithmetic, and how long a swap lets requests wait. Pure, but for
`measure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import ADAPTER, Manifest
from configs.slots import SLOTS
from infra.state.start_time import usual_seconds
from infra.vllm.arguments import device_of
from infra.vllm.server import SlotProcess
from serve.plan.gpu_memory import weights_gib
from serve.record.event import PROOF
from serve.record.facts import Planned

GIB = 2**30
# SmolLM2-135M in bf16, 0.25 GiB of weights and 1 GiB of key-value cache: about 3.6 GiB resident over vLLM's three
# processes (vLLM 0.32.0 on a CPU).
OVERHEAD_GIB = 2.35
# Of the host for each GPU of a server: a process, CUDA's context and pinned buffers. An assumption; none was measured.
HOST_GIB = 4.0
# For the router, the agent and the page cache.
RESERVE_GIB = 0.5
# The same model was healthy 35 to 50 s after its start; the other proofs are a few requests and the load test.
START_SECONDS = 50.0
PROOF_SECONDS = 10.0
DISK_GIB_A_SECOND = 1.0  # an assumption: NVMe gives more, a network file system less


@dataclass(frozen=True)
class Need:
    """Memory of a slot's servers, GiB; the parts are one server's."""

    weights: float
    key_value_cache: float
    overhead: float = OVERHEAD_GIB
    servers: int = 1

    @property
    def total(self) -> float:
        return self.servers * (self.weights + self.key_value_cache + self.overhead)

    def __str__(self) -> str:
        parts = (
            f"{self.weights:.2f} weights + {self.key_value_cache:.2f} key-value cache + {self.overhead:.2f} overhead"
        )
        each = f"{self.servers} x ({parts})" if self.servers > 1 else parts
        return f"{each} = {self.total:.2f} GiB"


def need_of(manifest: Manifest, servers: int = 1) -> Need:
    """Of the host's memory: where a GPU serves, weights and key-value cache lie there."""
    if device_of(manifest.serving) == "cuda":
        return Need(0.0, 0.0, HOST_GIB * manifest.serving.gpus, servers)
    return Need(weights_gib(manifest), float(manifest.serving.kv_cache_gib), servers=servers)


def check_devices(config: DeployConfig, manifest: Manifest) -> None:
    """Raises RefusedError where a server sees another number of GPUs than the release is spread over."""
    wanted, serving = manifest.serving.gpus, manifest.serving
    for slot in SLOTS:
        for server in range(config.slots.servers):
            found = config.slots.devices_of(slot, server)
            if found and len(found) != wanted:
                raise RefusedError(
                    f"{config.name}: slots.devices gives {slot}'s server {server + 1} {', '.join(found)}; "
                    f"{manifest.reference} is spread over {wanted}: serving.tensor_parallel_size "
                    f"{serving.tensor_parallel_size}, pipeline_parallel_size {serving.pipeline_parallel_size}",
                    hint=f"tunegate check configs/deploy/{config.name}.yaml",
                )


def adapter_gib(manifest: Manifest) -> float:
    """Of an adapter that is loaded into a server that runs: once as vLLM keeps it, once in what it reserved at
    its start (counted as overhead there)."""
    return sum(file.size for file in manifest.files if file.path.startswith(f"{ADAPTER}/")) / GIB


def decide(
    config: DeployConfig,
    need: Need,
    free_gib: float,
    serving_gib: float | None,
    start_seconds: float,
    why_not_shared: str | None = None,
) -> Planned:
    """`serving_gib`: the memory that what serves would free, None where nothing serves. `why_not_shared`: why capacity:
    adapter needs a server of its own after all.

    Raises RefusedError where there is no memory beside it nor in its place, or requests would wait too long.
    """
    usable_gib = free_gib - RESERVE_GIB
    facts: Planned = {
        "need_gib": round(need.total, 2),
        "free_gib": round(free_gib, 2),
        "reserve_gib": RESERVE_GIB,
        "start_seconds": round(start_seconds, 1),
    }
    if serving_gib is not None:
        facts["leaving_gib"] = round(serving_gib, 2)
    stated = f"needs {need}; {free_gib:.2f} free, {RESERVE_GIB:.2f} kept back"
    stated += f"; no adapter beside what serves: {why_not_shared}" if why_not_shared else ""
    if config.capacity != "swap" or serving_gib is None:
        if need.total <= usable_gib:
            return {**facts, "mode": "surge", "why": f"surge: {stated}"}
        if config.capacity == "surge" or serving_gib is None:
            raise RefusedError(
                f"{config.name}: no memory for one more server: {stated}",
                hint="serving.kv_cache_gib, a smaller quantization, or capacity: swap",
            )
    if need.total > usable_gib + serving_gib:
        raise RefusedError(
            f"{config.name}: no memory even in place of what serves ({serving_gib:.2f} GiB): {stated}",
            hint="serving.kv_cache_gib",
        )
    return {**facts, **check_wait(config, start_seconds, f"swap: {stated}, {serving_gib:.2f} held by what serves")}


def check_wait(config: DeployConfig, start_seconds: float, stated: str) -> Planned:
    """What remains of the queue's bound is the time that open streams get. Raises RefusedError where nothing does."""
    bound = config.router.queue_seconds
    if start_seconds >= bound:
        wait = f"its start and proofs take about {start_seconds:.0f} s, requests may wait {bound} s in the router"
        raise RefusedError(
            f"{config.name}: {stated}; {wait}",
            hint=f"router.queue_seconds: {round(start_seconds * 1.5)}   (or a shorter load_test.seconds)",
        )
    drain = min(float(config.drain_deadline_seconds), bound - start_seconds)
    why = f"{stated}; {start_seconds:.0f} s to start and prove, {drain:.0f} s for open streams"
    return {"mode": "swap", "drain_seconds": round(drain, 1), "why": why}


def estimate_start(config: DeployConfig, known: Mapping[str, float], size_gib: float = 0.0) -> float:
    """Seconds from start to the last proof: as each last took in this environment (`known`), else what was measured
    elsewhere, and for the bytes of a large release what a disk takes."""
    assumed = {
        "healthy": START_SECONDS + size_gib / DISK_GIB_A_SECOND,
        "load": float(config.load_test.seconds if config.gate else 0),
    }
    one = sum(known.get(proof, assumed.get(proof, PROOF_SECONDS / 3)) for proof in PROOF)
    return one * config.slots.servers  # they are proven one after the other


def decide_adapter(config: DeployConfig, need_gib: float, free_gib: float) -> Planned:
    """Into the server that runs. Raises RefusedError where even that does not fit."""
    stated = (
        f"needs {need_gib:.3f} GiB in the server that runs, beside what serves; "
        f"{free_gib:.2f} free, {RESERVE_GIB:.2f} kept back"
    )
    if need_gib > free_gib - RESERVE_GIB:
        raise RefusedError(
            f"{config.name}: no memory for one more adapter: {stated}",
            hint="serving.kv_cache_gib, or a smaller train.lora.rank",
        )
    return {
        "mode": "adapter",
        "need_gib": round(need_gib, 3),
        "free_gib": round(free_gib, 2),
        "reserve_gib": RESERVE_GIB,
        "why": f"adapter: {stated}",
    }


def measure(
    config: DeployConfig,
    manifest: Manifest,
    known: Mapping[str, float],
    serving: Sequence[SlotProcess],
    why_not_shared: str | None,
) -> Planned:
    """`decide` with this machine's memory as it is now (psutil). `why_not_shared`: why its adapter cannot go into the
    server that runs (serve/switch/shared_server.py)."""
    import psutil

    check_devices(config, manifest)
    free_gib = psutil.virtual_memory().available / GIB
    if why_not_shared is None:
        return decide_adapter(config, adapter_gib(manifest), free_gib)
    serving_gib = sum(map(resident_gib, serving)) if serving else None
    why = why_not_shared if config.capacity == "adapter" and serving else None
    need = need_of(manifest, config.slots.servers)
    usual = usual_seconds(manifest)  # of this very release on this machine, in whatever environment
    known = {**known, "healthy": usual} if usual else known
    return decide(config, need, free_gib, serving_gib, estimate_start(config, known, weights_gib(manifest)), why)


def resident_gib(process: SlotProcess) -> float:
    """What would be free if the server's whole family ended: pages that are theirs alone (USS). 0 where it is gone."""
    import psutil

    try:
        top = psutil.Process(process.pid)
        return float(sum(one.memory_full_info().uss for one in (top, *top.children(recursive=True)))) / GIB
    except psutil.Error:
        return 0.0
