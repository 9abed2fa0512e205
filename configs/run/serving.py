"""`serving:`: how vLLM is to serve the release."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class Serving(Section):
    """The vLLM arguments that evaluation and production share; they travel in the manifest."""

    max_model_len: int = Field(512, ge=16, le=1_048_576)
    max_num_seqs: int = Field(32, ge=1, le=4096)
    dtype: Literal["auto", "float32", "bfloat16"] = Field("float32", description="activations; auto: what vLLM picks")
    kv_cache_gib: int = Field(1, ge=1, le=4096)
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the release will be served; auto: on a machine like this one"
    )
    tool_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9_-]+$",
        description="how the model writes a tool call, by vLLM's name (hermes, llama3_json, ...); null: no tools",
    )
