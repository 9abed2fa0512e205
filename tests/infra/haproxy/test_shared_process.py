"""Two environments behind one router: each model is found by its name, and moved without a word about the other."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.environment.slots import Slots
from configs.errors import InputError
from infra.haproxy.api_keys import KeyLimits, Keyring
from infra.haproxy.router import Router
from tests.infra.conftest import SECRET, Arrival, RunningProxy, Server
from tests.serve.conftest import free_ports

pytestmark = pytest.mark.integration
DIGESTS = {"search": "sha256:" + "a" * 64, "speech": "sha256:" + "b" * 64}


class Shared:
    """search has the router, speech is behind it; each with a model of its name and two small servers."""

    def __init__(self) -> None:
        router, *self.ports = free_ports(5)
        facts: dict[str, Any] = {"gate": None, "model": "search", "name": "search", "state_dir": "search"}
        self.host = DeployConfig.model_validate(
            facts | {"router": {"port": router}, "slot_ports": tuple(self.ports[:2])}
        )
        guest = facts | {"name": "speech", "model": "speech/small", "state_dir": "speech", "router_of": "search"}
        self.guest = DeployConfig.model_validate(guest | {"slot_ports": tuple(self.ports[2:])}).behind(self.host)
        self.arrivals: list[Arrival] = []
        self.servers = [
            Server(f"{name} {slot}", port, self.arrivals)
            for (name, slot), port in zip(
                [(name, slot) for name in DIGESTS for slot in ("blue", "green")], self.ports, strict=True
            )
        ]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.search, self.speech = Router(self.host), Router(self.guest)
        self.proxy = RunningProxy(self.search, self.arrivals)

    def open(self, router: Router, name: str) -> None:
        router.start(SECRET)
        for slot in ("blue", "green"):
            router.set_release(slot, DIGESTS[name], 7)  # type: ignore[arg-type]  # one of the two slots
        router.switch("blue")

    def ask(self, model: str | None, **body: Any) -> httpx.Response:
        return self.proxy.ask(json=body | ({"model": model} if model else {}))

    def answered_by(self, model: str) -> tuple[str, str]:
        """Which server, and which release it said that it was."""
        reply = self.ask(model)
        assert reply.status_code == 200
        return self.arrivals[-1].slot, reply.headers["x-tunegate-release"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    monkeypatch.chdir(tmp_path)
    found = Shared()
    yield found
    found.speech.stop(0)
    found.search.stop(0)
    for server in found.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def both(shared: Shared) -> Shared:
    shared.open(shared.search, "search")
    shared.open(shared.speech, "speech")
    return shared


def test_the_body_says_which_model_is_meant(both: Shared) -> None:
    assert both.answered_by("search") == ("search blue", DIGESTS["search"])
    assert both.answered_by("speech/small") == ("speech blue", DIGESTS["speech"])
    for wrong in ("speech", "Search", "", None):
        reply = both.ask(wrong)
        assert (reply.status_code, reply.json()["error"]["type"]) == (404, "invalid_request_error")
    assert len(both.arrivals) == 2


def test_each_is_listed_and_found_with_its_release(both: Shared) -> None:
    both.speech.switch("green")
    listed = both.proxy.ask("GET", "/v1/models").json()
    assert [(one["id"], one["tunegate"]["release"], one["tunegate"]["slot"]) for one in listed["data"]] == [
        ("search", DIGESTS["search"], "blue"),
        ("speech/small", DIGESTS["speech"], "green"),
    ]
    assert {one["created"] for one in listed["data"]} == {7} and listed["object"] == "list"
    for name in ("search", "speech/small", "speech%2Fsmall"):
        found = both.proxy.ask("GET", f"/v1/models/{name}")
        assert found.status_code == 200 and found.json()["id"] == name.replace("%2F", "/")
    assert both.proxy.ask("GET", "/v1/models/other").status_code == 404
    for name, slot in (("search", "blue"), ("speech", "green")):
        assert both.proxy.ask("GET", f"/health/{name}", key=None).headers["x-tunegate-slot"] == slot
    assert both.proxy.ask("GET", "/health", key=None).headers["x-tunegate-slot"] == "blue"
    assert both.proxy.ask("GET", "/health/other", key=None).status_code == 404


def test_what_has_no_release_is_not_listed_and_answers_that_none_is_deployed(shared: Shared) -> None:
    shared.open(shared.search, "search")
    shared.speech.start(SECRET)
    assert [one["id"] for one in shared.proxy.ask("GET", "/v1/models").json()["data"]] == ["search"]
    reply = shared.ask("speech/small")
    assert reply.status_code == 503 and "no release is deployed" in reply.text
    assert shared.answered_by("search")[0] == "search blue"


def test_the_one_behind_may_come_first(shared: Shared) -> None:
    """It opens the router that is not its own, with that one's keys and settings."""
    shared.open(shared.speech, "speech")
    assert shared.answered_by("speech/small") == ("speech blue", DIGESTS["speech"])
    assert [one["id"] for one in shared.proxy.ask("GET", "/v1/models").json()["data"]] == ["speech/small"]
    shared.open(shared.search, "search")
    assert shared.answered_by("search")[0] == "search blue"


