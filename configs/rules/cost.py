"""Rules on what a release costs: bytes, and what the load tests of a deployment measure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.rules.fields import bounds
from configs.section import Section

LATENCIES = Literal[
    "time_to_first_token_p50_ms", "time_to_first_token_p95_ms", "time_to_first_token_p99_ms",
    "inter_token_p50_ms", "inter_token_p95_ms", "inter_token_p99_ms",
    "time_per_output_token_p50_ms", "time_per_output_token_p95_ms", "time_per_output_token_p99_ms",
    "latency_p50_ms", "latency_p95_ms", "latency_p99_ms",
]  # fmt: skip


class SizeRule(Section):
    """Bytes of weights, or their ratio to another release's."""

    rule: Literal["size"]
    maximum_bytes: int | None = Field(None, gt=0)
    relative_to: Literal["parent", "champion"] | None = None
    maximum_ratio: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def bounded(self) -> SizeRule:
        if (self.relative_to is None) != (self.maximum_ratio is None):
            raise ValueError("relative_to exactly with maximum_ratio")
        if (self.maximum_bytes is None) == (self.maximum_ratio is None):
            raise ValueError("maximum_bytes, or relative_to with maximum_ratio")
        return self

    @property
    def name(self) -> str:
        return (
            f"size <= {self.maximum_bytes:,} bytes"
            if self.maximum_bytes
            else f"size <= {self.maximum_ratio:g} x {self.relative_to}"
        )


class LatencyRule(Section):
    """A time of the load test, at most so many milliseconds or so many times blue's."""

    rule: Literal["latency"]
    metric: LATENCIES
    maximum: float | None = Field(None, gt=0, description="milliseconds")
    relative_to: Literal["blue"] | None = None
    maximum_ratio: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def bounded(self) -> LatencyRule:
        if (self.relative_to is None) != (self.maximum_ratio is None):
            raise ValueError("relative_to exactly with maximum_ratio")
        if self.maximum is None and self.maximum_ratio is None:
            raise ValueError("maximum, or relative_to with maximum_ratio")
        return self

    @property
    def name(self) -> str:
        parts = [bounds(None, self.maximum)] if self.maximum is not None else []
        parts += [f"<= {self.maximum_ratio:g} x blue"] if self.maximum_ratio is not None else []
        return f"{self.metric} {' and '.join(parts)}"


class GoodputRule(Section):
    """What the load test got through: good answers a second, tokens a second, and the share of requests that failed."""

    rule: Literal["goodput"]
    metric: Literal[
        "requests_per_second",
        "tokens_per_second",
        "goodput_requests_per_second",
        "goodput_share",
        "knee_requests_per_second",
    ] = "requests_per_second"
    minimum: float | None = Field(None, ge=0)
    relative_to: Literal["blue"] | None = None
    minimum_ratio: float | None = Field(None, gt=0)
    maximum_error_rate: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def bounded(self) -> GoodputRule:
        if (self.relative_to is None) != (self.minimum_ratio is None):
            raise ValueError("relative_to exactly with minimum_ratio")
        if self.minimum is None and self.minimum_ratio is None and self.maximum_error_rate is None:
            raise ValueError("minimum, maximum_error_rate, or relative_to with minimum_ratio")
        return self

    @property
    def name(self) -> str:
        parts = [f"{self.metric} {bounds(self.minimum, None)}"] if self.minimum is not None else []
        parts += [f"{self.metric} >= {self.minimum_ratio:g} x blue"] if self.minimum_ratio is not None else []
        parts += [f"error_rate {bounds(None, self.maximum_error_rate)}"] if self.maximum_error_rate is not None else []
        return ", ".join(parts)
