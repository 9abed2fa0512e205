"""/v1/models and one model of it, by the official client and by hand; HEAD /health."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import openai
import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring
from infra.haproxy.runtime_api import read_map_file
from tests.infra.conftest import SECRET, RunningProxy
from tests.infra.haproxy.test_requests import log_of

pytestmark = pytest.mark.integration
MADE = 1_764_000_000
NAMES = ["acme/teams/assistant", "100% a%41b", "%2F", "a+b?c#d;e=f", 'it\'s "quoted"', "ünï", "x' hdr evil 1 '", "-i"]
NAMES += ["%[env(HOME)]", "RELEASE", "a|b\\c"]


def client_of(proxy: RunningProxy, key: str = SECRET) -> openai.OpenAI:
    return openai.OpenAI(base_url=proxy.router.base_url + "/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_any_name_is_found_by_the_client_that_asks_for_it(
    start_proxy: Callable[..., RunningProxy], name: str
) -> None:
    proxy = start_proxy(model=name)
    proxy.router.set_release("blue", "sha256:aa", MADE)
    client = client_of(proxy)
    found = client.models.retrieve(name)
    assert (found.id, found.created, found.object, found.owned_by) == (name, MADE, "model", "tunegate")
    assert list(client.models.list()) == [found]
    assert {arrival.path for arrival in proxy.arrivals} == {"/v1/models"}, "the name goes no further"


def test_a_slash_may_be_sent_as_it_is(start_proxy: Callable[..., RunningProxy]) -> None:
    """As older clients do."""
    proxy = start_proxy(model="acme/the assistant")
    for sent in (
        "acme/the%20assistant",
        "acme%2Fthe%20assistant",
        "acme%2fthe%20assistan%74",
        quote("acme/the assistant", ""),
    ):
        assert proxy.ask("GET", f"/v1/models/{sent}").json()["id"] == "acme/the assistant"
    for sent in (
        "acme/the+assistant",
        "acme%252Fthe%20assistant",
        "acme//the%20assistant",
        "acme/%2e/the%20assistant",
        "acme/the%20assistant/",
    ):
        assert proxy.ask("GET", f"/v1/models/{sent}").status_code == 404, sent


def test_another_name_is_404_as_openai_says_it_and_asks_no_server(proxy: RunningProxy) -> None:
    for name in ("assistant2", "Assistant", "assistan", "gpt-4o", "../models", "acme/assistant", "x" * 3000):
        with pytest.raises(openai.NotFoundError, match="no such model here") as found:
            client_of(proxy).models.retrieve(name)
        assert found.value.type == "invalid_request_error"
    assert proxy.arrivals == []


def test_without_a_key_nobody_learns_which_model_there_is(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy()
    narrow = Keyring(proxy.router.config).add("narrow", KeyLimits.model_validate({"scopes": ["chat"]}))
    for key, status in ((None, 401), ("wrong", 401), (narrow, 403)):
        answers = [proxy.ask("GET", f"/v1/models/{name}", key=key) for name in ("assistant", "other")]
        assert [answer.status_code for answer in answers] == [status] * 2
        assert answers[0].content == answers[1].content
    assert proxy.arrivals == []


def test_where_the_list_is_not_open_no_model_is(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(paths=["/v1/chat/completions"])
    assert [proxy.ask("GET", path).status_code for path in ("/v1/models", "/v1/models/assistant")] == [404, 404]


def test_a_limit_counts_the_facts_of_a_model_too(proxy: RunningProxy) -> None:
    key = Keyring(proxy.router.config).add("team", KeyLimits.model_validate({"requests_per_minute": 1}))
    client_of(proxy, key).models.retrieve("assistant")
    with pytest.raises(openai.RateLimitError):
        client_of(proxy, key).models.retrieve("assistant")


def test_created_is_that_of_the_release_which_answers(proxy: RunningProxy) -> None:
    client = client_of(proxy)
    proxy.router.set_release("blue", "sha256:aa", MADE)
    proxy.router.set_release("green", "sha256:bb", MADE + 60)
    assert client.models.list().data[0].created == client.models.retrieve("assistant").created == MADE
    proxy.router.switch("green")
    assert client.models.list().data[0].created == client.models.retrieve("assistant").created == MADE + 60
    proxy.router.set_release("green", "sha256:cc")
    assert client.models.retrieve("assistant").created == 0, "not that of the release before"


def test_a_map_of_an_earlier_tunegate_is_read_and_its_router_reads_ours(proxy: RunningProxy) -> None:
    """It knew a digest a slot: without a time `created` is 0, and what it looks up is still the digest alone."""
    proxy.router.admin.write_map("releases.map", {"blue": "sha256:aa", "green": "sha256:bb"})
    reply = proxy.ask("GET", "/v1/models")
    assert reply.json()["data"][0]["created"] == 0 and reply.headers["x-tunegate-release"] == "sha256:aa"
    proxy.router.set_release("blue", "sha256:cc", MADE)
    entries = read_map_file(proxy.router.folder / "releases.map")
    assert entries == {"blue": "sha256:cc", "green": "sha256:bb", "blue-created": str(MADE)}
    assert proxy.router.admin.read_map("releases.map") == entries


def test_head_of_health_is_its_get_without_a_body(proxy: RunningProxy) -> None:
    reply = proxy.ask("HEAD", "/health", key=None)
    assert reply.status_code == 200 and reply.content == b"" and reply.headers["x-tunegate-slot"] == "blue"
    assert [(arrival.method, arrival.path) for arrival in proxy.arrivals] == [("GET", "/health")]
    head = b"HEAD /health HTTP/1.1\r\nHost: a\r\n"
    answer = proxy.raw(
        head + b"\r\n" + head + b"\r\n" + b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200"] * 3, "the connection stays in step"
    assert answer.count(b"\r\n\r\n") == 3 and answer.endswith(b"\r\n\r\n{}")


def test_head_of_health_is_503_while_nobody_serves_and_405_elsewhere(proxy: RunningProxy) -> None:
    for path, allowed in (
        ("/v1/models", "GET"),
        ("/v1/models/assistant", "GET"),
        ("/docs", "GET"),
        ("/openapi.json", "GET"),
        ("/classify", "POST"),
    ):
        reply = proxy.ask("HEAD", path)
        assert (reply.status_code, reply.headers["allow"]) == (405, allowed), path
    assert proxy.ask("POST", "/health").headers["allow"] == "GET,HEAD"
    proxy.router.pause()
    reply = proxy.ask("HEAD", "/health", key=None)
    assert reply.status_code == 503 and reply.content == b"" and int(reply.headers["retry-after"]) > 0


def test_probes_with_head_leave_no_line_in_the_log(proxy: RunningProxy) -> None:
    proxy.ask("HEAD", "/health", key=None)
    proxy.ask("GET", "/v1/models")
    assert [line["path"] for line in log_of(proxy)] == ["/v1/models"]
