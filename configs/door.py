"""Door: what of an environment faces the network, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from configs.section import Section

OpenPath = Literal["/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/classify", "/pooling"]
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


class Door(Section):
    """The router that faces the network."""

    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9.:*_-]+$")
    port: int = Field(8080, ge=1, le=65_535)
    paths: list[OpenPath] = Field(list(get_args(OpenPath)[:-1]), description="what exists outside; a tagger's environment adds /pooling")
    api_key_env: str = Field("TUNEGATE_API_KEY", description="the environment variable that holds the key `default`; unset: made once, kept under state_dir")
    queue_seconds: int = Field(120, ge=1, le=3_600, description="while no slot serves (a swap), a new request waits this long, then gets 503")