def test_a_switch_a_share_and_a_pause_are_ones_own(both: Shared) -> None:
    both.speech.switch("green")
    assert both.answered_by("speech/small")[0] == "speech green" and both.answered_by("search")[0] == "search blue"
    assert (both.search.active(), both.speech.active()) == ("blue", "green")
    both.search.set_weights({"blue": 0, "green": 100})
    assert both.answered_by("search")[0] == "search green" and both.speech.weights() == {"blue": 0, "green": 100}
    both.speech.pause()
    assert (both.search.is_paused(), both.speech.is_paused()) == (False, True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(both.ask, "speech/small")
        time.sleep(0.3)
        assert not waiting.done() and both.answered_by("search")[0] == "search green"
        both.speech.resume()
        assert waiting.result().status_code == 200


def test_what_a_hand_changed_is_put_right_without_the_other(both: Shared) -> None:
    both.search.admin.write_map("traffic.map", {"green": "40"})
    assert both.speech.weights() == {"blue": 0, "green": 0}
    assert both.speech.self_heal({"traffic.map": {"green": "0", "paused": "0"}}) == ["traffic.map"]
    assert both.search.self_heal({"traffic.map": {"green": "0"}}) == ["traffic.map"]
    assert both.speech.weights() == both.search.weights() == {"blue": 100, "green": 0}
    both.search.admin.ask("set server blue.speech/blue.speech state maint")
    assert both.search.servers.heal() is False and both.speech.servers.heal() is True


def test_streams_of_one_flow_whole_while_the_other_comes_switches_and_goes(shared: Shared) -> None:
    shared.open(shared.search, "search")
    whole: list[bool] = []

    def stream() -> None:
        reply = shared.ask("search", chunks=100)
        whole.append(reply.text == "".join(f"{number % 10}\n" for number in range(100)))

    threads = [threading.Thread(target=stream) for _ in range(8)]
    for thread in threads:
        thread.start()
    while shared.search.traffic()["blue"].open < 8:
        time.sleep(0.02)
    shared.open(shared.speech, "speech")
    for slot in ("green", "blue", "green"):
        shared.speech.switch(slot)  # type: ignore[arg-type]  # one of the two
        assert shared.answered_by("speech/small")[0] == f"speech {slot}"
    assert (shared.search.open_streams("blue"), shared.speech.open_streams("green")) == (8, 0)
    shared.speech.stop(1)
    for thread in threads:
        thread.join()
    assert whole == [True] * 8
    assert shared.search.traffic()["blue"].cut_by_server == 0 and shared.search.traffic()["blue"].total == 8
    assert shared.search.process.members() == {} and "speech" not in (shared.search.folder / "haproxy.cfg").read_text()
    assert [one["id"] for one in shared.proxy.ask("GET", "/v1/models").json()["data"]] == ["search"]


def test_one_that_gets_a_second_server_joins_anew_and_the_other_never_notices(both: Shared) -> None:
    more = Router(both.guest.model_copy(update={"slots": Slots(servers=2)}))
    assert more.missing_servers() == ["blue.speech-2", "green.speech-2"] and not more.is_running()
    more.start(SECRET)
    assert more.is_running() and both.search.is_running() and more.missing_servers() == []
    assert both.answered_by("speech/small")[0] == "speech blue" and both.answered_by("search")[0] == "search blue"


def test_the_router_ends_with_the_last_one_behind_it(both: Shared) -> None:
    with pytest.raises(InputError, match="speech: behind the router of search"):
        both.search.stop(0)
    assert both.answered_by("search")[0] == "search blue"
    both.speech.stop(0)
    assert both.search.is_running() and not both.speech.is_running()
    both.search.stop(0)
    assert not both.search.is_running()


def test_whoever_opens_it_again_knows_both(both: Shared) -> None:
    both.speech.switch("green")
    both.speech.set_standbys({"green"})
    for who in (both.speech, both.search):
        os.kill(who.pid() or 0, signal.SIGKILL)
        while who.is_running():
            time.sleep(0.02)
        who.start(SECRET)
        assert both.search.is_running() and both.speech.is_running()
        assert both.answered_by("search")[0] == "search blue" and both.answered_by("speech/small")[0] == "speech green"
        assert (both.search.standbys(), both.speech.standbys()) == (set(), {"green"})


def test_each_has_its_own_health_and_the_document_says_so(shared: Shared) -> None:
    def paths() -> set[str]:
        return set(shared.proxy.ask("GET", "/openapi.json").json()["paths"])

    shared.open(shared.search, "search")
    assert "/health/{environment}" not in paths()
    shared.open(shared.speech, "speech")
    assert "/health/{environment}" in paths()
    for name in DIGESTS:
        reply = shared.proxy.ask("GET", f"/health/{name}")
        assert (reply.status_code, reply.headers["x-tunegate-release"]) == (200, DIGESTS[name])


def test_another_copy_of_the_hosts_yaml_changes_nothing(both: Shared) -> None:
    """An agent in another checkout holds the one behind: two copies that differ would take turns at the router."""
    other = both.host.model_copy(update={"router": both.host.router.model_copy(update={"max_body_kib": 7})})
    elsewhere = Router(both.guest.behind(other))
    config = Path("search/router/haproxy.cfg")
    before, pid = config.read_text(encoding="utf8"), both.search.pid()
    elsewhere.start(SECRET)
    assert elsewhere.reload() == []
    assert (config.read_text(encoding="utf8"), both.search.pid()) == (before, pid)
    os.kill(pid or 0, signal.SIGKILL)
    while both.search.is_running():
        time.sleep(0.02)
    elsewhere.start(SECRET)
    assert config.read_text(encoding="utf8") == before
    both.search.start(SECRET)
    assert both.answered_by("search")[0] == "search blue"


def test_the_hosts_own_reload_is_what_the_other_goes_by_from_then_on(both: Shared) -> None:
    changed = both.host.model_copy(update={"router": both.host.router.model_copy(update={"max_body_kib": 7})})
    assert Router(changed).reload() == ["settings"]
    config = Path("search/router/haproxy.cfg")
    after = config.read_text(encoding="utf8")
    both.speech.start(SECRET)
    assert config.read_text(encoding="utf8") == after


def test_after_a_stop_the_one_behind_opens_it_by_what_its_own_checkout_says(both: Shared) -> None:
    both.speech.stop(0)
    both.search.stop(0)
    other = both.host.model_copy(update={"router": both.host.router.model_copy(update={"max_body_kib": 7})})
    Router(both.guest.behind(other)).start(SECRET)
    Router(other).start(SECRET)
    assert both.search.is_running()


def test_keys_are_the_routers_whoever_is_asked_for_them(both: Shared) -> None:
    secret = Keyring(both.guest).add("team", KeyLimits.model_validate({}))
    assert [key.name for key in Keyring(both.host).read()] == ["default", "team"]
    assert both.proxy.ask(key=secret, json={"model": "search"}).status_code == 200


def test_the_log_says_whose_request_it_was_and_the_ledger_counts_ones_own(both: Shared) -> None:
    before = both.speech.traffic()["blue"].total
    for model in ("search", "speech/small", "speech/small"):
        both.ask(model)
    assert both.speech.traffic()["blue"].total == before + 2
    log = both.search.folder / "access.jsonl"
    deadline = time.monotonic() + 10
    while len(rows := [json.loads(line) for line in log.read_text().splitlines()]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(row["environment"], row["server"]) for row in rows[-3:]] == [
        ("search", "blue"),
        ("speech", "blue.speech"),
        ("speech", "blue.speech"),
    ]
    both.servers[2].shutdown()
    both.servers[2].server_close()
    refused = both.ask("speech/small")
    assert refused.status_code in (502, 503)
    assert both.speech.unanswered() >= 1 and both.search.unanswered() == 0
