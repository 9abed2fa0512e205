"""Tokens of an identity provider at the real router: what is signed, by whom, for whom and until when decides; the
token's own wishes do not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from configs.errors import InputError
from infra.haproxy.jwks import read_jwks
from tests.infra.conftest import RunningProxy

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(65537, 2048)
ISSUER, AUDIENCE = "https://id.example.com/", "tunegate"
ALL = ["RS256", "ES256"]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def public(key: Any, kid: str, **more: str) -> dict[str, str]:
    facts = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": kid, "n": number(facts.n), "e": number(facts.e)} | more
    return {"kty": "EC", "kid": kid, "crv": "P-256", "x": number(facts.x), "y": number(facts.y)} | more


def write_jwks(*keys: dict[str, str]) -> Path:
    Path("jwks.json").write_text(json.dumps({"keys": list(keys)}))
    return Path("jwks.json")


def token(key: Any = RSA, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good one but for what is given; a claim of None is left out."""
    algorithm, kid = ("RS256", "r1") if isinstance(key, rsa.RSAPrivateKey) else ("ES256", "e1")
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "chat", "exp": int(time.time()) + 600} | claims
    parts = [
        {"alg": algorithm, "kid": kid, "typ": "JWT"} | (header or {}),
        {name: value for name, value in payload.items() if value is not None},
    ]
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{b64(sign(key, signed.encode()))}"


def sign(key: Any, data: bytes) -> bytes:
    if isinstance(key, bytes):
        return hmac.new(key, data, hashlib.sha256).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.fixture
