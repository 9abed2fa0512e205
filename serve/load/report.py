"""report.html of a load test: one page that opens anywhere, offline. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path

from configs.environment.load_test import LoadTest
from serve.load.figures import PERCENTS, LoadRecord, Sample
from serve.load.plots import HEIGHT, WIDTH, plots_of

TIMES = {
    "time_to_first_token": "time to first token",
    "inter_token": "inter-token latency",
    "time_per_output_token": "time per output token",
    "latency": "end-to-end latency",
    "start_delay": "start delay of the generator itself",
}
RATES = {
    "requests": "requests",
    "failures": "failures",
    "error_rate": "error rate",
    "requests_per_second": "good answers a second",
    "tokens_per_second": "tokens a second",
    "goodput_share": "goodput, share of requests",
    "goodput_requests_per_second": "goodput, requests a second",
    "knee_requests_per_second": "knee, requests a second",
}


def write_report(samples: list[Sample], record: LoadRecord, path: Path) -> None:
    path.write_text(page(samples, record), encoding="utf8")


def page(samples: list[Sample], record: LoadRecord) -> str:
    """Pure: the same run gives the same bytes. Texts are escaped; a policy in the page forbids every fetch."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures, settings = record["figures"], LoadTest.model_validate(record["settings"])
    times = [
        (name, [figures.get(f"{key}_p{percent}_ms") for percent in PERCENTS])
        for key, name in TIMES.items()
        if f"{key}_p50_ms" in figures
    ]
    rates = [(name, f"{figures[key]:.4g}") for key, name in RATES.items() if key in figures]
    template = environment.get_template("report.html.jinja")
    text = template.render(
        release=record["release"],
        kind=describe_load(settings),
        settings=shown(settings),
        times=times,
        percents=PERCENTS,
        rates=rates,
        steps=record["steps"],
        plots=plots_of(samples, settings, record["steps"]),
        width=WIDTH,
        height=HEIGHT,
    )
    return text + "\n"


def describe_load(settings: LoadTest) -> str:
    """What was asked, in one sentence."""
    start = "Times count from the intended start."
    if settings.trace:
        return f"Open loop: the trace {settings.trace} at {settings.trace_speed:g} times its own speed. {start}"
    if settings.ramp:
        rates = f"{', '.join(f'{rate:g}' for rate in settings.ramp)} requests a second one after another"
        return f"Open loop: Poisson arrivals, seed {settings.seed}, {rates}. {start}"
    if settings.rate:
        rates = f"{settings.rate:g} requests a second"
        return f"Open loop: Poisson arrivals, seed {settings.seed}, {rates}. {start}"
    return (
        f"Closed loop: {settings.users} users who ask again when they have read the whole answer. "
        "A slow server is asked less: see rate for an open loop."
    )


def shown(settings: LoadTest) -> list[tuple[str, str]]:
    stated = settings.model_dump(mode="json")
    slo = {f"slo.{name}": limit for name, limit in (stated.pop("slo") or {}).items()}
    return [(name, str(value)) for name, value in (stated | slo).items() if value not in (None, [], "")]
