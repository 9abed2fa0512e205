"""A JWKS file's public keys as the PEM files that HAProxy verifies tokens with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError

MINIMUM_RSA_BITS = 2048  # RFC 7518, 3.3


@dataclass(frozen=True)
class SigningKey:
    """One public key. Its file is named by its content, so that another key under the same `kid` is another
    configuration."""

    kid: str
    algorithm: str
    pem: str

    @property
    def file(self) -> str:
        return f"jwt-{hashlib.sha256(self.pem.encode()).hexdigest()[:16]}.pem"


def read_jwks(path: Path, algorithms: list[Any]) -> list[SigningKey]:
    """Raises InputError for a file that is no JWKS (RFC 7517), holds a secret, or has no key that is allowed here."""
    hint = f"fetch the provider's jwks_uri into {path}"
    try:
        entries = json.loads(path.read_text(encoding="utf8"))["keys"]
        found = [key for entry in entries if (key := read_key(entry)) and key.algorithm in algorithms]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise InputError(f"{path}: found no readable JWKS: {type(error).__name__}: {error}", hint=hint) from error
    if not found:
        raise InputError(f"{path}: found no key for {' or '.join(algorithms)}, expected one that has a kid", hint=hint)
    if len({key.kid for key in found}) != len(found):
        raise InputError(f"{path}: found two keys with one kid, expected each once", hint=hint)
    return found


def read_key(entry: Mapping[str, str]) -> SigningKey | None:
    """None for what signs nothing that HAProxy is to verify here. Raises ValueError for what must not be in a JWKS, or
    is too weak."""
    if entry["kty"] == "oct" or "d" in entry:
        raise ValueError("a secret key; a JWKS holds public ones only")
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(entry["kty"])
    if (
        algorithm is None
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", algorithm) != algorithm
        or entry.get("crv", "P-256") != "P-256"
    ):
        return None
    return SigningKey(str(entry["kid"]), algorithm, rsa_pem(entry) if algorithm == "RS256" else ec_pem(entry))


def rsa_pem(entry: Mapping[str, str]) -> str:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    key = RSAPublicNumbers(number(entry["e"]), number(entry["n"])).public_key()
    if key.key_size < MINIMUM_RSA_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits, expected {MINIMUM_RSA_BITS} at least")
    return pem_of(key)


def ec_pem(entry: Mapping[str, str]) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers

    return pem_of(EllipticCurvePublicNumbers(number(entry["x"]), number(entry["y"]), SECP256R1()).public_key())


def pem_of(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def number(text: str) -> int:
    """Base64url without padding, big-endian."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
