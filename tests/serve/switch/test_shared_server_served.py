"""Unmerged adapters with the real vLLM: one is loaded beside the other while streams are open, each answers as peft
says, and none is reached by its name.

The tests run in order and share the deployment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serve.streams import Streams
from configs.environment.config import DeployConfig
from configs.release import short
from eval.gate import read_rules
from eval.rules.decide import decide_load
from infra.dvc.releases import folder_of
from infra.haproxy.api_keys import api_key
from infra.vllm.server import is_alive
from serve.deploy import deploy, rollback, stop_all
from serve.record.environment import Environment
from tests.support.fake_machine import receipt_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def env(config: DeployConfig) -> Iterator[Environment]:
    rules = read_rules(Path("load.yaml"))
    settings = config.model_copy(update={"capacity": "adapter"})
    found = Environment(settings, load_gate=lambda reference, figures: decide_load(rules, reference, figures))
    yield found
    stop_all(found)


@pytest.fixture(scope="module")
def old(publish: Callable[..., str]) -> str:
    return publish("old", 1, adapter_seed=1)


@pytest.fixture(scope="module")
def new(publish: Callable[..., str]) -> str:
    return publish("new", 1, adapter_seed=2)


def post(env: Environment, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(
        f"{env.router.base_url}{path}",
        json=body,
        headers={"Authorization": f"Bearer {api_key(env.config)}"},
        timeout=120,
    )


def golden(reference: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads((folder_of(reference) / "release" / "golden.jsonl").read_text().splitlines()[0])
    return line


def answer(env: Environment, reference: str, **facts: Any) -> httpx.Response:
    return post(
        env,
        "/v1/chat/completions",
        {"model": env.config.model, "messages": golden(reference)["messages"], "max_tokens": 8, "temperature": 0}
        | facts,
    )


def test_the_first_one_gets_a_server_of_its_own_that_takes_one_more(env: Environment, old: str, new: str) -> None:
    assert golden(old)["answer"] != golden(new)["answer"]
    found = deploy(env, old)
    assert receipt_in(found)["capacity"] == "surge"
    reply = answer(env, old)
    assert (
        reply.json()["choices"][0]["message"]["content"] == golden(old)["answer"]
        and reply.json()["model"] == env.config.model
    )


def test_the_second_is_loaded_and_switched_to_under_open_streams_and_none_is_cut(
    env: Environment, old: str, new: str
) -> None:
    before = env.process(env.record.state(), "blue")
    streams = Streams(f"{env.router.base_url}/v1", env.config.model, api_key(env.config), 4)
    streams.open()
    time.sleep(1)
    found = deploy(env, new)
    rolled = rollback(env)
    again = deploy(env, new)
    counted = streams.close()
    green = env.process(env.record.state(), "green")
    assert before and green and green.is_same_process(before) and receipt_in(found)["capacity"] == "adapter"
    assert (counted["streams_cut"], counted["requests_failed"], counted["releases_seen"]) == (0, 0, 2)
    assert receipt_in(found)["streams_cut"] == receipt_in(again)["streams_cut"] == 0 and rolled["release"] == old


def test_each_answers_as_peft_says_streamed_or_whole_under_the_models_own_name(env: Environment, new: str) -> None:
    reply = answer(env, new)
    assert (
        reply.json()["choices"][0]["message"]["content"] == golden(new)["answer"]
        and reply.headers["x-tunegate-release"] == new.partition("@")[2]
    )
    events = [
        json.loads(line[6:]) for line in answer(env, new, stream=True).text.splitlines() if line.startswith("data: {")
    ]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in events) == golden(new)["answer"]
    assert {one["model"] for one in events} == {reply.json()["model"]} == {env.config.model}


def test_no_caller_reaches_an_adapter_or_the_base_by_its_name_or_another_path(
    env: Environment, old: str, new: str
) -> None:
    for name in (short(old), short(new), f"{env.config.model}-base"):
        reply = answer(env, new, model=name)
        assert reply.status_code == 404 and reply.json()["error"]["param"] == "model"
    unnamed = answer(env, new, model=None)
    assert unnamed.json()["choices"][0]["message"]["content"] == golden(new)["answer"], (
        "as vLLM does where none is named"
    )
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", f"/slots/blue/{short(old)}/v1/chat/completions"):
        assert post(env, path, {"lora_name": short(old), "lora_path": "/"}).status_code == 404


def test_a_request_for_a_prompts_log_probabilities_does_not_end_the_server(env: Environment, new: str) -> None:
    """vLLM 0.32.0 on a CPU dies of it where it has room for an adapter on the head: infra/vllm/server.py,
    adapter_arguments."""
    for facts in ({"prompt_logprobs": 1}, {"echo": True, "logprobs": 1}):
        reply = post(
            env, "/v1/completions", {"model": env.config.model, "prompt": "one two three four", "max_tokens": 2} | facts
        )
        assert reply.status_code == 200
    process = env.process(env.record.state(), "green")
    assert process and is_alive(process) and answer(env, new).status_code == 200


def test_a_third_takes_the_place_of_the_one_before(env: Environment, old: str, publish: Callable[..., str]) -> None:
    third = publish("third", 1, adapter_seed=3)
    assert receipt_in(deploy(env, third))["capacity"] == "adapter"
    assert answer(env, third).json()["choices"][0]["message"]["content"] == golden(third)["answer"]
    process = env.process(env.record.state(), "blue")
    assert process
    names = {one["id"] for one in httpx.get(f"http://127.0.0.1:{process.port}/v1/models").json()["data"]}
    assert short(third) in names and short(old) not in names
