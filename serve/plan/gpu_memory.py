"""Memory of GPUs for a release: what one server needs, and where the servers of a slot find it beside what serves.
Pure: infra/nvml.py says what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest
from configs.run.family import active_width, kind_of, size_of, text_config
from configs.run.serving import Serving
from configs.slots import SlotName
from infra.nvml import BESIDE_GIB
from serve.plan.devices import Choose, Gpu, Need, Place, Servers, plan_slots, with_sleepers
from serve.record.facts import Mode, Placed, Planned

GIB = 2**30
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
BATCHED_TOKENS = 8192  # vLLM's own for a server of requests (vllm/engine/arg_utils.py)


def need_on_gpus(model: Mapping[str, Any], manifest: Manifest) -> tuple[Need, str]:
    """Of one server, and its arithmetic. `model`: the release's config.json. Raises KeyError where one lacks a size."""
    return need_of_serving(model, manifest.serving, weights_gib(manifest))


def need_of_serving(model: Mapping[str, Any], serving: Serving, weights: float) -> tuple[Need, str]:
    """The same of weights (GiB) that may not be made yet.

    The key-value cache must hold one sequence of max_model_len; what is left holds more of them (Kwon et al. 2023,
    arXiv:2309.06180, section 3). Activations: one step's widest tensors and the logits, in two bytes and in four.
    """
    text = text_config(model)
    heads, hidden = size_of(text, "num_attention_heads"), size_of(text, "hidden_size")
    head = int(text.get("head_dim") or hidden // heads)
    width = WIDTHS[serving.dtype if serving.kv_cache_dtype == "auto" else serving.kv_cache_dtype]
    token = 2 * size_of(text, "num_hidden_layers") * int(text.get("num_key_value_heads") or heads) * head * width
    one = token * serving.max_model_len / GIB if kind_of(model) == "decoder" else 0.0
    step = serving.max_num_batched_tokens or max(BATCHED_TOKENS, serving.max_model_len)
    inner = 2 * active_width(text) // serving.tensor_parallel_size + 4 * hidden
    logits = serving.max_num_seqs * size_of(text, "vocab_size") * 8
    need = Need(weights, one, (step * inner * 2 + logits) / GIB, serving.gpus)
    many = (
        f"{serving.max_num_seqs} sequences of {serving.max_model_len} would fill {one * serving.max_num_seqs:.1f} GiB"
    )
    return need, f"{need} on each{f'; {many}' if one else ''}"


def weights_gib(manifest: Manifest) -> float:
    return sum(file.size for file in manifest.files if file.path.endswith(".safetensors")) / GIB


@dataclass(frozen=True)
class Here:
    """What there is for a release's servers: `gpus` without what others hold; `host_gib` of the host's memory;
    `choose`: how servers come to their GPUs. `serving`: the places of what serves, whose weights are
    `serving_weights_gib`."""

    gpus: Sequence[Gpu]
    host_gib: float
    choose: Choose
    serving: Sequence[Placed] = ()
    serving_weights_gib: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{one.uuid[:12]} {one.usable_gib:.1f} of {one.total_gib:.1f} GiB" for one in self.gpus)


def plan_places(config: DeployConfig, slot: SlotName, need: Need, arithmetic: str, here: Here) -> Planned:
    """Raises RefusedError where there is no place beside what serves nor in its place."""
    stated, count = f"{arithmetic}; {here}", config.slots.servers

    def planned(mode: Mode, why: str, places: Sequence[Place], *, sleeps: bool = False) -> Planned:
        shares = shares_of(places, need, here.gpus)
        return {"mode": mode, "why": f"{mode}: {why}: {stated}; {shares}", "places": as_facts(places, sleeps=sleeps)}

    servers: Servers = [(slot, number) for number in range(count)]
    both = plan_slots(here.gpus, need, count, here.host_gib, here.choose)
    sleeps = both is not None and both.mode == "sleep" and config.capacity != "swap"
    if not here.serving:
        if both is None:
            raise refused(config, f"no GPUs for it: {stated}")
        how = {"own": "each slot has GPUs of its own", "shared": "both slots share GPUs"}
        mode = how.get(both.mode, "one slot at a time, the other asleep" if sleeps else "one slot at a time")
        return planned("surge", mode, both.slots[slot], sleeps=sleeps)
    beside = here.choose([less(gpu, here.serving) for gpu in here.gpus], servers) if config.capacity != "swap" else None
    if beside is not None:
        return planned("surge", "beside what serves", beside)
    if config.capacity == "surge":
        raise refused(config, f"no GPUs for it beside what serves: {stated}")
    fits_host = here.host_gib >= here.serving_weights_gib and all(one.get("sleeps") for one in here.serving)
    asleep = here.choose(with_sleepers(here.gpus), servers) if sleeps and fits_host else None
    if asleep is not None:
        why = f"while what serves sleeps, {here.serving_weights_gib:.1f} GiB of it in the host's memory"
        return planned("sleep", why, asleep, sleeps=True)
    alone = here.choose(here.gpus, servers)
    if alone is None:
        raise refused(config, f"no GPUs for it even in place of what serves: {stated}")
    return planned("swap", "in place of what serves", alone, sleeps=sleeps)


def shares_of(places: Sequence[Place], need: Need, gpus: Sequence[Gpu]) -> str:
    """What each server's share comes to on the smallest of its GPUs, and how many sequences of max_model_len the rest
    of it holds."""
    sizes, words = {one.uuid: one.total_gib for one in gpus}, []
    for place in places:
        gib = place.utilization * min(sizes[uuid] for uuid in place.gpus)
        left = gib - need.weights / need.width - need.activations
        rest = f", {left:.1f} for the cache: {left * need.width / need.cache:.1f} sequences" if need.cache else ""
        words.append(f"{place.utilization:g} of {'+'.join(uuid[:12] for uuid in place.gpus)}, {gib:.1f} GiB{rest}")
    return f"a server takes {'; '.join(words)}; and {BESIDE_GIB} GiB beside it for CUDA and its graphs"


def less(gpu: Gpu, serving: Sequence[Placed]) -> Gpu:
    """Without what the servers that serve have taken, or may take yet."""
    taken = [one["utilization"] * gpu.total_gib + BESIDE_GIB for one in serving if gpu.uuid in one["gpus"]]
    return gpu._replace(usable_gib=gpu.usable_gib - sum(taken))


def as_facts(places: Sequence[Place], *, sleeps: bool = False) -> list[Placed]:
    more: dict[str, bool] = {"sleeps": True} if sleeps else {}
    return [{"gpus": [*one.gpus], "utilization": one.utilization, **more} for one in places]  # type: ignore[typeddict-item]


def refused(config: DeployConfig, why: str) -> RefusedError:
    return RefusedError(
        f"{config.name}: {why}",
        hint="serving.tensor_parallel_size, kv_cache_dtype or max_model_len; a smaller quantization; or capacity: swap",
    )
