"""What a slot is asked before and after traffic reaches it: the load test, the application's own requests, the watch, sampling, the shadow."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from configs.section import ExistingPath, Section

Rate = Annotated[float, Field(gt=0, le=100_000)]


def must_compile(regex: str) -> str:
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return regex


class Objective(Section):
    """What a request must meet to count as goodput: every limit that is stated (DistServe, OSDI 2024, and vLLM's `bench serve --goodput`)."""

    time_to_first_token_ms: float | None = Field(None, gt=0)
    inter_token_ms: float | None = Field(None, gt=0, description="a request's mean time per output token after the first")
    latency_ms: float | None = Field(None, gt=0, description="from the intended start to the end of the answer")

    @model_validator(mode="after")
    def stated(self) -> Objective:
        if self.time_to_first_token_ms is None and self.inter_token_ms is None and self.latency_ms is None:
            raise ValueError("time_to_first_token_ms, inter_token_ms or latency_ms")
        return self


class LoadTest(Section):
    """A locust run straight at the idle slot, before any traffic. One of users (closed loop), rate, ramp or trace (open loop)."""

    users: int = Field(4, ge=1, le=10_000, description="closed loop: each asks, reads to the end, asks again; used unless rate, ramp or trace is set")
    seconds: int = Field(20, ge=1, le=86_400, description="of a ramp: all its steps together; of a trace: the most that is replayed")
    max_tokens: int = Field(24, ge=1, le=65_536)
    rate: Rate | None = Field(None, description="open loop: requests a second, Poisson arrivals; a slow server does not slow them down")
    ramp: list[Rate] = Field(default_factory=list, max_length=100, description="open loop: one rate after another, to find the knee")
    trace: ExistingPath | None = Field(None, description="open loop: sampled requests (.jsonl, .parquet: at, path, body) replayed at their own times")
    trace_speed: float = Field(1.0, gt=0, le=1000, description="2: twice as fast as it was recorded")
    seed: int = Field(17, ge=0, description="of the arrivals: the same seed is the same load")
    processes: int = Field(1, ge=1, le=64, description="locust's own workers on this machine")
    slo: Objective | None = None

    @model_validator(mode="after")
    def one_kind(self) -> LoadTest:
        if sum(bool(one) for one in (self.rate, self.ramp, self.trace)) > 1:
            raise ValueError("only one of rate, ramp and trace")
        return self

    @property
    def open_loop(self) -> bool:
        return bool(self.rate or self.ramp or self.trace)


class Expectation(Section):
    """All that is stated must hold of the answer's text: a chat's or a completion's content, else the whole body."""

    status: int = Field(200, ge=100, le=599)
    contains: str | None = None
    regex: str | None = Field(None, description="Python's re, found anywhere")
    equals: str | None = Field(None, description="spaces at both ends do not count")
    json_schema: dict[str, Any] | None = Field(None, description="the text is JSON and valid under this JSON Schema")
    max_seconds: float | None = Field(None, gt=0)

    @field_validator("regex")
    @classmethod
    def compiles(cls, regex: str | None) -> str | None:
        return must_compile(regex) if regex is not None else None

    @field_validator("json_schema")
    @classmethod
    def is_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(schema or {})
        except SchemaError as error:
            raise ValueError(f"a JSON Schema ({error.message})") from None
        return schema


class SmokeRequest(Section):
    """One request of the application's own; `model` is filled in."""

    name: str | None = None
    path: str = Field("/v1/chat/completions", pattern=r"^/[\w/.-]+$")
    body: dict[str, Any]
    expect: Expectation = Expectation()


class SmokeConfig(Section):
    """The file that `smoke:` names."""

    requests: list[SmokeRequest] = Field(min_length=1, max_length=1000)


class Watch(Section):
    """When the new release under traffic is worse than the old one was: an interval that lies wholly beyond a limit is a breach.

    `false_alarm` is spread over all looks of the bake and all figures (Bonferroni): looking every second does not make an alarm likelier.
    """

    every_seconds: float = Field(1.0, ge=0.1, le=3600)
    minimum_requests: int = Field(20, ge=2, description="of either side; with fewer a figure is inconclusive, which is said, and rolls nothing back")
    false_alarm: float = Field(0.01, gt=0, lt=0.5, description="chance that a release as good as the old one is rolled back by the watch")
    failures_allowed: int | None = Field(0, ge=0, description="more failed requests roll back at once, whatever the statistics; null: statistics only")
    error_rate_increase: float = Field(0.01, ge=0, lt=1)
    time_to_first_token_ratio: float = Field(1.5, ge=1)
    inter_token_ratio: float = Field(1.5, ge=1)
    empty_increase: float = Field(0.05, ge=0, lt=1, description="share of answers of one token at most")
    truncated_increase: float = Field(0.1, ge=0, lt=1, description="share of answers cut at max_tokens")
    length_ratio: float = Field(2.0, ge=1, description="mean answer length, longer or shorter")


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
