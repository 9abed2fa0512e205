"""API keys: who may ask what, and how much. Only the SHA-256 of a key is kept; the key itself is shown once, when it is
made.

A plain SHA-256 is enough, for a key is 32 random bytes: nobody guesses it, so nothing is gained by a slow, salted hash,
which is for passwords.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from configs.environment.config import DeployConfig
from configs.environment.router import Scope
from configs.errors import InputError
from configs.section import NAME_PATTERN, Section
from infra.files.atomic import private_directory, write_private
from infra.files.sealed_log import append
from infra.git.command import stamp
from infra.haproxy.runtime_api import Admin
from infra.state.folder import state_folder

DEFAULT = "default"
SHORTEST_KEY = 16
KEY_PATTERN = rf"[A-Za-z0-9._~+/-]{{{SHORTEST_KEY - 1},}}[A-Za-z0-9._~+/=-]+"


class KeyLimits(Section):
    """Limits of 0 are none; `expires` is in seconds since 1970; a day and a month are those of UTC."""

    scopes: list[Scope] = Field(list(get_args(Scope)))
    requests_per_minute: int = Field(0, ge=0)
    tokens_per_minute: int = Field(0, ge=0)
    tokens_per_day: int = Field(0, ge=0)
    tokens_per_month: int = Field(0, ge=0)
    concurrent: int = Field(0, ge=0)
    expires: int = Field(0, ge=0)


class Key(Section):
    """One that is valid, or was. A rotated name has two for a while; they share the name's limits."""

    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: int
    limits: KeyLimits

    def entry(self) -> str:
        """The fields in the order that haproxy.cfg.jinja reads them."""
        limits = self.limits
        numbers = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent, limits.expires)
        return "|".join([self.name, ",".join(limits.scopes), *map(str, numbers)])


KEYS: TypeAdapter[list[Key]] = TypeAdapter(list[Key])


@dataclass(frozen=True)
class Keyring:
    """The keys of one router: a file under the state of the environment whose it is, and the running router's map of
    it."""

    config: DeployConfig

    @property
    def path(self) -> Path:
        return state_folder(self.config.host) / "keys.json"

    def read(self) -> list[Key]:
        """Raises InputError where the file was spoilt."""
        try:
            return KEYS.validate_json(self.path.read_bytes()) if self.path.exists() else []
        except ValidationError as error:
            raise InputError(
                f"{self.path}: {error}", hint=f"restore {self.path}, or remove it and add the keys again"
            ) from None

    def add(self, name: str, limits: KeyLimits, why: str | None = None) -> str:
        """The new key, told this once. Raises InputError where the name is taken or cannot be one."""
        secret = new_secret()
        with self.changed("added", name, why) as keys:
            if name == DEFAULT or name in {key.name for key in keys}:
                raise InputError(
                    f"there is a key {name!r} already", hint=f"tunegate keys rotate {self.config.name} {name}"
                )
            keys.append(make_key(name, secret, limits))
        return secret

    def revoke(self, name: str, why: str | None = None) -> int:
        """How many keys of that name are gone, at once."""
        with self.changed("revoked", name, why) as keys:
            gone = self.named(keys, name)
            keys[:] = [key for key in keys if key.name != name]
        return len(gone)

    def rotate(self, name: str, grace_seconds: int, why: str | None = None) -> str:
        """A new key of the same name and limits; the old one is valid for `grace_seconds` more, and one older than that
        no longer."""
        secret, now = new_secret(), int(time.time())
        with self.changed("rotated", name, why) as keys:
            newest = max(self.named(keys, name), key=lambda key: (key.created, keys.index(key)))
            ends = min(newest.limits.expires or now + grace_seconds, now + grace_seconds)
            old = newest.model_copy(update={"limits": newest.limits.model_copy(update={"expires": ends})})
            keys[:] = (
                [key for key in keys if key.name != name]
                + [old] * (grace_seconds > 0)
                + [make_key(name, secret, newest.limits)]
            )
        return secret

    def set_default(self, secret: str) -> None:
        """The one key without limits that a deployment's own requests use."""
        with self.changed("set", DEFAULT, None) as keys:
            if [key.sha256 for key in keys if key.name == DEFAULT] != [hash_of(secret)]:
                keys[:] = [key for key in keys if key.name != DEFAULT] + [
                    make_key(DEFAULT, secret, KeyLimits.model_validate({}))
                ]

    def named(self, keys: list[Key], name: str) -> list[Key]:
        """Raises InputError where there is none, or it is the default one, which follows its variable."""
        if name == DEFAULT:
            raise InputError(
                f"the key {DEFAULT!r} is {self.config.router.api_key_env}'s",
                hint=f"tunegate stop {self.config.name}, set it, and deploy again",
            )
        found = [key for key in keys if key.name == name]
        if not found:
            known = ", ".join(sorted({key.name for key in keys})) or "none"
            raise InputError(
                f"found no key {name!r}; there are: {known}", hint=f"tunegate keys list {self.config.name}"
            )
        return found

    @contextlib.contextmanager
    def changed(self, change: str, name: str, why: str | None) -> Iterator[list[Key]]:
        """Read, change, put on record, write the file, tell the running router: one process at a time, and nothing
        where the change or the record fails."""
        private_directory(self.path.parent)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            keys = list(before)
            yield keys
            if keys != before:
                now = [f"{key.sha256[:12]} {key.entry()}" for key in keys if key.name == name]
                note(
                    self.path.with_name("events.jsonl"),
                    "keyed",
                    change=change,
                    name=name,
                    keys=now,
                    **({"why": why} if why else {}),
                )
            write_private(self.path, json.dumps([key.model_dump() for key in keys], indent=1) + "\n")
            admin = Admin(self.path.parent / "router", hint=f"tunegate deploy {self.config.name}")
            admin.write_map("keys.map", {key.sha256: key.entry() for key in keys})


def make_key(name: str, secret: str, limits: KeyLimits) -> Key:
    """Raises InputError where the name cannot be one."""
    try:
        return Key(name=name, sha256=hash_of(secret), created=int(time.time()), limits=limits)
    except ValidationError:
        raise InputError(
            f"found the name {name!r}, expected {NAME_PATTERN}", hint="tunegate keys add ENV team-search"
        ) from None


def new_secret() -> str:
    return "tg-" + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def api_key(config: DeployConfig) -> str:
    """The default key, from the environment variable that the config names; else one made once, readable by its owner
    only. Raises InputError where the variable holds what is soon guessed, or no client can send (RFC 6750, 2.1)."""
    given, name = os.environ.get(config.router.api_key_env), config.router.api_key_env
    if given:
        if not re.fullmatch(KEY_PATTERN, given):
            found = f"{len(given)} characters" if given.isprintable() else "control characters"
            raise InputError(
                f"{name}: found {found}, expected {SHORTEST_KEY} or more of A-Z a-z 0-9 - . _ ~ + / =: whoever guesses "
                "it has a key without limits",
                hint=f"unset {name}, and one is made",
            )
        return given
    path = state_folder(config.host) / "api_key"
    if not path.exists():
        private_directory(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="utf8").strip()


def note(path: Path, kind: str, **facts: Any) -> None:
    """A line of its own, for what is no business of a slot: that of serve/record/state.py's Event."""
    from filelock import FileLock

    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "kind": kind,
        "slot": None,
        "facts": facts,
        **stamp(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        append(path, json.dumps(line, separators=(",", ":")).encode())
