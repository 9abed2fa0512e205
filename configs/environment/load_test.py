"""What a slot is asked before and after traffic reaches it: the load test, the application's own requests, the watch, sampling, the shadow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from configs.section import ExistingPath, Section

Rate = Annotated[float, Field(gt=0, le=100_000)]


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
