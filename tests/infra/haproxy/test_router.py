"""The router, with a real HAProxy in front of two small servers: paths, keys, headers, switching under open streams."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Router
from infra.haproxy.runtime_api import Admin
from tests.paths import ROOT
from tests.serve.conftest import free_ports
from tests.support.kills import wait_until

pytestmark = pytest.mark.integration
KEY = {"Authorization": "Bearer sesame"}


class Slow(BaseHTTPRequestHandler):
    """GET answers at once; POST streams ten chunks over a second, or dies in the middle of /v1/completions."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.send_header("x-tunegate-release", "forged")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(10):
            self.wfile.write(b"2\r\n%d\n\r\n" % number)
            self.wfile.flush()
            time.sleep(0.1)
            if number == 3 and self.path == "/v1/completions":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    monkeypatch.chdir(tmp_path)
    router_port, *slots = free_ports(3)
    servers = [ThreadingHTTPServer(("127.0.0.1", port), Slow) for port in slots]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "name": "x",
        "model": "m",
        "gate": None,
        "router": {"port": router_port},
        "slot_ports": tuple(slots),
        "state_dir": "state",
    }
    found = Router(DeployConfig.model_validate(config))
    yield found
    found.stop(0)
    for server in servers:
        server.shutdown()


def get(router: Router, path: str, headers: dict[str, str] = KEY) -> httpx.Response:
    return httpx.get(router.base_url + path, headers=headers)


def test_nothing_deployed_is_a_503_that_says_so(router: Router) -> None:
    router.start("sesame")
    assert get(router, "/v1/models").status_code == 503 and "no release is deployed" in get(router, "/v1/models").text
    assert router.active() is None


def test_only_known_paths_and_only_with_the_key(router: Router) -> None:
    router.start("sesame")
    router.switch("blue")
    assert get(router, "/v1/models").status_code == 200
    assert [
        get(router, path).status_code
        for path in ("/metrics", "/pooling", "/v1/load_lora_adapter", "/v1/models/../../metrics", "/")
    ] == [404] * 5
    assert [
        get(router, "/v1/models", headers).status_code
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "sesame"})
    ] == [401] * 3
    assert "sesame" not in (router.folder / "haproxy.cfg").read_text()


def test_answers_carry_slot_and_digest_whatever_the_server_says(router: Router) -> None:
    router.start("sesame")
    for slot, digest in (("blue", "sha256:aa"), ("green", "sha256:bb")):
        router.set_release(slot, digest)  # type: ignore[arg-type]  # the two slot names
        router.switch(slot)  # type: ignore[arg-type]  # the two slot names
        headers = get(router, "/v1/models").headers
        assert (headers["x-tunegate-slot"], headers.get_list("x-tunegate-release")) == (slot, [digest])


def test_a_switch_cuts_no_open_stream_and_the_ledger_sees_it(router: Router) -> None:
    router.start("sesame")
    router.switch("blue")
    with httpx.stream("POST", router.base_url + "/v1/chat/completions", headers=KEY) as reply:
        chunks = reply.iter_text()
        first = next(chunks)
        router.switch("green")
        assert router.traffic()["blue"].open == 1
        assert get(router, "/v1/models").headers["x-tunegate-slot"] == "green"
        assert (first + "".join(chunks)).split() == [str(number) for number in range(10)]
    wait_until(lambda: router.traffic()["blue"].open == 0)  # the client may have the end before HAProxy has counted it
    traffic = router.traffic()
    assert (traffic["blue"].open, traffic["blue"].cut_by_server, traffic["green"].total) == (0, 0, 1)


def test_a_server_that_dies_in_a_stream_is_counted_as_cut(router: Router) -> None:
    router.start("sesame")
    router.switch("blue")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(router.base_url + "/v1/completions", headers=KEY)
    assert router.traffic()["blue"].cut_by_server == 1


def test_a_restarted_router_remembers_where_it_sent_requests(router: Router) -> None:
    router.start("sesame")
    router.switch("green")
    router.stop(0)
    assert not router.is_running()
    router.start("sesame")
    assert router.active() == "green"


def test_starting_twice_is_starting_once_and_other_settings_are_refused(router: Router) -> None:
    router.start("sesame")
    pid = router.pid()
    router.start("sesame")
    assert router.pid() == pid
    (other,) = free_ports(1)
    with pytest.raises(InputError, match="settings changed"):
        Router(
            router.config.model_copy(update={"router": router.config.router.model_copy(update={"port": other})})
        ).start("sesame")


def test_a_taken_port_and_a_closed_router_are_clear_errors(router: Router) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", router.config.router.port))
        holder.listen()
        with pytest.raises(ExternalError, match="HAProxy did not start"):
            router.start("sesame")
    with pytest.raises(ExternalError, match="does not answer"):
        router.switch("blue")


def test_the_key_comes_from_the_environment_else_from_a_file_of_its_owner(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_API_KEY", "given-by-the-operator")
    assert api_key(router.config) == "given-by-the-operator" and not Path("state/api_key").exists()
    monkeypatch.delenv("TUNEGATE_API_KEY")
    made = api_key(router.config)
    assert made == api_key(router.config) and len(made) >= 32 and Path("state/api_key").stat().st_mode & 0o077 == 0


def test_who_captures_the_commands_words_is_not_kept_waiting_by_the_router_it_opened(tmp_path: Path) -> None:
    """HAProxy and its log's writer outlive the command: neither may hold its stdout or stderr, or a CI job would never
    end."""
    router_port, *slots = free_ports(3)
    config = DeployConfig.model_validate(
        {
            "name": "x",
            "model": "m",
            "gate": None,
            "router": {"port": router_port},
            "slot_ports": slots,
            "state_dir": "state",
        }
    )
    code = (
        "import sys; from configs.environment.config import DeployConfig; from infra.haproxy.router import Router; "
        "Router(DeployConfig.model_validate_json(sys.argv[1])).start('k')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        words = [sys.executable, "-c", code, config.model_dump_json()]
        run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
        assert run.returncode == 0, run.stderr
    finally:
        os.kill(int(Admin(tmp_path / "state/router", hint="").facts()["Pid"]), signal.SIGKILL)


def test_a_port_is_one_routers_alone(router: Router) -> None:
    """HAProxy would share it, and each would get half of the requests."""
    router.start("a-key-of-its-own")
    facts = router.config.model_dump() | {"name": "other", "state_dir": "other"}
    second = Router(DeployConfig.model_validate(facts))
    with pytest.raises(ExternalError, match=r"did not start on .*(.|\n)*already in use"):
        second.start("another-key-of-its-own")
    assert router.is_running() and not second.is_running()


def test_the_process_knows_no_secret_of_ours_and_is_not_root(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary")
    facts = router.config.model_dump() | {"name": "other", "state_dir": "other"}
    facts["router"] |= {"port": free_ports(1)[0]}
    second = Router(DeployConfig.model_validate(facts))
    second.start("another-key-of-its-own")
    try:
        process = psutil.Process(second.pid())
        assert "canary" not in str(process.environ()) and "PATH" in process.environ()
        assert process.uids().effective != 0
        if os.geteuid() == 0:
            assert Path(f"/proc/{process.pid}/root").resolve() == Path("other/router/empty").resolve()
    finally:
        second.stop(0)
