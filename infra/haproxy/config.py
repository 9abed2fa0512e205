"""The text of the router's configuration: what HAProxy reads, made of what people write."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.environment.router import SCOPES, OpenPath, Scope
from configs.errors import InputError
from configs.section import JsonObject
from configs.slots import SLOTS, SlotName
from infra.haproxy.jwks import SigningKey, read_jwks
from infra.haproxy.members import Member
from infra.haproxy.servers import (
    LOOPBACK,
    NOWHERE,
    local_places,
    pod_variable,
    room_of,
    server_names,
    variable,
)

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("haproxy.cfg.jinja")
BACKLOG = 2048  # of vLLM's listening socket: uvicorn's default
CHECK_MILLISECONDS = 250
# What HAProxy itself answers; everything else is refused by a rule of the template, or answered by vLLM.
ERRORS = (
    (400, "invalid_request_error", "the request is malformed"),
    (401, "authentication_error", "wrong or missing API key"),
    (403, "permission_error", "refused"),
    (404, "invalid_request_error", "no such path here"),
    (405, "invalid_request_error", "no such method here"),
    (408, "timeout_error", "the request came too slowly"),
    (413, "invalid_request_error", "the request is too large"),
    (429, "rate_limit_error", "too many requests"),
    (500, "server_error", "the router failed"),
    (502, "server_error", "the model server failed"),
    (503, "server_error", "no model server is up"),
    (504, "timeout_error", "the model server did not answer in time"),
)
WRITING: frozenset[OpenPath] = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
ACCESS_LOG = {
    "time": "%[date,utime(%Y-%m-%dT%H:%M:%SZ)]",
    "request_id": "%[var(txn.request_id,-)]",
    "key": "%[var(txn.name,-),json(utf8s)]",
    "method": "%[method,bytes(0,32),json(utf8s)]",
    "path": "%[var(txn.path,-),bytes(0,256),json(utf8s)]",
    "environment": "%[var(txn.environment,-)]",
    "slot": "%[var(txn.slot,-)]",
    "server": "%[srv_name]",
    "release": "%[var(txn.release,-)]",
    "termination": "%ts",
}
ACCESS_LOG_NUMBERS = {
    "epoch_ms": "%[date(0,ms)]",
    "status": "%ST",
    "bytes_in": "%U",
    "bytes_out": "%B",
    "held_ms": "%[var(txn.held,0)]",
    "receive_ms": "%TR",
    "queue_ms": "%Tw",
    "connect_ms": "%Tc",
    "first_byte_ms": "%Tr",
    "total_ms": "%Ta",
}
# What /v1/models says of the release that answers.
ANSWERED = {
    "created": "%[var(txn.created)]",
    "release": '"%[var(txn.release)]"',
    "slot": '"%[var(txn.slot)]"',
}
# Of the page at /docs, which needs nothing but itself.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# What cannot be read as HTTP, or breaks off in TLS, has none of these.
NO_REQUEST = ("request_id", "key", "method", "path", "environment", "slot", "server", "release")


@dataclass(frozen=True)
class Behind:
    """One environment behind the router. `suffix`: of its backends, servers and entries of maps; `servers`: by slot and
    name, where each is; `facts`: what /v1/models says of its model, as a log-format string; `pods`: at most so many in
    a slot, where its servers are pods; `from_zero`: a request waits for the first of them."""

    name: str
    model: str
    suffix: str
    servers: dict[SlotName, dict[str, str]]
    facts: str
    pods: int | None = None
    from_zero: bool = False

    @classmethod
    def of(cls, name: str, model: str, suffix: str, ports: Mapping[SlotName, Sequence[int]]) -> Behind:
        servers = {slot: addresses(ports[slot], slot, suffix) for slot in SLOTS}
        return cls(name, model, suffix, servers, log_format_of(facts_of(model)))

    @classmethod
    def host(cls, config: DeployConfig) -> Behind:
        """The environment whose router it is."""
        if not isinstance(config.placement, Kubernetes):
            return cls.of(config.name, config.model, "", {slot: config.ports_of(slot) for slot in SLOTS})
        placed, room = config.placement, room_of(config.placement)
        servers = {slot: {name: place_of_pod(name) for name in server_names(slot, room)} for slot in SLOTS}
        facts = log_format_of(facts_of(config.model))
        return cls(config.name, config.model, "", servers, facts, placed.most, from_zero=placed.replicas == 0)

    @property
    def check_milliseconds(self) -> int:
        """Between two looks at a server: of a slot with many pods more, so that a router makes at most a thousand looks
        a second."""
        return max(CHECK_MILLISECONDS, 2 * (self.pods or 0))

    @property
    def connect_milliseconds(self) -> int:
        """On loopback it takes no time; through a network a packet may be lost, and sent again."""
        return 250 if self.pods is None else 1000

    def own(self, name: str) -> str:
        """What a server's line says after its place, in its own slot's backend. Without a pod it is in maintenance."""
        return f' "${{{pod_variable(name, "STATE")}-disabled}}"' if self.pods else ""

    def backup(self, owner: SlotName, name: str) -> str:
        """The same in the other slot's. A pod is looked at once, for both."""
        tracked = f" no-check observe none track {owner}/{name}" if self.pods else ""
        return f' backup{tracked} "${{{self.variable(owner)}}}"'

    def variable(self, slot: SlotName) -> str:
        return variable(slot, self.suffix, "STANDBY")


