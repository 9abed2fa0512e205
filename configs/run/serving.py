"""`serving:`: how vLLM is to serve the release."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, ValidationInfo, field_validator, model_validator

from configs.run.vllm_flags import wrong_flags
from configs.section import Section

Flag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,80}$")]


class Speculative(Section):
    """Tokens guessed from the prompt itself (n-grams) and checked by the model at once: the same answers, sooner where
    answers repeat what was asked."""

    tokens: int = Field(4, ge=1, le=64, description="guessed at a time")
    longest_match: int = Field(4, ge=1, le=64, description="tokens of the answer's end that are looked for")
    shortest_match: int = Field(2, ge=1, le=64)

    @model_validator(mode="after")
    def matches_are_in_order(self) -> Speculative:
        if self.shortest_match > self.longest_match:
            raise ValueError(f"shortest_match of at most longest_match, {self.longest_match}")
        return self


class Serving(Section):
    """The vLLM arguments that evaluation and production share; they travel in the manifest."""

    max_model_len: int = Field(
        512,
        ge=16,
        le=1_048_576,
        description="tokens of a prompt and its answer; of a language model on a GPU by default 8192, or what its base "
        "can where that is less",
    )
    max_num_seqs: int = Field(32, ge=1, le=4096)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "float32", description="activations; auto: what vLLM picks; on a GPU by default bfloat16"
    )
    kv_cache_gib: int = Field(
        1, ge=1, le=4096, description="on a CPU; on a GPU it is what gpu_memory_utilization leaves"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the release will be served; auto: on a machine like this one"
    )
    tool_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9_-]+$",
        description="how the model writes a tool call, by vLLM's name (hermes, llama3_json, ...); null: no tools",
    )
    reasoning_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9_-]+$",
        description="how the model marks its thoughts, by vLLM's name (qwen3, deepseek_r1, ...); null: it marks none",
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="share of a GPU's memory that one server may take; null: vLLM's own, 0.92"
    )
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs that hold each layer's parts")
    pipeline_parallel_size: int = Field(1, ge=1, le=64, description="groups of GPUs that hold the layers in turn")
    enforce_eager: bool | None = Field(
        None, description="no CUDA graphs: starts sooner, answers later. null: off on a GPU, on on a CPU"
    )
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto", description="of the key-value cache; auto: that of the activations"
    )
    max_num_batched_tokens: int | None = Field(None, ge=1, le=4_194_304, description="of one step; null: vLLM's own")
    prefix_caching: bool | None = Field(
        None, description="keep the keys and values of shared prefixes; null: vLLM's own"
    )
    speculative: Speculative | None = None
    vllm: dict[Flag, JsonValue] = Field(
        {}, description="further arguments of vLLM, by their names without the dashes in front: `block-size: 32`"
    )

    @property
    def gpus(self) -> int:
        """That one server is spread over."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @field_validator("vllm")
    @classmethod
    def flags_are_vllms(cls, given: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        """Of a YAML: a manifest's were those of the vLLM that it was made for."""
        wrong = wrong_flags(given) if info.context else []
        if wrong:
            raise ValueError("; ".join(f"{one.flag}: {one.expected}" for one in wrong))
        return given
