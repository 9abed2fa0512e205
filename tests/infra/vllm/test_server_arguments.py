"""What the vLLM server of a slot is given: its arguments, its environment without our secrets, its cores. A small
Python server stands in for vLLM."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.environment.config import DeployConfig
from configs.environment.tracing import Tracing
from configs.errors import RefusedError
from configs.run.serving import Serving
from infra.vllm.arguments import middleware_environment, own_cores, slot_environment, vllm_arguments
from infra.vllm.tracing import trace_arguments, trace_environment, tracing_of
from tests.paths import PACKAGES, ROOT
from tests.support.slots import Start, manifest, server_of, start

__all__ = ["start"]
pytestmark = pytest.mark.unit

GPT = (
    "--model /releases/demo --served-model-name assistant --host 127.0.0.1 --port 8101 "
    "--dtype float32 --max-model-len 512 --max-num-seqs 32 --shutdown-timeout 30 --enforce-eager"
)
CLASSIFIER = f"{GPT} --runner pooling"
CUDA: dict[str, Any] = {"device": "cuda"}
SECRETS = (
    "TUNEGATE_API_KEY TUNEGATE_ROUTER_KEY MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN MLFLOW_TRACKING_URI "
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY "
    "AWS_SESSION_TOKEN HF_TOKEN HUGGING_FACE_HUB_TOKEN OPENAI_API_KEY PGPASSWORD "
    "CI_JOB_TOKEN CI_REPOSITORY_URL GITLAB_TOKEN my_secret_word"
)


def words(**serving: Any) -> list[str]:
    """Those beyond what every server gets."""
    made = manifest("causal-lm").model_copy(update={"serving": Serving.model_validate(serving)})
    return vllm_arguments(Path("/releases/demo"), made, port=8101, served_name="assistant")[16:]


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        ({"device": "cpu"}, ["--enforce-eager"]),
        (CUDA, []),
        (CUDA | {"enforce_eager": True}, ["--enforce-eager"]),
        ({"device": "cpu", "enforce_eager": False}, []),
        (
            CUDA | {"gpu_memory_utilization": 0.45, "tensor_parallel_size": 4, "pipeline_parallel_size": 2},
            ["--gpu-memory-utilization", "0.45", "--tensor-parallel-size", "4", "--pipeline-parallel-size", "2"],
        ),
        (
            CUDA | {"kv_cache_dtype": "fp8", "max_num_batched_tokens": 8192, "reasoning_parser": "qwen3"},
            ["--kv-cache-dtype", "fp8", "--max-num-batched-tokens", "8192", "--reasoning-parser", "qwen3"],
        ),
        (CUDA | {"prefix_caching": True}, ["--enable-prefix-caching"]),
        (CUDA | {"prefix_caching": False}, ["--no-enable-prefix-caching"]),
        (CUDA | {"vllm": {"block-size": 32, "async-scheduling": False}}, ["--block-size=32", "--no-async-scheduling"]),
    ],
)
def test_what_serving_says_reaches_vllm_and_the_rest_is_vllms_choice(
    serving: dict[str, Any], expected: list[str]
) -> None:
    assert words(**serving) == expected


@pytest.mark.parametrize(("device", "flags"), [("cuda", ["--enable-sleep-mode"]), ("cpu", [])])
def test_a_server_that_can_sleep_has_our_path_for_it_and_vllms_mode_where_there_is_a_gpu(
    device: str, flags: list[str]
) -> None:
    made = manifest("causal-lm").model_copy(update={"serving": Serving.model_validate({"device": device})})
    given = vllm_arguments(Path("/releases/demo"), made, port=8101, served_name="m", sleeps=True)
    assert given[-2 - len(flags) :] == ["--middleware", "infra.vllm.sleep.Sleep", *flags]
    told = middleware_environment(made, "m", None, hot=False, sleeps=True)
    assert told["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert "VLLM_SERVER_DEV_MODE" not in told


def test_tokens_are_guessed_from_the_prompt(tmp_path: Path) -> None:
    flag, value = words(**CUDA, speculative={"tokens": 3})
    assert flag == "--speculative-config"
    assert json.loads(value) == {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 2,
    }


def test_a_manifest_that_asks_for_what_nobody_may_set_is_not_served() -> None:
    """`check` saw no such YAML: it may come from anywhere."""
    with pytest.raises(RefusedError, match=r"trust-remote-code: .*runs code from elsewhere"):
        words(vllm={"trust-remote-code": True, "block-size": 32})


@pytest.mark.parametrize(("task", "expected"), [("causal-lm", GPT), ("sequence-classification", CLASSIFIER)])
def test_these_are_all_the_arguments_that_vllm_gets(task: str, expected: str) -> None:
    assert (
        " ".join(vllm_arguments(Path("/releases/demo"), manifest(task), port=8101, served_name="assistant")) == expected
    )


def test_a_model_that_writes_tool_calls_is_served_with_the_parser_of_its_dialect() -> None:
    found = vllm_arguments(Path("/releases/demo"), manifest(tool_parser="hermes"), port=8101, served_name="assistant")
    assert " ".join(found) == f"{GPT} --enable-auto-tool-choice --tool-call-parser hermes"


@given(
    st.sampled_from(["causal-lm", "sequence-classification"]),
    st.integers(1, 65_535),
    st.builds(Serving, max_model_len=st.integers(16, 9999)),
)
def test_a_slot_listens_on_loopback_only_whatever_its_release_says(task: str, port: int, serving: Serving) -> None:
    arguments = vllm_arguments(Path("x"), manifest(task, **serving.model_dump()), port=port, served_name="m")
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word.startswith("--host")] == ["127.0.0.1"]
    assert arguments[arguments.index("--max-model-len") + 1] == str(serving.max_model_len)


def test_the_process_is_the_serve_environments_python_with_these_arguments_in_a_session_of_its_own(
    start: Start, tmp_path: Path
) -> None:
    slot = start(healthy=False)
    arguments = vllm_arguments(tmp_path / "release", manifest(), port=slot.port, served_name="assistant")
    started = [sys.executable, "-X", f"tunegate={slot.owner}", "-m", "vllm.entrypoints.openai.api_server"]
    assert server_of(slot).cmdline() == [*started, *arguments]
    assert os.getsid(slot.pid) == slot.pid != os.getsid(0)


def test_no_secret_of_ours_reaches_the_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS.split():
        monkeypatch.setenv(name, "postgresql://me:canary@host/db")
    found = server_of(start(healthy=False)).environ()
    assert [name for name, value in found.items() if "canary" in value] == []
    assert found["PATH"] == os.environ["PATH"]


@given(
    st.text("abcXYZ_", max_size=5),
    st.sampled_from(["Key", "token", "SECRET", "passWord"]),
    st.text("abcXYZ_", max_size=5),
)
def test_a_name_that_speaks_of_a_secret_is_left_out_in_any_case(before: str, word: str, after: str) -> None:
    with mock.patch.dict(os.environ, {f"{before}{word}{after}": "canary", "PLAIN": "kept"}):
        found = slot_environment(manifest())
    assert "canary" not in found.values() and found["PLAIN"] == "kept"


def test_the_server_is_offline_tells_nobody_and_has_the_cache_that_the_release_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    expected = {"VLLM_CPU_KVCACHE_SPACE": "3", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    found = slot_environment(manifest(kv_cache_gib=3))
    assert found | expected == found and "PYTHONDONTWRITEBYTECODE" not in found


@pytest.mark.parametrize(("cores", "threads"), [({7, 3}, ["1", "1", "2"]), ({0}, [None] * 3), ({0, 1, 2}, [None] * 3)])
def test_on_two_cores_each_slot_gets_one_thread_and_a_server_alone_both_and_else_vllm_chooses(
    start: Start, monkeypatch: pytest.MonkeyPatch, cores: set[int], threads: list[str | None]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert [own_cores(index).get("OMP_NUM_THREADS") for index in (0, 1, None)] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert own_cores(None).get("OMP_NUM_THREADS") == (threads[2] and "1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    found = server_of(start(healthy=False, index=1)).environ()
    assert (found.get("OMP_NUM_THREADS"), found.get("VLLM_ENABLE_V1_MULTIPROCESSING")) == (
        threads[1],
        threads[1] and "0",
    )


def test_sampling_adds_one_argument_and_the_way_to_our_middleware_and_nothing_when_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def arguments(sampled: bool) -> list[str]:
        return vllm_arguments(Path("/releases/demo"), manifest(), port=8101, served_name="assistant", sampled=sampled)

    assert arguments(True) == [
        *arguments(False),
        "--middleware",
        "infra.vllm.sampling.Sampler",
    ] and "--middleware" not in arguments(False)
    monkeypatch.setenv("PYTHONPATH", "/before")
    sampled: Any = {"share": 0.5}
    found = middleware_environment(manifest(), "assistant", sampled, hot=True)
    root, before = found["PYTHONPATH"].split(":")
    assert (
        before == "/before"
        and (Path(root) / "infra/vllm/sampling.py").exists()
        and found["TUNEGATE_SAMPLING"] == '{"share": 0.5}'
    )
    assert middleware_environment(manifest(), "assistant", None, hot=True) == {}


@pytest.mark.parametrize(("rank", "room"), [(1, "8"), (8, "8"), (9, "16"), (200, "256"), (512, "512")])
def test_an_unmerged_adapter_is_loaded_at_the_start_under_its_digests_name_with_room_for_one_more(
    rank: int, room: str
) -> None:
    release = manifest().model_copy(
        update={"quantization": {"scheme": "adapter", "rank": rank, "layers": ["q_proj", "v_proj"]}}
    )
    found = vllm_arguments(Path("/releases/demo"), release, port=8101, served_name="assistant", sampled=True)
    ours = (
        f"--enable-lora --max-loras 3 --max-lora-rank {room} --lora-target-modules q_proj v_proj "
        f"--lora-modules {release.adapter}=/releases/demo/lora"
    )
    middleware = "--middleware infra.vllm.adapter_names.Adapters --middleware infra.vllm.sampling.Sampler"
    expected = f"{GPT.replace('assistant', 'assistant-base')} {ours} {middleware}"
    assert " ".join(found) == expected and release.adapter == f"{release.name}@{release.digest[7:19]}"


def test_only_a_server_that_is_to_take_more_adapters_opens_the_api_for_it() -> None:
    release = manifest().model_copy(update={"quantization": {"scheme": "adapter", "rank": 8, "layers": ["q_proj"]}})
    cold, hot = (middleware_environment(release, "assistant", None, hot=hot) for hot in (False, True))
    assert json.loads(cold["TUNEGATE_ADAPTER"]) == {"model": "assistant", "adapter": release.adapter}
    assert hot == cold | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


def test_traces_go_where_the_yaml_says_and_bear_the_names_of_our_figures(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"name": "shop", "model": "my model", "gate": None}
    assert tracing_of(DeployConfig.model_validate(facts), "blue", "r") is None
    assert trace_arguments(None) == [] and trace_environment(None) == {}
    tracing = {"endpoint": "http://127.0.0.1:4318/v1/traces", "protocol": "http/protobuf"}
    traced = tracing_of(DeployConfig.model_validate(facts | {"tracing": tracing}), "blue", "calls@sha256:" + "1" * 64)
    slot = start(healthy=False, traced=traced)
    assert server_of(slot).cmdline()[-2:] == ["--otlp-traces-endpoint", "http://127.0.0.1:4318/v1/traces"]
    found = server_of(slot).environ()
    assert (found["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"], found["OTEL_SERVICE_NAME"]) == ("http/protobuf", "my model")
    said = dict(pair.split("=") for pair in found["OTEL_RESOURCE_ATTRIBUTES"].split(","))
    assert {name: unquote(value) for name, value in said.items()} == {
        "tunegate.environment": "shop",
        "tunegate.slot": "blue",
        "tunegate.release": "calls@sha256:" + "1" * 64,
    }


def test_the_installed_vllm_takes_the_flag_and_has_what_it_needs_for_it() -> None:
    """By its own source; what it sends: tests/infra/vllm/test_tracing_served.py."""
    packages = ROOT / ".venv-serve" / PACKAGES
    assert '"--otlp-traces-endpoint"' in (packages / "vllm/engine/arg_utils.py").read_text(encoding="utf8")
    for lock in ("serve.txt", "gpu-serve.txt"):
        names = set(re.findall(r"(?m)^(opentelemetry[a-z-]+)==", (ROOT / "requirements" / lock).read_text()))
        assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc"} <= names
        assert "opentelemetry-exporter-otlp-proto-http" in names


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:4317", "http://[::1]:4317", "http://collector.example/v1/traces"]
)
def test_a_collector_is_an_address(endpoint: str) -> None:
    assert Tracing(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:4317", "https://x", "http://u:p@x", "http://x\n", "http://x --port 1", "http://x?y", "http://é"],
)
def test_what_is_none_or_bears_a_password_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Tracing(endpoint=endpoint)


def test_a_server_sees_the_gpus_that_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    made = manifest("causal-lm")
    assert slot_environment(made)["CUDA_VISIBLE_DEVICES"] == "7", "as CUDA has it for us"
    own = slot_environment(made, ["GPU-1", "GPU-2"])
    assert (own["CUDA_VISIBLE_DEVICES"], own["CUDA_DEVICE_ORDER"]) == ("GPU-1,GPU-2", "PCI_BUS_ID")
