"""The seam to sigstore's model-signing, its only user: a release is signed when it is published and verified before it
is loaded; its verdict and the evaluation behind it are signed with it, and verified before a deploy believes them.

A signature is a Sigstore bundle of an in-toto statement that names every file of a folder with its SHA-256. It lies
beside the folder, for a signature cannot be among the bytes it signs: the digest stays what it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from configs.environment.signing import is_pem
from configs.errors import InputError, RefusedError
from configs.release import MANIFEST, list_files
from infra.files.hashes import remembered

SIGNATURE = "model.sig"  # of a release: the library's own name for it
KEY, PASSWORD = "TUNEGATE_SIGNING_KEY", "TUNEGATE_SIGNING_PASSWORD"
MOST_WORDS = 200  # the library prints raw bytes after what it has to say
MAKE_KEY = (
    "openssl ecparam -name prime256v1 -genkey -noout -out signing.key"
    " && openssl ec -in signing.key -pubout -out signing.pub"
)


def signature_of(folder: Path) -> Path:
    """Beside it: model.sig of release/, gate.sig of gate/."""
    return folder.with_name(SIGNATURE if folder.name == "release" else f"{folder.name}.sig")


def signing_key() -> Path | None:
    """The private key's file, as the environment names it; None: releases are not signed here."""
    named = os.environ.get(KEY)
    return Path(named) if named else None


def sign(folder: Path, key: Path) -> Path:
    """The signature's path; it is written whole or not at all. Raises InputError where the key, or its password, cannot
    be used."""
    from model_signing import signing

    password = os.environ.get(PASSWORD)
    try:
        config = signing.Config()  # type: ignore[no-untyped-call]  # the library's are half typed
        # It passes the password on as it comes, and cryptography wants bytes.
        given: Any = password.encode() if password else None
        config.use_elliptic_key_signer(private_key=key, password=given)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{KEY}: {key}: {error}", hint=f"{MAKE_KEY}   (an encrypted key: {PASSWORD})") from error
    target = signature_of(folder)
    partial = folder.parent.with_name(f".{folder.parent.name}.{target.name}")  # outside of what DVC takes in
    config.sign(folder, partial)
    os.replace(partial, target)
    return target


def verify_signature(folder: Path, public_key: str, reference: str, *, afresh: bool = False) -> None:
    """`public_key`: PEM or the path of one. `folder`: a part of the release `reference`, each of whose files is hashed
    unless it is known (`afresh`: whatever is known).

    Raises InputError where the key cannot be read, RefusedError where the folder is unsigned, signed by another key, or
    not what was signed.
    """
    from model_signing import verifying

    signature = signature_of(folder)
    hint = f"tunegate releases sign {reference}   (by the owner of the key; docs/security.md)"
    with key_file(public_key) as path:
        try:
            config = verifying.Config()  # type: ignore[no-untyped-call]
            config.use_elliptic_key_verifier(public_key=path)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"signing.public_key: {path}: {error}", hint=MAKE_KEY) from error
        if not signature.exists():
            raise RefusedError(
                f"{folder}: found no {signature}, expected a signature by the key that the environment pins", hint=hint
            )
        try:
            if not is_signed_as_it_is(config, folder, signature, afresh):
                config.verify(folder, signature)  # it says what differs, and knows other ways to sign
        # What a forged file can make the parsers below raise is not bounded: whatever it is, it is no signature.
        except Exception as error:
            reason = " ".join(str(error).replace("\\", "").split())[:MOST_WORDS] or type(error).__name__
            raise RefusedError(f"{signature}: {reason}", hint=hint) from error


def is_signed_as_it_is(config: Any, folder: Path, signature: Path, afresh: bool) -> bool:
    """Whether the key signed just the files that are here, by their SHA-256. The library would read every byte each
    time; its reader and its verifier are asked as in `verifying.Config.verify` of 1.1.1."""
    from model_signing._signing.sign_sigstore_pb import Signature

    signed = {
        one.identifier: (one.digest.algorithm, one.digest.digest_hex)
        for one in config._verifier.verify(Signature.read(signature)).resource_descriptors()
    }
    if any(path.is_symlink() for path in (folder, *folder.rglob("*"))):
        return False  # the library has its own word on them
    with remembered(afresh=afresh) as hash_file:
        here = {file.path: ("sha256", file.sha256) for file in list_files(folder, hash_file)}
        if (folder / MANIFEST).is_file():
            here[MANIFEST] = "sha256", hash_file(folder / MANIFEST)
    return here == signed


@contextmanager
def key_file(public_key: str) -> Iterator[Path]:
    """The library reads keys from files only."""
    if not is_pem(public_key):
        yield Path(public_key)
        return
    with NamedTemporaryFile("w", suffix=".pem") as stream:
        stream.write(public_key)
        stream.flush()
        yield Path(stream.name)
