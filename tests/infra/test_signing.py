"""Signatures by the real model-signing: what is verified is what was signed, by the pinned key, or it is refused."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from configs.environment.config import DeployConfig
from configs.environment.signing import Signing
from configs.errors import InputError, RefusedError
from configs.release import Manifest, digest_of, list_files
from configs.run.serving import Serving
from infra.signing import KEY, PASSWORD, sign, signature_of, signing_key, verify_signature

pytestmark = pytest.mark.unit
REFERENCE = "demo@sha256:" + "0" * 64


@dataclass(frozen=True)
class Pair:
    private: Path
    public: Path


def make_pair(folder: Path, name: str = "signing", curve: str = "SECP256R1", password: bytes | None = None) -> Pair:
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    locked = to.BestAvailableEncryption(password) if password else to.NoEncryption()
    pair = Pair(folder / f"{name}.key", folder / f"{name}.pub")
    pair.private.write_bytes(key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, locked))
    pair.public.write_bytes(key.public_key().public_bytes(to.Encoding.PEM, to.PublicFormat.SubjectPublicKeyInfo))
    return pair


def make_release(folder: Path, weights: bytes = b"weights") -> Path:
    release = folder / "release"
    release.mkdir(parents=True)
    (release / "model.safetensors").write_bytes(weights)
    (release / "config.json").write_text("{}")
    files = list_files(release)
    facts: dict[str, Any] = {
        "base": {},
        "data": {},
        "quantization": {},
        "git_revision": "x",
        "versions": {},
        "config": {},
        "created": "now",
    }
    manifest = Manifest(name="demo", digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (release / "manifest.json").write_text(manifest.model_dump_json())
    return release


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path)


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_what_was_signed_is_verified_by_the_keys_file_or_its_text(tmp_path: Path, release: Path, curve: str) -> None:
    pair = make_pair(tmp_path, curve=curve)
    assert sign(release, pair.private) == tmp_path / "model.sig" == signature_of(release)
    verify_signature(release, str(pair.public), REFERENCE)
    verify_signature(release, pair.public.read_text(), REFERENCE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.sig", "release", "signing.key", "signing.pub"], (
        "nothing is left behind"
    )


def test_the_signature_names_every_file_with_its_sha256(release: Path, pair: Pair) -> None:
    envelope = json.loads(sign(release, pair.private).read_text())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    named = {row["name"]: row["digest"] for row in statement["predicate"]["resources"]}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert named == {file.path: file.sha256 for file in list_files(release)} | {"manifest.json": named["manifest.json"]}


def test_an_unsigned_release_is_refused_with_the_command_that_signs_it(release: Path, pair: Pair) -> None:
    with pytest.raises(
        RefusedError, match=r"found no .*model\.sig, expected a signature(.|\n)*tunegate releases sign demo@sha256:"
    ):
        verify_signature(release, str(pair.public), REFERENCE)


def test_another_key_is_refused(tmp_path: Path, release: Path, pair: Pair) -> None:
    sign(release, make_pair(tmp_path, "thief").private)
    with pytest.raises(RefusedError, match="Key mismatch"):
        verify_signature(release, str(pair.public), REFERENCE)


def test_the_hint_of_another_key_does_not_make_it_ours(tmp_path: Path, release: Path, pair: Pair) -> None:
    """The bundle says which key signed it; a thief writes ours in."""
    ours = json.loads(sign(release, pair.private).read_text())["verificationMaterial"]
    forged = json.loads(sign(release, make_pair(tmp_path, "thief").private).read_text())
    hints: tuple[Any, ...] = (ours, {"publicKey": {}, "tlogEntries": []})
    for hint in hints:
        signature_of(release).write_text(json.dumps(forged | {"verificationMaterial": hint}))
        with pytest.raises(RefusedError):
            verify_signature(release, str(pair.public), REFERENCE)


def flip(release: Path) -> None:
    (release / "model.safetensors").write_bytes(b"wEights")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "Hash mismatch for 'model.safetensors'"),
        (lambda release: (release / "config.json").unlink(), "Missing files .*config.json"),
        (lambda release: (release / "extra.json").write_text("{}"), "Extra files .*extra.json"),
        (
            lambda release: (release / "manifest.json").write_text(
                (release / "manifest.json").read_text().replace('"demo"', '"evil"')
            ),
            "Hash mismatch",
        ),
    ],
)
def test_changed_bytes_are_named(release: Path, pair: Pair, spoil: Callable[[Path], object], message: str) -> None:
    sign(release, pair.private)
    spoil(release)
    with pytest.raises(RefusedError, match=message):
        verify_signature(release, str(pair.public), REFERENCE)


def test_the_signature_of_another_release_is_refused(tmp_path: Path, release: Path, pair: Pair) -> None:
    other = make_release(tmp_path / "other", b"other weights")
    shutil.copyfile(sign(other, pair.private), signature_of(release))
    with pytest.raises(RefusedError, match="Hash mismatch"):
        verify_signature(release, str(pair.public), REFERENCE)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_edit_of_the_signed_statement_passes(release: Path, pair: Pair, data: st.DataObject) -> None:
    """Any change of what was signed or of the signature itself; base64's unused bits aside, for those are not bytes of
    it."""
    if not signature_of(release).exists():
        sign(release, pair.private)
    original = signature_of(release).read_text()
    bundle = json.loads(original)
    field = data.draw(st.sampled_from(["payload", "sig"]))
    place = bundle["dsseEnvelope"] if field == "payload" else bundle["dsseEnvelope"]["signatures"][0]
    content = bytearray(base64.b64decode(place[field]))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    place[field] = base64.b64encode(bytes(content)).decode()
    signature_of(release).write_text(json.dumps(bundle))
    try:
        with pytest.raises(RefusedError):
            verify_signature(release, str(pair.public), REFERENCE)
    finally:
        signature_of(release).write_text(original)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "no JSON", '{"verificationMaterial": {}}', '{"dsseEnvelope": {"signatures": []}}', "\x00"],
)
def test_what_is_no_signature_is_refused_and_no_traceback(release: Path, pair: Pair, text: str) -> None:
    signature_of(release).write_text(text)
    with pytest.raises(RefusedError):
        verify_signature(release, str(pair.public), REFERENCE)


def test_an_encrypted_key_wants_its_password(tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(tmp_path, password=b"sesame")
    for password in (None, "wrong"):
        monkeypatch.setenv(PASSWORD, password) if password else monkeypatch.delenv(PASSWORD, raising=False)
        with pytest.raises(InputError, match=rf"{KEY}(.|\n)*{PASSWORD}"):
            sign(release, pair.private)
    assert not signature_of(release).exists()
    monkeypatch.setenv(PASSWORD, "sesame")
    sign(release, pair.private)
    verify_signature(release, str(pair.public), REFERENCE)


@pytest.mark.parametrize("name", ["absent.pem", "release/config.json", "signing.pub"])
def test_what_is_no_private_key_is_an_input_error(tmp_path: Path, release: Path, pair: Pair, name: str) -> None:
    with pytest.raises(InputError, match=r"TUNEGATE_SIGNING_KEY(.|\n)*openssl ecparam"):
        sign(release, tmp_path / name)


def test_curves_and_kinds_that_the_library_does_not_take_are_input_errors(tmp_path: Path, release: Path) -> None:
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ed25519

    with pytest.raises(InputError):
        sign(release, make_pair(tmp_path, curve="SECP256K1").private)
    public = (
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(to.Encoding.PEM, to.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    with pytest.raises(InputError, match=r"signing\.public_key"):
        verify_signature(release, public, REFERENCE)


def test_a_public_key_that_is_gone_or_private_is_an_input_error(tmp_path: Path, release: Path, pair: Pair) -> None:
    for path in (tmp_path / "absent.pub", pair.private):
        with pytest.raises(InputError, match=r"signing\.public_key"):
            verify_signature(release, str(path), REFERENCE)


def test_the_key_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert signing_key() is None
    monkeypatch.setenv(KEY, "keys/signing.key")
    assert signing_key() == Path("keys/signing.key")


@pytest.mark.parametrize(
    ("public_key", "expected"),
    [
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n", "keep the private one out of git"),
        ("-----BEGIN PRIVATE KEY-----\nMHc\n-----END PRIVATE KEY-----\n", "keep the private one out of git"),
        ("/etc/ssl/signing.pub", "inside the checkout"),
        ("../signing.pub", "inside the checkout"),
    ],
)
def test_a_pinned_key_is_public_and_in_the_checkout(public_key: str, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Signing(public_key=public_key)


def test_a_pinned_file_must_exist_and_a_pem_may_stand_in_the_yaml(tmp_path: Path, pair: Pair) -> None:
    from configs.errors import ConfigError
    from configs.loader import load

    path = tmp_path / "here.yaml"
    path.write_text("name: here\nmodel: m\ngate: null\nsigning: {public_key: absent.pub}\n")
    with pytest.raises(ConfigError, match=r"here\.yaml:4: signing\.public_key"):
        load(path, DeployConfig)
    lines = "".join(f"    {line}\n" for line in pair.public.read_text().splitlines())
    path.write_text(f"name: here\nmodel: m\ngate: null\nsigning:\n  public_key: |\n{lines}")
    found = load(path, DeployConfig)
    assert found.signing and found.signing.public_key == pair.public.read_text()


def test_the_command_verifies_and_names_what_differs(release: Path, pair: Pair) -> None:
    import tunegate

    def verify() -> Any:
        return CliRunner().invoke(tunegate.app, ["releases", "verify", str(release), "--public-key", str(pair.public)])

    assert isinstance(verify().exception, RefusedError)
    sign(release, pair.private)
    assert verify().exit_code == 0 and verify().stdout.startswith("demo@sha256:")
    flip(release)
    assert "model.safetensors" in str(verify().exception)


def test_signing_by_hand_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import tunegate

    monkeypatch.delenv(KEY, raising=False)
    result = CliRunner().invoke(tunegate.app, ["releases", "sign", "demo@sha256:" + "0" * 64])
    assert isinstance(result.exception, InputError) and KEY in str(result.exception)
