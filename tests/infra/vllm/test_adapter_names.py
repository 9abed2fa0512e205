"""One model name for all: what is asked of it reaches the right adapter, an adapter's own name reaches none, and
answers bear the model's name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vllm.adapter_names import LOAD, UNLOAD, VARIABLE, Adapters, prefix_of, target_of

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"
OWN, LATER = "support@aaaaaaaaaaaa", "support@bbbbbbbbbbbb"
SETTINGS = {"model": "assistant", "adapter": OWN}
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class Vllm:
    """Behind the middleware: notes what it was asked, answers as vLLM does, with the name that it was asked by."""

    def __init__(self, *, streams: bool = False, content: str = "") -> None:
        self.streams, self.content = streams, content
        self.path, self.body, self.length = "", b"", b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.path, self.length = scope["path"], dict(scope["headers"]).get(b"content-length", b"")
        more = True
        while more:
            message = await receive()
            self.body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            model = json.loads(self.body)["model"]
        except (ValueError, KeyError, TypeError, RecursionError):
            model = ""
        event = json.dumps({"model": model, "content": self.content}, separators=(",", ":")).encode()
        headers = [] if self.streams else [(b"content-length", str(len(event)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(3 if self.streams else 1):
            await send({"type": "http.response.body", "body": event, "more_body": self.streams and number < 2})


def ask(app: Any, body: bytes, path: str = CHAT, method: str = "POST", cut: int = 5) -> list[dict[str, Any]]:
    """The messages that the client got; the question comes in two parts."""
    got: list[dict[str, Any]] = []
    parts = [body[:cut], body[cut:]]

    async def receive() -> dict[str, Any]:
        return (
            {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            if parts
            else {"type": "http.disconnect"}
        )

    async def send(message: Any) -> None:
        got.append(dict(message))

    headers = [(b"content-length", str(len(body)).encode())]
    asyncio.run(
        Adapters(app, SETTINGS)({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    )
    return got


def said(body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("path", "adapter"),
    [(CHAT, OWN), (f"/slots/green/{LATER}{CHAT}", LATER), (f"/slots/blue/{LATER}/v1/responses", LATER)],
)
@pytest.mark.parametrize("named", [{"model": "assistant"}, {"model": ""}, {"model": None}, {}])
def test_what_is_asked_of_the_model_or_of_none_reaches_the_adapter_of_the_path(
    path: str, adapter: str, named: dict[str, Any]
) -> None:
    vllm = Vllm()
    ask(vllm, said(named | {"prompt": "né"}), path)
    assert json.loads(vllm.body) == {"prompt": "né", "model": adapter} and vllm.path == target_of(path).path
    assert vllm.length == str(len(vllm.body)).encode(), "vLLM is told the length that it gets"


@pytest.mark.parametrize("model", [OWN, LATER, "assistant-base", "gpt-4", ["assistant"], 1])
def test_no_other_name_reaches_an_adapter_or_the_base_however_it_is_known(model: Any) -> None:
    vllm = Vllm()
    start, end = ask(vllm, said({"model": model}), f"/slots/green/{LATER}{CHAT}")
    assert start["status"] == 404 and vllm.body == b""
    assert json.loads(end["body"])["error"] == {
        "message": f"The model `{model}` does not exist.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }


def test_a_body_with_two_models_has_one_for_whoever_reads_it_next() -> None:
    vllm = Vllm()
    ask(vllm, f'{{"model": "{LATER}", "model": "assistant"}}'.encode())
    assert vllm.body == f'{{"model": "{OWN}"}}'.encode()


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"assistant"', b"[" * 100_000])
def test_what_is_no_object_is_left_to_vllm_to_refuse(body: bytes) -> None:
    vllm = Vllm()
    ask(vllm, body)
    assert vllm.body == body


def test_the_runtime_api_and_what_is_only_read_pass_as_they_are() -> None:
    for path, method in (
        (LOAD, "POST"),
        (UNLOAD, "POST"),
        ("/metrics", "GET"),
        (f"/slots/green/{LATER}/metrics", "GET"),
    ):
        vllm = Vllm()
        ask(vllm, b'{"lora_name": "x"}', path, method)
        assert vllm.body == b'{"lora_name": "x"}' and vllm.path == target_of(path).path


@pytest.mark.parametrize("streams", [False, True])
@given(content=WORDS | st.just(f'"model":"{OWN}"') | st.just(OWN))
def test_an_answer_bears_the_models_name_its_words_stay_and_its_length_is_right(streams: bool, content: str) -> None:
    start, *bodies = ask(Vllm(streams=streams, content=content), said({"model": "assistant"}))
    assert [json.loads(one["body"]) for one in bodies] == [{"model": "assistant", "content": content}] * (
        3 if streams else 1
    )
    stated = dict(start["headers"]).get(b"content-length")
    assert stated == (None if streams else str(len(bodies[0]["body"])).encode())


def test_the_head_of_a_stream_does_not_wait_for_its_first_token() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        order.append("first token")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def go() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            order.append(message["type"])

        await Adapters(app, SETTINGS)({"type": "http", "method": "POST", "path": CHAT, "headers": []}, receive, send)

    asyncio.run(go())
    assert order == ["http.response.start", "first token", "http.response.body"]


def test_a_caller_who_leaves_is_heard_of_by_vllm_and_one_who_left_before_the_end_is_forgotten() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    ask(app, b'{"prompt": "x"}')
    assert heard == ["http.request", "http.disconnect"]
    vllm = Vllm()

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    asyncio.run(
        Adapters(vllm, SETTINGS)(
            {"type": "http", "method": "POST", "path": CHAT, "headers": []},
            gone,
            lambda message: pytest.fail("answered"),
        )
    )
    assert vllm.path == ""


def test_what_is_no_request_passes_and_the_settings_come_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    unused: Callable[..., Any] = lambda *_: pytest.fail("used")  # noqa: E731
    asyncio.run(Adapters(app, SETTINGS)({"type": "lifespan"}, unused, unused))
    assert seen == [{"type": "lifespan"}]
    monkeypatch.setenv(VARIABLE, json.dumps(SETTINGS))
    assert (Adapters(app).model, Adapters(app).adapter) == ("assistant", OWN)


@given(
    st.sampled_from(["blue", "green"]),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}@[0-9a-f]{12}", fullmatch=True),
    st.text(max_size=20),
)
def test_a_prefix_is_read_as_it_was_written_and_any_other_path_stays(slot: str, adapter: str, rest: str) -> None:
    found = target_of(f"{prefix_of(slot, adapter)}/{rest}")
    assert (found.slot, found.adapter, found.path) == (slot, adapter, f"/{rest}")
    assert target_of(f"/v1/{rest}").path == f"/v1/{rest}" and target_of("/slots/green").adapter is None
