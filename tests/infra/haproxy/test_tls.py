"""TLS at the real door: its certificate, renewed under an open stream, and clients that must show one."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from configs.errors import InputError
from tests.infra.conftest import SECRET, OpenDoor, free_ports

pytestmark = pytest.mark.integration
KEYED = {"Authorization": f"Bearer {SECRET}"}
SETTINGS = {"certificate": "door.crt", "key": "door.key", "local_port": free_ports(1)[0]}


def write_certificate(name: str, subject: str) -> None:
    """Self-signed, so it is its own authority: NAME.crt and NAME.key here."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    built = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    Path(f"{name}.crt").write_bytes(built.public_bytes(Encoding.PEM))
    Path(f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_certificate("door", "first")
    return tmp_path


def trusting(client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile="door.crt")
    if client:
        context.load_cert_chain(f"{client}.crt", f"{client}.key")
    return context


def url(door: OpenDoor) -> str:
    return f"https://localhost:{door.router.config.door.port}/v1/chat/completions"


def subject_shown(door: OpenDoor) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", door.router.config.door.port)) as plain, context.wrap_socket(plain) as connection:
        shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).subject.rfc4514_string()


def test_the_door_speaks_tls_only_and_the_key_file_is_its_owners(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    door = open_door(tls=SETTINGS)
    assert door.router.public_url.startswith("https://127.0.0.1:")
    assert httpx.post(url(door), json={}, headers=KEYED, verify=trusting()).status_code == 200
    assert httpx.post(url(door), json={}, verify=trusting()).status_code == 401
    assert b"200" not in door.raw(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode(), 2)
    assert (door.router.folder / "door.pem").stat().st_mode & 0o077 == 0 and len(door.arrivals) == 1


def test_the_machines_own_requests_need_no_certificate_but_a_key(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    write_certificate("friend", "friend")
    door = open_door(tls=SETTINGS | {"client_ca": "friend.crt"})
    assert door.router.base_url == f"http://127.0.0.1:{SETTINGS['local_port']}"
    assert (door.ask(json={}).status_code, door.ask(key=None, json={}).status_code) == (200, 401)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(here: Path, open_door: Callable[..., OpenDoor], version: ssl.TLSVersion) -> None:
    door, context = open_door(tls=SETTINGS), trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this client refuses by itself
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    with pytest.raises(httpx.ConnectError):
        httpx.post(url(door), json={}, headers=KEYED, verify=context)


def test_a_new_certificate_is_shown_without_dropping_a_stream(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    door = open_door(tls=SETTINGS)
    pid = door.router.pid()
    with httpx.stream("POST", url(door), json={"chunks": 30}, headers=KEYED, verify=trusting()) as reply:
        chunks = reply.iter_text()
        first = next(chunks)
        write_certificate("door", "second")
        assert subject_shown(door) == "CN=first"
        assert door.router.reload() == ["door.pem"] and door.router.reload() == []
        assert subject_shown(door) == "CN=second"
        assert len((first + "".join(chunks)).split()) == 30
    assert door.router.pid() == pid
    assert httpx.post(url(door), json={}, headers=KEYED, verify=trusting()).status_code == 200


def test_a_key_that_does_not_fit_is_refused_and_the_old_certificate_stays(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    door = open_door(tls=SETTINGS)
    before = (door.router.folder / "door.pem").read_bytes()
    write_certificate("other", "second")
    Path("door.crt").write_bytes(Path("other.crt").read_bytes())
    with pytest.raises(InputError, match="does not take"):
        door.router.reload()
    assert subject_shown(door) == "CN=first" and (door.router.folder / "door.pem").read_bytes() == before
    Path("door.key").write_bytes(Path("other.key").read_bytes())
    assert door.router.reload() == ["door.pem"] and subject_shown(door) == "CN=second"


def test_with_a_client_authority_only_its_clients_get_in(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    for name in ("friend", "stranger"):
        write_certificate(name, name)
    Path("authority.crt").write_bytes(Path("friend.crt").read_bytes())
    door = open_door(tls=SETTINGS | {"client_ca": "authority.crt"})
    assert httpx.post(url(door), json={}, headers=KEYED, verify=trusting("friend")).status_code == 200
    for client in (None, "stranger"):
        with pytest.raises(httpx.HTTPError):
            httpx.post(url(door), json={}, headers=KEYED, verify=trusting(client))
    assert httpx.post(url(door), json={}, verify=trusting("friend")).status_code == 401
    Path("authority.crt").write_bytes(Path("stranger.crt").read_bytes())
    assert door.router.reload() == ["client_ca.pem"]
    assert httpx.post(url(door), json={}, headers=KEYED, verify=trusting("stranger")).status_code == 200
    assert len(door.arrivals) == 2


def test_settings_change_without_a_restart_of_what_streams_and_a_wrong_one_changes_nothing(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    door = open_door()
    pid, config = door.router.pid(), door.router.config
    smaller = type(door.router)(config.model_copy(update={"door": config.door.model_copy(update={"max_body_kib": 1})}))
    assert smaller.reload() == ["settings"] and door.router.pid() != pid
    assert [door.ask(content=b"x" * size).status_code for size in (1024, 1025)] == [200, 413]
    wrong = type(door.router)(config.model_copy(update={"door": config.door.model_copy(update={"host": "no-such-host.invalid"})}))
    with pytest.raises(InputError, match="does not take the settings"):
        wrong.reload()
    assert smaller.reload() == [] and door.ask(json={}).status_code == 200


def test_a_closed_door_and_a_missing_file_are_clear_errors(here: Path, open_door: Callable[..., OpenDoor]) -> None:
    door = open_door(tls=SETTINGS)
    Path("door.crt").unlink()
    with pytest.raises(InputError, match=r"door\.crt"):
        door.router.reload()
    door.router.stop(0)
    with pytest.raises(InputError, match="not open"):
        door.router.reload()
