"""`serving.vllm:`, vLLM's arguments that have no key of their own: held against its own list of them, and against what
nobody may set.

configs/run/vllm_flags.json is that list, of the pinned version; infra/vllm/flags.py writes it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict

from pydantic import JsonValue

from configs.section import nearest

LIST = Path(__file__).with_name("vllm_flags.json")

OWN = {
    "max-model-len": "serving.max_model_len",
    "max-num-seqs": "serving.max_num_seqs",
    "dtype": "serving.dtype",
    "gpu-memory-utilization": "serving.gpu_memory_utilization",
    "tensor-parallel-size": "serving.tensor_parallel_size",
    "pipeline-parallel-size": "serving.pipeline_parallel_size",
    "enforce-eager": "serving.enforce_eager",
    "kv-cache-dtype": "serving.kv_cache_dtype",
    "max-num-batched-tokens": "serving.max_num_batched_tokens",
    "enable-prefix-caching": "serving.prefix_caching",
    "reasoning-parser": "serving.reasoning_parser",
    "speculative-config": "serving.speculative",
    "tool-call-parser": "serving.tool_parser",
    "enable-auto-tool-choice": "serving.tool_parser",
    "otlp-traces-endpoint": "tracing of the environment",
    "device-ids": "slots.devices of the environment",
}

# What no YAML and no manifest may say, by the reason. The first that fits counts.
REFUSED = {
    "it runs code from elsewhere": (
        r"trust-.*|.*-plugin|logits-processors|middleware|worker-cls|worker-extension-cls|scheduler-cls|"
        r"model-class-overrides|.*-transfer-config|ec-manager-config|kv-events-config|additional-config|spec-.*"
    ),
    "its files are not the release's": (
        r"config|model|model-impl|tokenizer|tokenizer-mode|.*revision|hf-.*|config-format|load-format|download-dir|"
        r"chat-template|generation-config|ignore-patterns|model-loader-extra-config|pt-load-map-location|"
        r".*lora.*|.*-path|safetensors-.*|quantization.*|allow-deprecated-quantization"
    ),
    "the router and the agent decide where a server listens and who may ask it": (
        r".*host|.*port|uds|grpc|root-path|.*-address|master-.*|headless|api-server-count|nnodes|node-rank|"
        r"data-parallel-.*|api-key|ssl-.*|enable-ssl-refresh|allow-credentials|allowed-.*|tool-server|"
        r"served-model-name|runner|convert|shutdown-timeout|enable-sleep-mode|enable-fault-tolerance|"
        r"fault-tolerance-config|distributed-executor-backend|response-role|fingerprint-.*|"
        r"enable-force-include-usage|enable-request-id-headers|disable-log-stats|enable-scale-out"
    ),
    "prompts and answers would be written down, or read from elsewhere": (
        r"enable-log-.*|max-log-len|log-.*|logging-config|uvicorn-log-level|enable-prompt-embeds|enable-mm-embeds|"
        r"profiler-config|collect-detailed-traces|enable-tokenizer-info-endpoint|enable-trace-replay|media-io-kwargs"
    ),
}


class Flag(TypedDict, total=False):
    """One argument of vLLM: `kind` is switch, int, float, json or text; `negated`: it has a `--no-` form; `many`: it
    takes several values."""

    kind: str
    negated: bool
    many: bool
    choices: list[str]


class Wrong(NamedTuple):
    """What was found under `serving.vllm`, and what is expected in its place."""

    flag: str
    expected: str


class Known(TypedDict):
    """The file: of which version, its arguments, its parsers' names."""

    vllm: str
    flags: dict[str, Flag]
    tool_parsers: list[str]
    reasoning_parsers: list[str]


@cache
def known() -> Known:
    found: Known = json.loads(LIST.read_text(encoding="utf8"))
    return found


def known_flags() -> dict[str, Flag]:
    return known()["flags"]


def refusal_of(flag: str) -> str | None:
    """Why nobody may set it; None where one may."""
    if flag in OWN:
        return f"{OWN[flag]}, its own key"
    why = next((why for why, pattern in REFUSED.items() if re.fullmatch(pattern, flag)), None)
    return None if why is None else f"not set at all: {why}"


def wrong_flags(given: dict[str, JsonValue]) -> list[Wrong]:
    """Everything that is wrong, for the pinned vLLM."""
    return [Wrong(flag, expected) for flag, value in given.items() if (expected := expected_of(flag, value))]


def expected_of(flag: str, value: JsonValue) -> str | None:
    known = known_flags()
    if refused := refusal_of(flag):
        return refused
    if flag not in known:
        near = nearest(flag.replace("_", "-").removeprefix("--"), sorted(one for one in known if not refusal_of(one)))
        return near or "an argument of vLLM, without its dashes in front"
    return expected_value(known[flag], value)


def expected_value(flag: Flag, value: JsonValue) -> str | None:
    """What is expected instead of this value; None where it fits."""
    if flag.get("many"):
        if not isinstance(value, list) or not value:
            return "a list"
        single: Flag = {**flag, "many": False}
        return next((f"a list, each {wrong}" for one in value if (wrong := expected_value(single, one))), None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "switch": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": is_number,
        "json": isinstance(value, dict),
        "text": is_number or (isinstance(value, str) and value.isprintable() and not value.startswith("-")),
    }
    words = {"switch": "true or false", "int": "a whole number", "float": "a number", "json": "a mapping"}
    if not fits[flag["kind"]]:
        return words.get(flag["kind"], "a printable text that does not begin with a dash, or a number")
    choices = flag.get("choices")
    return f"one of {', '.join(choices)}" if choices and str(value) not in choices else None


def arguments_of(given: dict[str, JsonValue]) -> list[str]:
    """For vLLM's command line. A flag that this version does not know is handed on: vLLM says so itself."""
    words: list[str] = []
    for flag, value in given.items():
        if value is True or (value is False and known_flags().get(flag, {}).get("negated", True)):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        elif value is not False:
            words.append(f"--{flag}={json.dumps(value) if isinstance(value, dict) else value}")
    return words
