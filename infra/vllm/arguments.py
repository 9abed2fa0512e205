"""vLLM's arguments and environment for a release."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from configs.errors import RefusedError
from configs.release import ADAPTER, Manifest
from configs.run.servability import Device, device_here
from configs.run.serving import Serving
from configs.run.vllm_flags import arguments_of, refusal_of
from infra.vllm.adapter_names import MIDDLEWARE as ADAPTERS
from infra.vllm.adapter_names import VARIABLE as ADAPTERS_VARIABLE
from infra.vllm.sampling import MIDDLEWARE as SAMPLER
from infra.vllm.sampling import VARIABLE as SAMPLER_VARIABLE
from infra.vllm.sampling import SamplerSettings
from infra.vllm.sleep import MIDDLEWARE as SLEEP
from infra.vllm.usage import MIDDLEWARE as METER
from infra.vllm.usage import VARIABLE as METER_VARIABLE
from infra.vllm.usage import UsageSettings

# An address may carry a password, as in postgresql://user:password@host.
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "_URI", "_URL", "_DSN")


DRAIN_SECONDS = 30


MOST_ADAPTERS = 3  # one for each slot, and one whose last streams have not ended


RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # vllm/config/lora.py, MaxLoRARanks


def vllm_arguments(
    release: Path,
    manifest: Manifest,
    *,
    port: int,
    served_name: str,
    host: str = "127.0.0.1",
    sampled: bool = False,
    metered: bool = False,
    utilization: float | None = None,
    sleeps: bool = False,
) -> list[str]:
    """Arguments after `python -m vllm.entrypoints.openai.api_server` (its console script fails in the CPU build).
    `utilization`: of the GPUs' memory, in place of the release's own; `sleeps`: it can give that back and live on."""
    serving = manifest.serving
    name = f"{served_name}-base" if manifest.adapter else served_name
    arguments = [
        "--model",
        str(release.absolute()),
        "--served-model-name",
        name,
        "--host",
        host,
        "--port",
        str(port),
    ]
    arguments += [
        "--dtype",
        serving.dtype,
        "--max-model-len",
        str(serving.max_model_len),
        "--max-num-seqs",
        str(serving.max_num_seqs),
    ]
    # 0, the default, cuts open streams on SIGTERM.
    arguments += ["--shutdown-timeout", str(DRAIN_SECONDS)]
    arguments += engine_arguments(serving, utilization)
    arguments += adapter_arguments(release, manifest)
    # The last is the outermost: it sees what applications see.
    arguments += ["--enable-force-include-usage", "--middleware", METER] if metered else []
    arguments += ["--middleware", SAMPLER] if sampled else []
    arguments += ["--middleware", SLEEP] if sleeps else []
    arguments += ["--enable-sleep-mode"] if sleeps and device_of(serving) == "cuda" else []  # a CPU's has no other
    arguments += ["--enable-auto-tool-choice", "--tool-call-parser", serving.tool_parser] if serving.tool_parser else []
    arguments += ["--runner", "pooling"] if manifest.task != "causal-lm" else []
    return arguments + further_arguments(manifest)


def engine_arguments(serving: Serving, utilization: float | None) -> list[str]:
    """What is left out is vLLM's own choice."""
    is_eager = device_of(serving) == "cpu" if serving.enforce_eager is None else serving.enforce_eager
    arguments = ["--enforce-eager"] if is_eager else []
    for name, value, usual in (
        ("--gpu-memory-utilization", utilization or serving.gpu_memory_utilization, None),
        ("--tensor-parallel-size", serving.tensor_parallel_size, 1),
        ("--pipeline-parallel-size", serving.pipeline_parallel_size, 1),
        ("--kv-cache-dtype", serving.kv_cache_dtype, "auto"),
        ("--max-num-batched-tokens", serving.max_num_batched_tokens, None),
        ("--reasoning-parser", serving.reasoning_parser, None),
    ):
        arguments += [name, str(value)] if value != usual else []
    if serving.prefix_caching is not None:
        arguments.append("--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching")
    if guessed := serving.speculative:
        facts = {"method": "ngram", "num_speculative_tokens": guessed.tokens}
        facts |= {"prompt_lookup_max": guessed.longest_match, "prompt_lookup_min": guessed.shortest_match}
        arguments += ["--speculative-config", json.dumps(facts)]
    return arguments


def device_of(serving: Serving) -> Device:
    return device_here() if serving.device == "auto" else serving.device