def render(config: DeployConfig, members: Mapping[str, Member] | None = None) -> str:
    """HAProxy's configuration file; whatever a YAML may say is a number, one of a few words, or passes `word`.
    `members`: the environments behind it beside its own."""
    router = config.router
    own = Behind.host(config)
    others = [Behind.of(name, one["model"], f".{name}", one["ports"]) for name, one in sorted((members or {}).items())]
    return (
        template()
        .render(
            router=router,
            address=(address := word(f"[{router.host}]" if ":" in router.host else router.host)),
            inside=LOOPBACK if own.pods is None else address,
            user=own_user(),
            slots=list(SLOTS),
            environments=[own, *others],
            scopes=sorted(paths_by_scope(router.paths).items()),
            writing=sorted(WRITING),
            errors=ERRORS,
            error=error,
            tls=tls(config),
            jwt_keys=keys_of(config),
            backlog=BACKLOG,
            policy=POLICY,
            log_format=log_format(ACCESS_LOG, ACCESS_LOG_NUMBERS),
            error_log_format=log_format(
                ACCESS_LOG | dict.fromkeys(NO_REQUEST, "-"), ACCESS_LOG_NUMBERS | {"held_ms": "0"}
            ),
        )
        .strip()
        + "\n"
    )


def addresses(ports: Sequence[int], slot: SlotName, suffix: str) -> dict[str, str]:
    """By the server's name: its place, or what the environment says of it."""
    first, *others = zip(server_names(slot + suffix, len(ports)), local_places(ports), strict=True)
    return {first[0]: f'{LOOPBACK}:"${{{variable(slot, suffix, "PORT")}}}"'} | dict(others)


def place_of_pod(name: str) -> str:
    """What the environment says of it; what starts and knows nothing knows no pod."""
    return f'"${{{pod_variable(name, "PLACE")}-{NOWHERE}}}"'


@cache
def template() -> Template:
    """Compiled once a process."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["word"] = word
    return environment.from_string(TEMPLATE.read_text(encoding="utf8"))


def keys_of(config: DeployConfig) -> list[SigningKey]:
    jwt = config.router.jwt
    return read_jwks(Path(jwt.jwks), jwt.algorithms) if jwt else []


def tls(config: DeployConfig) -> str:
    """What `bind` says after the address; empty where the router speaks plain HTTP/1."""
    if config.router.tls is None:
        return ""
    clients = " ca-file client_ca.pem verify required" if config.router.tls.client_ca else ""
    return f"ssl crt router.pem alpn h2,http/1.1{clients}"


def own_user() -> str | None:
    """Whom a router that root starts becomes, in an empty root directory: TUNEGATE_ROUTER_USER, else the first of two
    that exists."""
    if os.geteuid() != 0:
        return None
    names = [os.environ.get("TUNEGATE_ROUTER_USER"), "tunegate-router", "nobody"]
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in known), None)


def error(status: int, type: str, message: str) -> str:
    """OpenAI's shape, with vLLM's number as the code; fit for single quotes."""
    return quoted(json.dumps({"error": {"message": message, "type": type, "param": None, "code": status}}))


def facts_of(name: str) -> JsonObject:
    """What /v1/models says of a model: its stable name, and the release that answers to it."""
    facts = {"id": name, "object": "model", "created": "\0created", "owned_by": "tunegate", "root": name}
    return facts | {"tunegate": {"release": "\0release", "slot": "\0slot"}}


def log_format_of(facts: JsonObject) -> str:
    """As a log-format string for the inside of HAProxy's single quotes: it fills in what only it knows. No model's name
    holds a NUL, so none is taken for such a place."""
    text = json.dumps(facts).replace("%", "%%")
    for name, said in ANSWERED.items():
        text = text.replace(json.dumps(f"\0{name}"), said)
    return quoted(text)


def log_format(texts: dict[str, str], numbers: dict[str, str]) -> str:
    return (
        "{"
        + ",".join(
            [f'"{key}":"{value}"' for key, value in texts.items()]
            + [f'"{key}":{value}' for key, value in numbers.items()]
        )
        + "}"
    )


def quoted(text: str) -> str:
    """For the inside of HAProxy's single quotes, where nothing else is special. Raises InputError for what no line of
    its configuration can hold."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InputError(f"found {text!r}, expected text without control characters", hint="tunegate check")
    return text.replace("'", "'\\''")


def word(text: str) -> str:
    """One word of HAProxy's configuration, whatever it holds."""
    return f"'{quoted(text)}'"


def paths_by_scope(paths: list[OpenPath]) -> dict[Scope, list[OpenPath]]:
    return {scope: [path for path in paths if SCOPES[path] == scope] for scope in {SCOPES[path] for path in paths}}