def proxy(start_proxy: Callable[..., RunningProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningProxy:
    monkeypatch.chdir(tmp_path)
    path = write_jwks(public(RSA, "r1"), public(EC, "e1"))
    return start_proxy(jwt={"jwks": str(path), "issuer": ISSUER, "audience": AUDIENCE, "requests_per_minute": 40})


@pytest.mark.integration
def test_a_good_token_opens_and_its_subject_is_the_name(proxy: RunningProxy) -> None:
    good = [token(), token(EC), token(aud=["other", AUDIENCE]), token(nbf=int(time.time()) - 5), token(sub="auth0|42")]
    assert [proxy.ask(key=one, json={}).status_code for one in good] == [200] * 5
    assert [arrival.headers["x-tunegate-key"] for arrival in proxy.arrivals] == ["jwt:alice"] * 4 + ["jwt:auth0%7C42"]
    assert not any("authorization" in arrival.headers for arrival in proxy.arrivals)
    assert proxy.ask(json={}).status_code == 200, "keys are good beside tokens"


def bad_tokens() -> dict[str, str]:
    now, pem = int(time.time()), read_jwks(write_jwks(public(RSA, "r1")), ALL)[0].pem.encode()
    head, _, rest = token().partition(".")
    body, _, signature = rest.partition(".")
    another = {"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": now + 600}
    none, odd, bare = (
        b64(json.dumps(header).encode())
        for header in ({"alg": "none", "kid": "r1"}, {"alg": "None", "kid": "r1"}, {"alg": "RS256"})
    )
    return {
        "alg none without a signature": f"{none}.{body}.",
        "alg none with one": f"{none}.{body}.{signature}",
        "alg None": f"{odd}.{body}.{signature}",
        "HS256 with the public key as the secret": token(pem, {"alg": "HS256", "kid": "r1"}),
        "HS256 bytes that claim RS256": token(pem, {"alg": "RS256", "kid": "r1"}),
        "ES256 key that claims RS256": token(EC, {"alg": "RS256", "kid": "r1"}),
        "RS256 under the EC key's kid": token(RSA, {"alg": "RS256", "kid": "e1"}),
        "RS512 in the header": token(RSA, {"alg": "RS512"}),
        "a stranger's key": token(STRANGER),
        "a stranger's key under a path as kid": token(STRANGER, {"kid": "../../jwks.json"}),
        "unknown kid": token(RSA, {"kid": "r2"}),
        "no kid": f"{bare}.{body}.{signature}",
        "key brought along": token(STRANGER, {"jwk": public(STRANGER, "r1")}),
        "signature cut": f"{head}.{body}.{signature[:-8]}",
        "signature gone": f"{head}.{body}.",
        "another body": f"{head}.{b64(json.dumps(another).encode())}.{signature}",
        "expired": token(exp=now - 1),
        "no exp": token(exp=None),
        "exp as a text": token(exp="never"),
        "exp negative": token(exp=-1),
        "not yet": token(nbf=now + 600),
        "another issuer": token(iss="https://evil.example.com/"),
        "no issuer": token(iss=None),
        "issuer with more": token(iss=ISSUER + "evil"),
        "another audience": token(aud="other"),
        "an audience that contains ours": token(aud="xtunegatex"),
        "a list of others": token(aud=["a", "xtunegatex"]),
        "no audience": token(aud=None),
        "no subject": token(sub=None),
        "an empty subject": token(sub=""),
        "only two parts": f"{head}.{body}",
        "four parts": f"{token()}.x",
    }


@pytest.mark.integration
def test_every_bad_token_is_401_and_reaches_nobody(proxy: RunningProxy) -> None:
    bad = bad_tokens()
    assert {what: proxy.ask(key=one, json={}).status_code for what, one in bad.items()} == dict.fromkeys(bad, 401)
    assert proxy.arrivals == []


@pytest.mark.integration
def test_a_subject_may_be_any_text_and_no_two_are_one(proxy: RunningProxy) -> None:
    """Encoded, so that none breaks a header, a log line or a table; a long one by its hash."""
    subjects = ["a/b+c", "a b", "a\nb", 'x","key":"root', "ünï", "a|b", "%0A", "s" * 70, "s" * 71, "jwt:alice"]
    assert [proxy.ask(key=token(sub=one), json={}).status_code for one in subjects] == [200] * len(subjects)
    names = [arrival.headers["x-tunegate-key"] for arrival in proxy.arrivals]
    assert names[:2] == ["jwt:a%2Fb%2Bc", "jwt:a%20b"] and len(set(names)) == len(subjects)
    assert all(len(name) <= 68 and name.isascii() and name.isprintable() for name in names)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("claims", "may"),
    [
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
        ({"scope": "openid chat"}, {"chat"}),
        ({"scope": "chat:write"}, set()),
        ({"scope": "chat,models"}, set()),
        ({"scope": None, "scp": "chat models"}, {"chat", "models"}),
        ({"scope": None, "scp": ["openid", "models"]}, {"models"}),
        ({"scope": "classify", "scp": "chat"}, {"classify"}),
        ({"scope": None, "scp": ["chat models"]}, set()),
    ],
)
def test_a_token_may_what_its_scope_says_word_by_word_and_nothing_without_one(
    proxy: RunningProxy, claims: dict[str, Any], may: set[str]
) -> None:
    paths = {"chat": "/v1/chat/completions", "classify": "/classify"}
    key = token(**claims)
    found = {scope for scope, path in paths.items() if proxy.ask(path=path, key=key, json={}).status_code == 200}
    found |= {"models"} if proxy.ask("GET", "/v1/models", key=key).status_code == 200 else set()
    assert found == may


@pytest.mark.integration
def test_scope_and_limits_hold_for_subjects(proxy: RunningProxy) -> None:
    assert proxy.ask(key=token(scope="openid classify"), path="/classify", json={}).status_code == 200
    assert proxy.ask(key=token(scope="openid classify"), json={}).status_code == 403
    assert proxy.ask(key=token(scope="chatter"), json={}).status_code == 403
    statuses = [proxy.ask(key=token(sub="bob"), json={}).status_code for _ in range(42)]
    assert statuses == [200] * 40 + [429] * 2
    assert proxy.ask(key=token(sub="carol"), json={}).status_code == 200


@pytest.mark.integration
def test_a_stream_open_over_rotations_of_the_providers_keys_ends_whole_and_is_in_the_ledger_all_the_while(
    start_proxy: Callable[..., RunningProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own key is withdrawn meanwhile, and it lasts longer than a stream may be silent."""
    monkeypatch.chdir(tmp_path)
    jwt = {"jwks": str(write_jwks(public(RSA, "r1"))), "issuer": ISSUER, "audience": AUDIENCE}
    proxy, new, began = (
        start_proxy(jwt=jwt, answer_seconds=3),
        token(STRANGER, {"kid": "r2"}, exp=2**33),
        time.monotonic(),
    )
    assert proxy.ask(key=new, json={}).status_code == 401
    with httpx.stream(
        "POST",
        proxy.router.base_url + "/v1/completions",
        json={"until": str(tmp_path / "end")},
        headers={"Authorization": f"Bearer {token()}"},
        timeout=30,
    ) as reply:
        chunks = reply.iter_text()
        assert next(chunks)
        for keys, statuses in (
            ((public(RSA, "r1"), public(STRANGER, "r2")), [200, 200, 401]),
            ((public(EC, "e1"), public(STRANGER, "r2")), [200, 401, 200]),
        ):
            write_jwks(*keys)
            assert proxy.router.reload() == ["settings"] and proxy.router.reload() == []
            assert [proxy.ask(key=one, json={}).status_code for one in (new, token(), token(EC))] == statuses
            assert proxy.router.traffic()["blue"].open == 1
        time.sleep(max(0, began + 5 - time.monotonic()))
        assert proxy.router.traffic()["blue"].open == 1
        (tmp_path / "end").touch()
        assert "".join(chunks).endswith("END")
    assert proxy.router.traffic()["blue"].total == 5 and proxy.router.weights() == {"blue": 100, "green": 0}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "no key"),
        ([{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}], "secret key"),
        ([public(RSA, "r1") | {"d": "AQAB"}], "secret key"),
        ([public(RSA, "r1"), public(EC, "r1")], "two keys with one kid"),
        ([public(rsa.generate_private_key(65537, 1024), "r1")], "1024 bits"),
        ([{"kty": "EC", "kid": "e", "crv": "P-256", "x": "AQ", "y": "AQ"}], "no readable JWKS"),
        ([{"kty": "RSA", "n": "AQ", "e": "AQAB"}], "kid"),
        ([public(RSA, "r1", use="enc"), public(RSA, "r2", alg="RS512"), {"kty": "OKP", "kid": "o"}], "no key for"),
    ],
)
def test_a_jwks_that_is_none_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[dict[str, str]], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        read_jwks(write_jwks(*keys), ALL)


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', '{"keys": ["x"]}'])
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "jwks.json").write_text(text)
    with pytest.raises(InputError, match=r"jwks\.json"):
        read_jwks(tmp_path / "jwks.json", ALL)
