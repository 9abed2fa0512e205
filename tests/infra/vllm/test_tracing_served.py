"""A real vLLM that traces: a span a request reaches the collector, within its caller's trace and under our names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.release import read_manifest
from infra.dvc.releases import folder_of
from infra.vllm.server import free_port, start_slot, stop_slot, wait_healthy
from infra.vllm.tracing import tracing_of
from tests.serve.conftest import checkout, publish

__all__ = ["checkout", "publish"]  # fixtures
pytestmark = pytest.mark.integration
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collected() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector that takes OTLP over HTTP, and what it was sent."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()


def spans(bodies: list[bytes]) -> list[tuple[dict[str, str], Any]]:
    """Each with its resource."""
    import gzip

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    for body in bodies:
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        for one in ExportTraceServiceRequest.FromString(text).resource_spans:
            resource = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            found += [(resource, span) for scope in one.scope_spans for span in scope.spans]
    return found


def test_a_request_is_a_span_of_its_callers_trace(
    publish: Callable[..., str], collected: tuple[str, list[bytes]]
) -> None:
    endpoint, bodies = collected
    directory = folder_of(publish("traced", 5)) / "release"
    manifest = read_manifest(directory)
    tracing = {"endpoint": endpoint, "protocol": "http/protobuf"}
    config = DeployConfig.model_validate({"name": "shop", "model": "assistant", "gate": None, "tracing": tracing})
    slot = start_slot(
        directory,
        manifest,
        port=free_port(),
        served_name="assistant",
        log=Path("traced/blue.log"),
        traced=tracing_of(config, "blue", manifest.reference),
    )
    try:
        wait_healthy(slot, 600)
        body = {"model": "assistant", "prompt": "word", "max_tokens": 3, "ignore_eos": True}
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "of-mine"}
        reply = httpx.post(f"{slot.base_url}/v1/completions", json=body, headers=headers, timeout=300)
        assert reply.status_code == 200, reply.text
        deadline = time.monotonic() + 60
        while not (ours := [one for one in spans(bodies) if one[1].trace_id.hex() == TRACE]):
            assert time.monotonic() < deadline, [span.name for _, span in spans(bodies)]
            time.sleep(0.1)
    finally:
        stop_slot(slot, drain_seconds=5)
    resource, span = next(one for one in ours if one[1].name == "llm_request")
    assert span.parent_span_id.hex() == PARENT
    said = {"tunegate.environment": "shop", "tunegate.slot": "blue", "tunegate.release": manifest.reference}
    assert resource.items() >= (said | {"service.name": "assistant"}).items()
    figures = {pair.key: pair.value for pair in span.attributes}
    assert figures["gen_ai.usage.completion_tokens"].int_value == 3
    assert not [pair for pair in span.attributes if "word" in pair.value.string_value], "no text of the prompt"
