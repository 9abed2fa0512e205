"""`watch:`: how the new release's traffic is compared with the old one's while it bakes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class Watch(Section):
    """When the new release under traffic is worse than the old one was: an interval that lies wholly beyond a limit is
    a breach.

    `false_alarm` is spread over all looks of the bake and all figures (Bonferroni): looking every second does not make
    an alarm likelier. A watch that saw too little, or traffic that cannot be compared, is inconclusive, which is no
    pass.
    """

    every_seconds: float = Field(1.0, ge=0.1, le=3600)
    minimum_requests: int = Field(
        20,
        ge=2,
        description="of either side; with fewer a figure is inconclusive, which is said, and rolls nothing back",
    )
    comparable_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="of the new release's requests must have their like (in length, load, streaming) among the old "
        "one's; with less the two windows are not compared, which is inconclusive",
    )
    on_inconclusive: Literal["extend", "pause", "accept"] = Field(
        "extend",
        description="extend: watch on for extend_seconds at most, then pause; pause: until `tunegate resume`; "
        "accept: go on, and say so in the receipt",
    )
    extend_seconds: int = Field(600, ge=0, le=604_800, description="beyond bake_seconds, as long as it is inconclusive")
    false_alarm: float = Field(
        0.01, gt=0, lt=0.5, description="chance that a release as good as the old one is rolled back by the watch"
    )
    failures_allowed: int | None = Field(
        0, ge=0, description="more failed requests roll back at once, whatever the statistics; null: statistics only"
    )
    error_rate_increase: float = Field(0.01, ge=0, lt=1)
    time_to_first_token_ratio: float = Field(1.5, ge=1)
    inter_token_ratio: float = Field(1.5, ge=1)
    empty_increase: float = Field(0.05, ge=0, lt=1, description="share of answers of one token at most")
    truncated_increase: float = Field(0.1, ge=0, lt=1, description="share of answers cut at max_tokens")
    length_ratio: float = Field(2.0, ge=1, description="mean answer length, longer or shorter")