def further_arguments(manifest: Manifest) -> list[str]:
    """`serving.vllm`. Raises RefusedError for what nobody may set: a manifest may come from anywhere."""
    given = manifest.serving.vllm
    refused = [f"{flag}: expected {why}" for flag in given if (why := refusal_of(flag))]
    if refused:
        raise RefusedError(
            f"{manifest.reference}: serving.vllm in its manifest: {'; '.join(refused)}",
            hint="tunegate quantize CONFIG, without them",
        )
    return arguments_of(given)


def adapter_arguments(release: Path, manifest: Manifest) -> list[str]:
    """Room for a few adapters, of which the release's own is the first.

    Without the list of layers vLLM 0.32.0 makes room on the head too, and dies of a request for a prompt's
    log-probabilities (docs/notes.md).
    """
    if manifest.adapter is None:
        return []
    arguments = ["--enable-lora", "--max-loras", str(MOST_ADAPTERS), "--max-lora-rank", str(padded_rank(manifest))]
    arguments += ["--lora-target-modules", *manifest.adapter_layers]
    return [
        *arguments,
        "--lora-modules",
        f"{manifest.adapter}={(release / ADAPTER).absolute()}",
        "--middleware",
        ADAPTERS,
    ]


def padded_rank(manifest: Manifest) -> int:
    """The largest rank that a server started with this release takes: vLLM makes room in steps."""
    return next(rank for rank in RANKS if rank >= manifest.adapter_rank)


def slot_environment(manifest: Manifest, devices: Sequence[str] = ()) -> dict[str, str]:
    """Ours without secrets; offline. Bytecode may be written, for vLLM imports its world in two or three processes.
    `devices`: the GPUs that it may see, by UUID or by nvidia-smi's numbers; none named: as ours."""
    kept = {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in SECRET_WORDS)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if devices else {}
    return kept | server_environment(manifest) | seen


def server_environment(manifest: Manifest) -> dict[str, str]:
    """What every server of it is told, wherever it runs."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(manifest.serving.kv_cache_gib),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def own_cores(index: int | None) -> dict[str, str]:
    """On two cores, a thread for each slot and both for a server that is alone, and no process of its own for the model
    (docs/notes.md).

    vLLM's own choice is the first core for everyone; the last it keeps free for the scheduler, which spends it on
    polling the model's process. OMP_NUM_THREADS=1 says that the other core has work of its own.
    """
    threads = 1 if index is not None or os.environ.get("OMP_NUM_THREADS") == "1" else 2
    return (
        {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(threads)}
        if len(os.sched_getaffinity(0)) == 2
        else {}
    )


def cores_of_workers(serving: Serving, nodes: Path = Path("/sys/devices/system/node")) -> dict[str, str]:
    """Cores for each of the processes that layers are split over on a CPU. vLLM itself gives each a NUMA node, and does
    not start where there are fewer (vllm/utils/ompmultiprocessing.py)."""
    count, name = serving.gpus, "VLLM_CPU_OMP_THREADS_BIND"
    if count == 1 or device_of(serving) != "cpu" or name in os.environ or len([*nodes.glob("node[0-9]*")]) >= count:
        return {}
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // count)
    groups = [[cores[(first + one) % len(cores)] for one in range(each)] for first in range(0, each * count, each)]
    return {name: "|".join(",".join(map(str, group)) for group in groups)}


def middleware_environment(
    manifest: Manifest,
    served_name: str,
    sampled: SamplerSettings | None,
    metered: UsageSettings | None = None,
    *,
    hot: bool,
    sleeps: bool = False,
) -> dict[str, str]:
    """What our middleware is told, and where vLLM finds it: in this checkout. `hot`: more adapters may be loaded while
    it runs."""
    found = middleware_settings(manifest, served_name, sampled, metered, hot=hot)
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return found | ({"PYTHONPATH": os.pathsep.join(path)} if found or sleeps else {})


def middleware_settings(
    manifest: Manifest,
    served_name: str,
    sampled: SamplerSettings | None,
    metered: UsageSettings | None,
    *,
    hot: bool,
) -> dict[str, str]:
    found = {SAMPLER_VARIABLE: json.dumps(sampled)} if sampled is not None else {}
    found |= {METER_VARIABLE: json.dumps(metered)} if metered is not None else {}
    if manifest.adapter:
        found |= {ADAPTERS_VARIABLE: json.dumps({"model": served_name, "adapter": manifest.adapter})}
        found |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if hot else {}
    return found
