"""`sampling:` and `shadow:`: which requests are kept, and which are repeated to the new release."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.environment.smoke import must_compile
from configs.section import Section


class Sampling(Section):
    """A share of requests and answers is written down inside the slot, under state_dir/samples, for monitoring and trace replay."""

    share: float = Field(0.0, ge=0, le=1, description="0: off, and vLLM runs without the middleware")
    redact: bool = Field(True, description="e-mail addresses, telephone and card numbers, keys, in questions and answers")
    patterns: dict[str, Annotated[str, AfterValidator(must_compile)]] = Field(
        default_factory=dict, description="further redactions: name to regular expression"
    )
    queue: int = Field(256, ge=1, le=100_000, description="samples waiting to be written; beyond it they are dropped and counted")
    file_mebibytes: int = Field(64, ge=1, le=10_240, description="then a new file begins")
    files: int = Field(8, ge=1, le=10_000, description="of a slot; the oldest is deleted")


class Shadow(Section):
    """Sampled requests of what serves are asked at the new release too; its answers are compared and thrown away."""

    share: float = Field(0.1, gt=0, le=1)
    seconds: float = Field(60, gt=0, le=86_400)
    minimum_requests: int = Field(10, ge=1)
    agreement: Literal["exact", "token_f1"] = Field("token_f1", description="of a classifier: its labels, whichever is set")
    minimum_agreement: float = Field(0.0, ge=0, le=1)
    maximum_error_rate: float = Field(0.0, ge=0, le=1)
    concurrency: int = Field(4, ge=1, le=1000)
