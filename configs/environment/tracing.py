"""`tracing:`: where the model servers send their OpenTelemetry traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.section import Section


class Tracing(Section):
    """A span a request, with its times and tokens and without its text, to an OTLP collector. The router passes
    `traceparent` on, so that it joins the caller's trace. A server takes it up when it starts."""

    endpoint: str = Field(
        pattern=r"^http://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$",
        description="as http://127.0.0.1:4317, or with `http/protobuf` http://127.0.0.1:4318/v1/traces",
    )
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
