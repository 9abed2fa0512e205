"""How a new release takes the traffic, how servers are watched over, and what an operator may let wait."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.section import Section


def rising_to_all(steps: list[int]) -> list[int]:
    if steps != sorted(set(steps)) or not steps or steps[0] < 1 or steps[-1] != 100:
        raise ValueError("percent of new requests, each more than the last, from 1 on, ending with 100")
    return steps


Capacity = Literal["auto", "surge", "swap", "adapter"]


class BlueGreen(Section):
    """All new requests at once."""

    kind: Literal["blue-green"] = "blue-green"


class Canary(Section):
    """A rising share of new requests, each share watched before the next; a caller keeps the release that it first met
    at a share."""

    kind: Literal["canary"]
    steps: Annotated[list[int], AfterValidator(rising_to_all)] = Field(
        [5, 25, 100], description="percent of new requests"
    )
    bake_seconds: int = Field(
        15,
        ge=0,
        le=86_400,
        description="watch green at each share below 100; at 100 the environment's own bake_seconds holds",
    )


class ShadowFirst(Section):
    """A copy of a share of requests to green; its answers are compared and thrown away."""

    kind: Literal["shadow"]
    share: int = Field(10, ge=1, le=100, description="percent of new requests that are copied")
    seconds: int = Field(60, ge=1, le=86_400)


Strategy = Annotated[BlueGreen | Canary | ShadowFirst, Field(discriminator="kind")]


class Supervision(Section):
    """How `tunegate agent` tells the dead from the living, and when it stops trying."""

    interval_seconds: float = Field(2, gt=0, le=3_600, description="between two looks")
    probe_timeout_seconds: float = Field(30, gt=0, le=3_600, description="one real, tiny request gets this long")
    probe_failures: int = Field(
        2, ge=1, le=100, description="probes in a row that may not be answered before a server counts as hung"
    )
    max_crashes: int = Field(
        3, ge=1, le=100, description="crashes of one release within the window before it is given up"
    )
    window_seconds: int = Field(600, ge=1, le=86_400)
    task_deadline_seconds: float = Field(
        3_600,
        ge=1,
        le=86_400,
        description="a start, with its fetch, or a proof that takes longer is ended; beyond what it is meant to last",
    )
    stay: bool = Field(
        True,
        description="after a deploy by hand an agent stays behind and brings back what dies, until `tunegate stop`",
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="what the agent does, for Prometheus: GET /metrics on 127.0.0.1, and GET /targets, which names the "
        "router and every model server; null: none",
    )
    backoff_seconds: float = Field(
        1, ge=0, le=3_600, description="wait before the second start again; doubled at each further one"
    )
