"""TLS at the real router: its certificate, renewed under an open stream, and clients that must show one."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from configs.errors import InputError
from tests.infra.conftest import SECRET, RunningProxy
from tests.serve.conftest import free_ports
from tests.support.certificates import write_certificate

pytestmark = pytest.mark.integration
KEYED = {"Authorization": f"Bearer {SECRET}"}
SETTINGS = {"certificate": "router.crt", "key": "router.key", "local_port": free_ports(1)[0]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_certificate("router", "first")
    return tmp_path


def trusting(client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile="router.crt")
    if client:
        context.load_cert_chain(f"{client}.crt", f"{client}.key")
    return context


def url(proxy: RunningProxy) -> str:
    return f"https://localhost:{proxy.router.config.router.port}/v1/chat/completions"


def subject_shown(proxy: RunningProxy) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", proxy.router.config.router.port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).subject.rfc4514_string()


def test_the_router_speaks_tls_only_and_the_key_file_is_its_owners(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    proxy = start_proxy(tls=SETTINGS)
    assert proxy.router.public_url.startswith("https://127.0.0.1:")
    assert httpx.post(url(proxy), json={}, headers=KEYED, verify=trusting()).status_code == 200
    assert httpx.post(url(proxy), json={}, verify=trusting()).status_code == 401
    assert b"200" not in proxy.raw(
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode(), 2
    )
    assert (proxy.router.folder / "router.pem").stat().st_mode & 0o077 == 0 and len(proxy.arrivals) == 1


def test_the_machines_own_requests_need_no_certificate_but_a_key(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    write_certificate("friend", "friend")
    proxy = start_proxy(tls=SETTINGS | {"client_ca": "friend.crt"})
    assert proxy.router.base_url == f"http://127.0.0.1:{SETTINGS['local_port']}"
    assert (proxy.ask(json={}).status_code, proxy.ask(key=None, json={}).status_code) == (200, 401)


def over_http_2(proxy: RunningProxy, path: str, *words: str) -> str:
    """The version and the status of the answer, or what curl says of none."""
    address = f"https://localhost:{proxy.router.config.router.port}{path}"
    shown = ["--silent", "--show-error", "--output", "body", "--write-out", "%{http_version} %{http_code}"]
    done = subprocess.run(
        ["curl", "--http2", "--path-as-is", "--cacert", "router.crt", *shown, *words, address], capture_output=True
    )
    return (done.stdout if done.returncode == 0 else done.stderr).decode()


def test_http_2_is_answered_as_http_1_is(here: Path, start_proxy: Callable[..., RunningProxy]) -> None:
    """Its requests name scheme and host beside the path, as browsers and curl send them."""
    proxy, keyed = start_proxy(tls=SETTINGS), ("-H", f"Authorization: Bearer {SECRET}")
    body = ("-H", "Content-Type: application/json", "--data", "{}")
    assert over_http_2(proxy, "/v1/chat/completions?x", *keyed, *body) == "2 200"
    assert over_http_2(proxy, "/health", "--head") == "2 200"
    assert over_http_2(proxy, "/v1/models/assistant", *keyed) == "2 200"
    assert over_http_2(proxy, "/docs") == "2 200" and Path("body").read_text().startswith("<!doctype html>")
    paths = ["/v1/chat/completions", "/health", "/v1/models"]
    assert [arrival.path for arrival in proxy.arrivals] == paths
    assert [over_http_2(proxy, path, *keyed) for path in ("/metrics", "//v1/models", "/v1/models/../../metrics")] == [
        "2 404"
    ] * 3
    assert over_http_2(proxy, "/v1/models") == "2 401" and over_http_2(proxy, "/classify", *keyed) == "2 405"
    for target in ("http://127.0.0.1/v1/models", "v1/models", "*", "https://localhost/health"):
        assert "2 200" not in over_http_2(proxy, "/", "--request-target", target, *keyed), target
    assert [arrival.path for arrival in proxy.arrivals] == paths


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(
    here: Path, start_proxy: Callable[..., RunningProxy], version: ssl.TLSVersion
) -> None:
    proxy, context = start_proxy(tls=SETTINGS), trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this client refuses by itself
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    with pytest.raises(httpx.ConnectError):
        httpx.post(url(proxy), json={}, headers=KEYED, verify=context)


def test_a_new_certificate_is_shown_without_dropping_a_stream(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    proxy = start_proxy(tls=SETTINGS)
    pid = proxy.router.pid()
    with httpx.stream("POST", url(proxy), json={"chunks": 30}, headers=KEYED, verify=trusting()) as reply:
        chunks = reply.iter_text()
        first = next(chunks)
        write_certificate("router", "second")
        assert subject_shown(proxy) == "CN=first"
        assert proxy.router.reload() == ["router.pem"] and proxy.router.reload() == []
        assert subject_shown(proxy) == "CN=second"
        assert len((first + "".join(chunks)).split()) == 30
    assert proxy.router.pid() == pid
    assert httpx.post(url(proxy), json={}, headers=KEYED, verify=trusting()).status_code == 200


def test_a_key_that_does_not_fit_is_refused_and_the_old_certificate_stays(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    proxy = start_proxy(tls=SETTINGS)
    before = (proxy.router.folder / "router.pem").read_bytes()
    write_certificate("other", "second")
    Path("router.crt").write_bytes(Path("other.crt").read_bytes())
    with pytest.raises(InputError, match="does not take"):
        proxy.router.reload()
    assert subject_shown(proxy) == "CN=first" and (proxy.router.folder / "router.pem").read_bytes() == before
    Path("router.key").write_bytes(Path("other.key").read_bytes())
    assert proxy.router.reload() == ["router.pem"] and subject_shown(proxy) == "CN=second"


def test_with_a_client_authority_only_its_clients_get_in(here: Path, start_proxy: Callable[..., RunningProxy]) -> None:
    for name in ("friend", "stranger"):
        write_certificate(name, name)
    Path("authority.crt").write_bytes(Path("friend.crt").read_bytes())
    proxy = start_proxy(tls=SETTINGS | {"client_ca": "authority.crt"})
    assert httpx.post(url(proxy), json={}, headers=KEYED, verify=trusting("friend")).status_code == 200
    for client in (None, "stranger"):
        with pytest.raises(httpx.HTTPError):
            httpx.post(url(proxy), json={}, headers=KEYED, verify=trusting(client))
    assert httpx.post(url(proxy), json={}, verify=trusting("friend")).status_code == 401
    Path("authority.crt").write_bytes(Path("stranger.crt").read_bytes())
    assert proxy.router.reload() == ["client_ca.pem"]
    assert httpx.post(url(proxy), json={}, headers=KEYED, verify=trusting("stranger")).status_code == 200
    assert len(proxy.arrivals) == 2


def test_settings_change_without_a_restart_of_what_streams_and_a_wrong_one_changes_nothing(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    proxy = start_proxy()
    pid, config = proxy.router.pid(), proxy.router.config
    smaller = type(proxy.router)(
        config.model_copy(update={"router": config.router.model_copy(update={"max_body_kib": 1})})
    )
    assert smaller.reload() == ["settings"] and proxy.router.pid() != pid
    assert [proxy.ask(content=b"x" * size).status_code for size in (1024, 1025)] == [200, 413]
    wrong = type(proxy.router)(
        config.model_copy(update={"router": config.router.model_copy(update={"host": "no-such-host.invalid"})})
    )
    with pytest.raises(InputError, match="does not take the settings"):
        wrong.reload()
    assert smaller.reload() == [] and proxy.ask(json={}).status_code == 200


def test_a_closed_router_and_a_missing_file_are_clear_errors(
    here: Path, start_proxy: Callable[..., RunningProxy]
) -> None:
    proxy = start_proxy(tls=SETTINGS)
    Path("router.crt").unlink()
    with pytest.raises(InputError, match=r"router\.crt"):
        proxy.router.reload()
    proxy.router.stop(0)
    with pytest.raises(InputError, match="not open"):
        proxy.router.reload()
