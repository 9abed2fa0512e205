"""Router: what of an environment faces the network, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from configs.section import Section

OpenPath = Literal[
    "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/classify", "/pooling"
]
Scope = Literal["chat", "classify", "embeddings", "models"]
SCOPES: dict[OpenPath, Scope] = {
    "/v1/models": "models",
    "/v1/chat/completions": "chat",
    "/v1/completions": "chat",
    "/v1/responses": "chat",
    "/v1/embeddings": "embeddings",
    "/classify": "classify",
    "/pooling": "classify",
}
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]


class Tls(Section):
    """PEM files. They are read when the router starts and by `tunegate router reload ENV`; no stream is dropped
    by it."""

    certificate: str = Field(description="the router's own, then its chain")
    key: str
    local_port: int = Field(
        ge=1,
        le=65_535,
        description="plain HTTP on 127.0.0.1, for this machine's own requests: the switch is proven there",
    )
    client_ca: str | None = Field(
        None, description="mutual TLS: only clients with a certificate of this authority get as far as a key"
    )


class Jwt(Section):
    """Tokens of an identity provider, beside the API keys. `sub` is the name in logs and limits; `scope` or `scp` names
    the path groups, and a token without either has no right."""

    jwks: str = Field(
        description="the provider's public keys, a JSON file (RFC 7517); read anew by `tunegate router reload ENV`"
    )
    issuer: str = Field(min_length=1, pattern=r"^[^\s'\"]+$")
    audience: str = Field(min_length=1, pattern=r"^[^\s'\"]+$")
    algorithms: list[Literal["RS256", "ES256"]] = Field(["RS256", "ES256"], min_length=1)
    requests_per_minute: int = Field(0, ge=0, description="of one `sub`; 0: no limit")
    tokens_per_minute: int = Field(0, ge=0)
    concurrent: int = Field(0, ge=0)


class AccessLog(Section):
    """A JSON line a request, under state_dir; a new file at a size."""

    mebibytes: int = Field(256, ge=1, le=1_000_000)
    files: int = Field(8, ge=1, le=1_000, description="older ones that are kept: access.jsonl.1 is the newest")


class RouterSettings(Section):
    """The router that faces the network."""

    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9.:*_-]+$")
    port: int = Field(8080, ge=1, le=65_535)
    paths: list[OpenPath] = Field(
        list(get_args(OpenPath)[:-1]), description="what exists outside; a tagger's environment adds /pooling"
    )
    api_key_env: str = Field(
        "TUNEGATE_API_KEY",
        pattern=r"^[A-Z][A-Z0-9_]*(KEY|TOKEN|SECRET|PASSWORD)[A-Z0-9_]*$",
        description="the environment variable that holds the key `default`; unset: made once, kept under state_dir",
    )
    queue_seconds: int = Field(
        120, ge=1, le=3_600, description="while no slot serves (a swap), a new request waits this long, then gets 503"
    )
    answer_seconds: int = Field(
        3_600,
        ge=1,
        le=86_400,
        description="the longest silence of a model server or a reading client: then 504, or the stream ends",
    )
    reload_deadline_seconds: int = Field(
        86_400,
        ge=1,
        le=2_000_000,
        description="after a reload the streams of the process before it go on, at the longest for so long; then cut",
    )
    receive_seconds: int = Field(
        10, ge=1, le=600, description="a client's headers, and then its body, must be here within this time: else 408"
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="HAProxy's own figures for Prometheus, GET /metrics on 127.0.0.1; null: none"
    )
    max_connections: int = Field(4_096, ge=16, le=1_000_000)
    max_body_kib: int = Field(
        1_024,
        ge=1,
        le=16_384,
        description="a larger body is 413; the router holds a whole body in memory before a model server sees it",
    )
    max_header_kib: int = Field(16, ge=1, le=64, description="a request's line and headers; more is 431")
    default_max_tokens: int = Field(
        1_024, ge=1, description="what a request without max_tokens reserves of its key's tokens a minute"
    )
    cors_origins: list[Origin] = Field([], description="browser pages that may call, such as https://app.example.com")
    access_log: AccessLog = AccessLog()
    tls: Tls | None = None
    jwt: Jwt | None = None
