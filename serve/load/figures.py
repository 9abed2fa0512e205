"""The figures of a load test. Pure: samples in, milliseconds and rates out.

Names and definitions are those of vLLM's `bench serve`: time to first token, inter-token latency (every gap of every
answer), time per output token (an answer's mean gap after its first token), goodput (requests that met the whole
objective).
"""

from __future__ import annotations

import itertools
from typing import NotRequired, TypedDict

from configs.environment.load_test import LoadTest, Objective

PERCENTS = (50, 95, 99)
# DistServe (Zhong et al., OSDI 2024): goodput is the highest rate at which 90% of requests meet the objective.
ATTAINMENT = 0.9


class Sample(TypedDict):
    """One request, as the locustfile notes it. Seconds, counted from when it was meant to start, `at` (since the
    epoch). `first`: until the first token; `gaps`: between chunks with text; `step`: of a ramp."""

    ok: bool
    status: int
    at: float
    late: float
    seconds: float
    first: float | None
    tokens: int
    gaps: list[float]
    rate: NotRequired[float]
    step: NotRequired[int]


class LoadRecord(TypedDict):
    """figures.json. `steps`: a row of figures for each rate of a ramp."""

    release: str
    settings: dict[str, object]
    figures: dict[str, float]
    steps: list[dict[str, float]]


def summarise(samples: list[Sample], settings: LoadTest) -> dict[str, float]:
    """A figure that no request gave is left out: the gate then says inconclusive, never pass. A failure counts in
    error_rate and against goodput."""
    good = [sample for sample in samples if sample["ok"]]
    figures: dict[str, float] = {"requests": len(samples), "failures": len(samples) - len(good)}
    if not samples:
        return figures
    figures |= {"error_rate": figures["failures"] / len(samples)} | percentiles(good) | rates(samples, good, settings)
    knee = knee_of(steps_of(samples, settings), settings.slo)
    return figures | ({"knee_requests_per_second": knee} if knee is not None else {})


def percentiles(good: list[Sample]) -> dict[str, float]:
    import numpy

    series = {
        "time_to_first_token": [sample["first"] for sample in good if sample["first"] is not None],
        "inter_token": [gap for sample in good for gap in sample["gaps"]],
        "time_per_output_token": [one for sample in good if (one := per_token(sample)) is not None],
        "latency": [sample["seconds"] for sample in good],
        "start_delay": [sample["late"] for sample in good],
    }
    found: dict[str, float] = {}
    for name, values in series.items():
        for percent in PERCENTS if values else ():
            found[f"{name}_p{percent}_ms"] = round(1000 * float(numpy.percentile(values, percent)), 3)
    return found


def per_token(sample: Sample) -> float | None:
    """Seconds a token after the first; None where there is no second."""
    return (
        (sample["seconds"] - sample["first"]) / (sample["tokens"] - 1)
        if sample["first"] is not None and sample["tokens"] > 1
        else None
    )


def rates(samples: list[Sample], good: list[Sample], settings: LoadTest) -> dict[str, float]:
    """A second, from the first intended start to the last end."""
    span = span_of(samples)
    counts = {"requests_per_second": len(good), "tokens_per_second": sum(sample["tokens"] for sample in good)}
    met = sum(meets(sample, settings.slo) for sample in samples) if settings.slo else None
    share = {"goodput_share": met / len(samples)} if met is not None else {}
    counts |= {"goodput_requests_per_second": met} if met is not None else {}
    return {name: round(count / span, 3) if span else 0.0 for name, count in counts.items()} | share


def span_of(samples: list[Sample]) -> float:
    return float(max(sample["at"] + sample["seconds"] for sample in samples) - min(sample["at"] for sample in samples))


def meets(sample: Sample, slo: Objective) -> bool:
    """An answer without a first token misses a limit on it; one of a single token has no gap that could be too long."""
    if not sample["ok"] or (slo.time_to_first_token_ms is not None and sample["first"] is None):
        return False
    limits = [
        (sample["first"], slo.time_to_first_token_ms),
        (per_token(sample), slo.inter_token_ms),
        (sample["seconds"], slo.latency_ms),
    ]
    return all(limit is None or seconds is None or 1000 * seconds <= limit for seconds, limit in limits)


def steps_of(samples: list[Sample], settings: LoadTest) -> list[dict[str, float]]:
    """A ramp's figures, one row a rate."""
    rows = []
    for step, rate in enumerate(settings.ramp):
        mine = [sample for sample in samples if sample.get("step") == step]
        good = [sample for sample in mine if sample["ok"]]
        row = {"rate": rate, "requests": len(mine)}
        rows.append(
            row
            | (
                {"error_rate": 1 - len(good) / len(mine)} | percentiles(good) | rates(mine, good, settings)
                if mine
                else {}
            )
        )
    return rows


def knee_of(steps: list[dict[str, float]], slo: Objective | None) -> float | None:
    """The rate to stay below. With an objective DistServe's goodput: the highest rate that meets it, every lower one
    too, 0 where none does.

    Without one the rate of most power, throughput by latency (Kleinrock, ICC 1979). None without a ramp.
    """
    ordered = sorted((step for step in steps if step["requests"]), key=lambda one: one["rate"])
    if not ordered:
        return None
    if slo is None:
        return max(ordered, key=power)["rate"]
    borne = list(itertools.takewhile(lambda step: step["goodput_share"] >= ATTAINMENT, ordered))
    return borne[-1]["rate"] if borne else 0.0


def power(step: dict[str, float]) -> float:
    """Good answers a second by their median latency; 0 where none was good."""
    return step["rate"] * (1 - step["error_rate"]) / step["latency_p50_ms"] if step.get("latency_p50_ms") else 0.0
