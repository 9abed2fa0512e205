"""What could never be served on the GPUs that an environment states (`slots.gpus`), known where there are none: in
`check`, and in the job of a merge request. NVML decides on the machine itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.read import environment_path, read_environment
from configs.release import read_manifest
from configs.run.serving import Serving
from infra.files.atomic import read_json
from serve.plan.devices import Gpu, anywhere, plan_slots
from serve.plan.gpu_memory import need_of_serving, weights_gib

ANY_HOST_GIB = 0.0  # a swap needs none of the host's memory: nothing is refused for a sleep that does not fit


def refusal(environment: str | None, serving: Serving, model: Mapping[str, Any], weights: float) -> str | None:
    """Why one slot alone does not fit; None where it does, or nothing is stated, or a CPU is to serve, or the
    environment is not of this checkout. `weights`: GiB; `model`: config.json. Raises ConfigError for a YAML that is
    wrong."""
    config = read_environment(environment) if environment and environment_path(environment).exists() else None
    stated = config.slots.gpus if config else None
    if config is None or stated is None or serving.device == "cpu":
        return None
    try:
        need, arithmetic = need_of_serving(model, serving, weights)
    except KeyError:  # an architecture whose sizes are not known: the machine itself will say
        return None
    gpus = [Gpu(str(number), stated.gib, stated.gib) for number in range(stated.count)]
    if plan_slots(gpus, need, config.slots.servers, ANY_HOST_GIB, anywhere(need)):
        return None
    servers = f"{config.slots.servers} servers, each of them " if config.slots.servers > 1 else ""
    return f"{servers}{arithmetic}; {config.name} has {stated.count} x {stated.gib:g} GiB (slots.gpus)"


def refuse_unservable(environment: DeployConfig | None, release: Path) -> None:
    """Raises RefusedError for a release that would never fit there. One that is not here yet is nobody's fault."""
    if environment is None or environment.slots.gpus is None or not (release / "manifest.json").exists():
        return
    manifest, model = read_manifest(release), read_json(release / "config.json") or {}
    why = refusal(environment.name, manifest.serving, model, weights_gib(manifest))
    if why:
        raise RefusedError(
            f"{manifest.reference} does not fit the GPUs of {environment.name}: {why}",
            hint="serving.tensor_parallel_size, kv_cache_dtype or max_model_len; or a smaller quantization",
        )
