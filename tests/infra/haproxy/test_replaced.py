"""A reload with streams open: the real HAProxy is replaced under them, and the ledger counts on, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest

from configs.errors import ExternalError, InputError
from infra.boot import identify, now
from infra.haproxy.counts import read_replaced
from infra.haproxy.process import ARGUMENTS, find_haproxy, own_environment, start_haproxy
from infra.haproxy.replaced import process_of
from infra.haproxy.router import Router
from infra.haproxy.servers import Traffic
from tests.infra.conftest import SECRET, RunningProxy, Stream
from tests.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
KEYED = {"Authorization": f"Bearer {SECRET}"}


def reload(proxy: RunningProxy, **settings: Any) -> int:
    """Replaces the running process, whose pid is returned."""
    before, config = proxy.router.pid(), proxy.router.config
    changed = {"queue_seconds": config.router.queue_seconds + 1} | settings
    proxy.router = Router(config.model_copy(update={"router": config.router.model_copy(update=changed)}))
    assert proxy.router.reload() == ["settings"]
    assert before and proxy.router.pid() != before
    return before


def blue(proxy: RunningProxy) -> Traffic:
    return proxy.router.traffic()["blue"]


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    return identify(pid) is None


@contextmanager
def never_backwards(router: Router) -> Iterator[None]:
    """While other things go on, the totals are read as often as may be."""
    seen: list[tuple[int, ...]] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            now = router.traffic()["blue"]
            seen.append((now.total, now.failed, now.cut_by_server, now.left_by_client, router.unanswered()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert len(seen) > 20
    for before, after in pairwise(seen):
        assert all(one <= two for one, two in zip(before, after, strict=True)), (before, after)


def test_streams_over_several_reloads_end_whole_and_are_in_the_ledger_all_the_while(
    start_proxy: Callable[..., RunningProxy],
) -> None:
    """Longer than `answer_seconds`, which is how long a stream may be silent."""
    proxy, began = start_proxy(answer_seconds=3), time.monotonic()
    replaced, streams = [], []
    with never_backwards(proxy.router):
        for number in range(3):
            streams.append(Stream(proxy))
            assert proxy.ask(json={}).status_code == 200
            replaced.append(reload(proxy))
            assert blue(proxy).open == number + 1 and blue(proxy).total == 2 * (number + 1)
        time.sleep(max(0, began + 5 - time.monotonic()))
        assert blue(proxy).open == 3 and [stream.ends_whole() for stream in streams] == [True] * 3
        wait_until(lambda: all(map(has_ended, replaced)))
        assert blue(proxy) == Traffic(0, 6, 0, 0, 0)
        replaced.append(reload(proxy))
        wait_until(lambda: has_ended(replaced[-1]))
        assert blue(proxy) == Traffic(0, 6, 0, 0, 0)
    kept = read_replaced(proxy.router.folder)
    assert [process_of(name).pid for name in kept["processes"]] == [replaced[-1]], "those before it are one sum"


def test_what_clients_left_and_servers_refused_before_a_reload_is_still_counted_after_it(proxy: RunningProxy) -> None:
    assert proxy.ask(json={"status": 500}).status_code == 500
    with httpx.stream("POST", f"{proxy.router.base_url}/v1/chat/completions", json={"chunks": 40}, headers=KEYED):
        pass
    wait_until(lambda: blue(proxy).left_by_client == 1)
    before = (blue(proxy), proxy.router.unanswered())
    stream = Stream(proxy)
    reload(proxy)
    now = blue(proxy)
    assert now == Traffic(1, before[0].total + 1, 1, 0, 1) and proxy.router.unanswered() == before[1]
    assert stream.ends_whole()


def test_a_process_that_is_killed_loses_its_own_streams_which_count_as_cut(proxy: RunningProxy) -> None:
    first = Stream(proxy)
    pid = reload(proxy)
    second, third = Stream(proxy), Stream(proxy)
    os.kill(pid, signal.SIGKILL)
    assert first.is_lost()
    wait_until(lambda: has_ended(pid))
    assert blue(proxy) == Traffic(2, 3, 0, 1, 0)
    assert second.ends_whole() and third.ends_whole()
    wait_until(lambda: blue(proxy) == Traffic(0, 3, 0, 1, 0))


def test_a_router_that_is_killed_and_started_again_still_knows_the_streams_of_the_process_before(
    proxy: RunningProxy,
) -> None:
    first = Stream(proxy)
    pid = reload(proxy)
    second = Stream(proxy)
    os.kill(proxy.router.pid() or 0, signal.SIGKILL)
    wait_until(lambda: not proxy.router.is_running())
    assert proxy.router.open_streams("blue") == 1
    proxy.router.start(SECRET)
    assert blue(proxy) == Traffic(1, 0, 0, 0, 0), "the counts begin anew with a router; what is open is open"
    assert second.is_lost() and first.ends_whole()
    wait_until(lambda: has_ended(pid))
    assert blue(proxy) == Traffic(0, 0, 0, 0, 0)


def test_whoever_reloads_may_be_killed_at_once(proxy: RunningProxy) -> None:
    code = (
        "import os, signal, sys; from configs.environment.config import DeployConfig; "
        "from infra.haproxy.router import Router; Router(DeployConfig.model_validate_json(sys.argv[1])).reload(); "
        "os.kill(0, signal.SIGKILL)"
    )
    stream, pid, config = Stream(proxy), proxy.router.pid(), proxy.router.config
    changed = config.model_copy(update={"router": config.router.model_copy(update={"queue_seconds": 9})})
    words = [sys.executable, "-c", code, changed.model_dump_json()]
    run = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, start_new_session=True)
    assert run.returncode == -signal.SIGKILL and proxy.router.pid() != pid
    assert blue(proxy).open == 1 and stream.ends_whole()
    wait_until(lambda: has_ended(pid or 0))
    assert blue(proxy) == Traffic(0, 1, 0, 0, 0)


def test_at_its_deadline_a_replaced_process_ends_and_what_it_cut_is_counted_and_named(
    start_proxy: Callable[..., RunningProxy],
) -> None:
    proxy = start_proxy(reload_deadline_seconds=1)
    began, stream = now(), Stream(proxy)
    pid = reload(proxy)
    assert stream.is_lost()
    wait_until(lambda: has_ended(pid))
    assert blue(proxy) == Traffic(0, 1, 0, 1, 0)
    wait_until(lambda: proxy.router.lost(began, now())["named"])
    (lost,) = proxy.router.lost(began, now())["named"]
    assert (lost["request_id"], lost["server"], lost["termination"]) == (stream.id, "blue", "KD")


def test_streams_that_nobody_can_count_any_more_are_open_as_long_as_their_process_lives(proxy: RunningProxy) -> None:
    stream = Stream(proxy)
    pid = reload(proxy)
    (kept,) = read_replaced(proxy.router.folder)["processes"].values()
    os.kill(kept["keeper"], signal.SIGKILL)
    time.sleep(0.5)
    assert blue(proxy).open == 1 and not has_ended(pid) and stream.ends_whole()
    wait_until(lambda: has_ended(pid))
    assert blue(proxy).open == 0


def test_processes_that_an_earlier_version_replaced_are_said_and_waited_for(proxy: RunningProxy) -> None:
    """It did so without anybody who counts."""
    stream, pid = Stream(proxy), proxy.router.pid()
    words = [find_haproxy(), *ARGUMENTS, "-x", "admin.sock", "-sf", str(pid)]
    environment = own_environment() | proxy.router.servers.environment()
    new = subprocess.Popen(words, cwd=proxy.router.folder, env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: proxy.router.pid() == new.pid)
    assert (proxy.router.uncounted(), proxy.router.open_streams("blue"), blue(proxy).open) == (1, 1, 0)
    assert stream.ends_whole()
    wait_until(lambda: has_ended(pid or 0))
    assert (proxy.router.uncounted(), proxy.router.open_streams("blue")) == (0, 0)


def test_a_reload_that_fails_leaves_everything_as_it_was(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, pid = Stream(proxy), proxy.router.pid()
    before = (proxy.router.folder / "haproxy.cfg").read_text()
    monkeypatch.setattr("infra.haproxy.process.ARGUMENTS", ("-db", "-f", "missing.cfg"))
    with pytest.raises(ExternalError, match="HAProxy did not start"):
        reload(proxy)
    assert proxy.router.pid() == pid and (proxy.router.folder / "haproxy.cfg").read_text() == before
    (kept,) = read_replaced(proxy.router.folder)["processes"].values()
    wait_until(lambda: has_ended(kept["keeper"]))
    assert blue(proxy) == Traffic(1, 1, 0, 0, 0) and stream.ends_whole()
    wait_until(lambda: blue(proxy) == Traffic(0, 1, 0, 0, 0))


def test_clients_that_keep_their_connection_go_on_over_reloads(proxy: RunningProxy) -> None:
    """Requests that are under way in the replaced process end there, and the next one goes to the new process. One that
    meets the end of its idle connection has reached nobody, and may be sent again, as with any HTTP server."""
    stop, statuses = threading.Event(), []

    def ask() -> None:
        with httpx.Client(headers=KEYED, timeout=20, verify=False) as client:
            while not stop.is_set():
                with suppress(httpx.RemoteProtocolError):
                    reply = client.post(f"{proxy.router.base_url}/v1/chat/completions", json={"hold": 0.02})
                    statuses.append(reply.status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    replaced = []
    for _ in range(5):
        time.sleep(0.3)
        replaced.append(reload(proxy))
        proxy.router.switch("green")
        wait_until(lambda: proxy.router.open_streams("blue") == 0, 3)
        proxy.router.switch("blue")
    wait_until(lambda: all(map(has_ended, replaced)), 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200} and len(statuses) > 50
    traffic = proxy.router.traffic()
    assert traffic["blue"].total + traffic["green"].total == len(statuses) == len(proxy.arrivals)


def test_a_switch_waits_for_a_reload_that_goes_on(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that read the files before the switch, and answers after it, would send everything to the old slot."""
    change = threading.Thread(target=lambda: (proxy.router.switch("green"), proxy.router.set_standbys({"green"})))

    def start(*arguments: Any) -> None:
        start_haproxy(*arguments)
        change.start()
        change.join(0.5)
        assert change.is_alive()

    monkeypatch.setattr("infra.haproxy.shared_process.start_haproxy", start)
    reload(proxy)
    change.join()
    assert proxy.router.active() == "green" and not proxy.router.servers.heal()


def test_no_reload_while_the_router_holds_requests_for_it_would_never_let_them_go(proxy: RunningProxy) -> None:
    proxy.router.pause()
    with pytest.raises(InputError, match="a swap holds new requests"):
        reload(proxy)
    proxy.router.resume()
    reload(proxy)


def test_a_stop_ends_replaced_processes_too_and_gives_their_streams_the_same_time(proxy: RunningProxy) -> None:
    short, pids = Stream(proxy), [reload(proxy)]
    long = Stream(proxy)
    pids += [reload(proxy), proxy.router.pid() or 0]
    threading.Timer(1, short.ends_whole).start()
    proxy.router.stop(5)
    assert short.ends_whole() and long.is_lost() and all(map(has_ended, pids))
