"""Traces of a slot's server: vLLM's own, with the names that our figures and logs have."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict
from urllib.parse import quote

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig


class TraceSettings(TypedDict):
    """What a slot's server is told: the collector, and what its spans bear (OpenTelemetry's resource)."""

    endpoint: str
    protocol: str
    service: str
    attributes: dict[str, str]


def tracing_of(config: DeployConfig, slot: str, release: str) -> TraceSettings | None:
    """None where nothing is traced: then the server runs without."""
    if config.tracing is None:
        return None
    attributes = {"tunegate.environment": config.name, "tunegate.slot": slot, "tunegate.release": release}
    return {
        "endpoint": config.tracing.endpoint,
        "protocol": config.tracing.protocol,
        "service": config.model,
        "attributes": attributes,
    }


def trace_arguments(traced: TraceSettings | None) -> list[str]:
    return ["--otlp-traces-endpoint", traced["endpoint"]] if traced else []


def trace_environment(traced: TraceSettings | None) -> dict[str, str]:
    """As OpenTelemetry's SDK reads it; vLLM asks for the protocol there too (vllm/tracing/otel.py)."""
    if traced is None:
        return {}
    attributes = ",".join(f"{name}={quote(value, safe='')}" for name, value in traced["attributes"].items())
    return {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": traced["protocol"],
        "OTEL_SERVICE_NAME": traced["service"],
        "OTEL_RESOURCE_ATTRIBUTES": attributes,
    }
