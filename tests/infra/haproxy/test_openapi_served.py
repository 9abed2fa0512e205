"""The router's own description, asked of the real HAProxy: what it says is what the router does."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from jsonschema import Draft202012Validator

from benchmarks.eval.picture import headless_browser
from configs.environment.config import DeployConfig
from configs.environment.router import OpenPath
from infra.haproxy.api_keys import KeyLimits, Keyring
from infra.haproxy.openapi import describe, documents
from infra.haproxy.router import Router
from tests.infra.conftest import SECRET, RunningProxy
from tests.serve.conftest import free_ports
from tests.support.model_server import model_server

pytestmark = pytest.mark.integration
EVERY = list(get_args(OpenPath))
PUBLIC = {"/health", "/openapi.json", "/docs"}


def served(proxy: RunningProxy) -> dict[str, Any]:
    reply = proxy.ask("GET", "/openapi.json", key=None)
    assert reply.status_code == 200 and reply.headers["content-type"] == "application/json"
    document: dict[str, Any] = reply.json()
    return document


def test_both_are_answered_to_anybody_by_the_router_itself(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy()
    proxy.router.stop(0)
    nobody = proxy.router.config.model_copy(update={"slot_ports": tuple(free_ports(2))})
    Router(nobody).start(SECRET)
    assert served(proxy) == describe(proxy.router.config)
    page = proxy.ask("GET", "/docs", key=None)
    assert page.text == documents(proxy.router.config)["docs.html"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["x-request-id"]
    assert proxy.ask("GET", "/health", key=None).status_code == 503 and proxy.arrivals == []


def test_a_router_with_the_smallest_buffer_can_answer_with_it(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(max_body_kib=1, max_header_kib=1, paths=EVERY)
    assert served(proxy) == describe(proxy.router.config)
    assert proxy.ask("GET", "/docs", key=None).text.endswith("</html>\n")


def test_a_reload_tells_the_new_settings(proxy: RunningProxy) -> None:
    settings = proxy.router.config.router.model_copy(update={"paths": ["/classify"], "max_body_kib": 7})
    router = Router(proxy.router.config.model_copy(update={"router": settings}))
    assert router.reload() == ["settings"]
    document = served(proxy)
    assert (
        set(document["paths"]) == {"/classify"} | PUBLIC and document["x-tunegate-limits"]["max_body_kib"]["value"] == 7
    )


@pytest.mark.parametrize("paths", [EVERY, [], ["/v1/models"], ["/classify", "/v1/embeddings"]])
def test_a_path_is_there_with_its_scope_if_and_only_if_the_document_has_it(
    start_proxy: Callable[..., RunningProxy], paths: list[str]
) -> None:
    proxy = start_proxy(paths=paths)
    described = {path.replace("{model}", "assistant"): item for path, item in served(proxy)["paths"].items()}
    keys = {
        scope: Keyring(proxy.router.config).add(f"only-{scope}", KeyLimits.model_validate({"scopes": [scope]}))
        for scope in ("chat", "classify", "embeddings", "models")
    }
    client = httpx.Client(base_url=proxy.router.base_url, verify=False)
    headers: dict[str | None, dict[str, str]] = {None: {}}
    headers |= {scope: {"Authorization": f"Bearer {key}"} for scope, key in keys.items()}
    for path in [*EVERY, *PUBLIC, "/v1/models/assistant", "/metrics", "/redoc"]:
        item = described.get(path, {})
        for method in ("GET", "POST", "HEAD"):
            body = b"{}" if method == "POST" else None
            statuses = {
                who: client.request(method, path, headers=sent, content=body).status_code
                for who, sent in headers.items()
            }
            if not item:
                assert set(statuses.values()) == {404}, path
            elif method.lower() not in item:
                assert set(statuses.values()) == {405}, path
            elif path in PUBLIC:
                assert set(statuses.values()) == {200} and item[method.lower()]["security"] == []
            else:
                (role,) = item[method.lower()]["security"][0]["key"]
                others = dict.fromkeys(keys.keys() - {role}, 403)
                assert statuses == {role: 200, None: 401, **others}, path


def provoked(start_proxy: Callable[..., RunningProxy]) -> Iterator[tuple[str, httpx.Response]]:
    """Each error of the router's own, by the status that it is described under."""
    proxy = start_proxy(receive_seconds=1, answer_seconds=1, max_body_kib=1)
    narrow = Keyring(proxy.router.config).add("narrow", KeyLimits.model_validate({"scopes": ["models"]}))
    bounded = Keyring(proxy.router.config).add("bounded", KeyLimits.model_validate({"tokens_per_minute": 10}))
    yield "400", proxy.ask(content=b"[]", key=bounded)
    yield "401", proxy.ask(json={}, key="wrong")
    yield "403", proxy.ask(json={}, key=narrow)
    yield "404", proxy.ask("GET", "/v1/models/other")
    yield "405", proxy.ask("GET", "/classify")
    yield "408", slow_body(proxy)
    yield "411", proxy.ask(content=iter([b"{}"]))
    yield "413", proxy.ask(content=b" " * 2000)
    yield "429", proxy.ask(json={"max_tokens": 50}, key=bounded)
    proxy.router.set_spent({"bounded": time.strftime("%Y-%m", time.gmtime())})
    yield "429", proxy.ask(json={}, key=bounded)
    yield "431", proxy.ask("GET", "/health", headers={"x": "y" * 17_000})
    yield "504", proxy.ask(json={"hold": 3})
    proxy.router.stop(0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        ports = (deaf.getsockname()[1], *free_ports(1))
        router = Router(proxy.router.config.model_copy(update={"slot_ports": ports}))
        router.start(SECRET)
        threaded = [sys.executable, "-c", HANGS_UP, str(deaf.fileno())]
        with subprocess.Popen(threaded, pass_fds=[deaf.fileno()]) as rude:
            yield "502", proxy.ask(json={})
            rude.kill()
    deadline = time.monotonic() + 10
    while (reply := proxy.ask(json={})).status_code != 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    yield "503", reply


HANGS_UP = """
import socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listening.accept()
    connection.recv(65536)
    connection.close()
"""


def slow_body(proxy: RunningProxy) -> httpx.Response:
    head = f"POST /classify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 9\r\n\r\n{{"
    answer = proxy.raw(head.encode(), seconds=10)
    lines, _, body = answer.partition(b"\r\n\r\n")
    first, *headers = lines.decode().split("\r\n")
    return httpx.Response(int(first.split()[1]), headers=dict(line.split(": ", 1) for line in headers), content=body)


def test_each_error_that_it_names_is_what_the_router_answers(start_proxy: Callable[..., RunningProxy]) -> None:
    seen = set()
    for status, reply in provoked(start_proxy):
        components = describe(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None}))["components"]
        described = components["responses"][status]
        assert str(reply.status_code) == status, (status, reply.status_code, reply.text)
        kind = reply.json()["error"]["type"]
        is_spent = kind == "insufficient_quota"  # until the day or month is over, and that is no matter of seconds
        assert described["headers"].keys() - ({"retry-after"} if is_spent else set()) <= reply.headers.keys(), status
        schema = described["content"]["application/json"]["schema"] | {"components": components}
        Draft202012Validator(schema).validate(reply.json())
        assert is_spent or kind == described["x-type"], status
        seen.add((status, kind))
    assert {status for status, _ in seen} == components["responses"].keys() - {"500", "501"}, "the model server's"
    assert ("429", "insufficient_quota") in seen


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """Every path open, in front of a model server that answers as the document says."""
    monkeypatch.chdir(tmp_path)
    port, *slots = free_ports(3)
    facts = {"name": "x", "model": "MODEL", "gate": None, "slot_ports": slots, "state_dir": "state"}
    config = DeployConfig.model_validate(facts | {"router": {"port": port, "paths": EVERY}})
    router = Router(config)
    with model_server(slots[0], describe(config)):
        router.start(SECRET)
        router.switch("blue")
        router.set_release("blue", "sha256:aa", 1)
        yield router
        router.stop(0)


def test_schemathesis_finds_the_router_to_be_what_it_says(described: Router, tmp_path: Path) -> None:
    """From the served document: statuses, types, shapes and headers of answers, wrong methods, requests without a key,
    bodies that do not fit."""
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.model" = "MODEL"\n')
    words = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{described.base_url}/openapi.json"]
    words += ["--header", f"Authorization: Bearer {SECRET}", "--checks", "all", "--phases", "examples,coverage,fuzzing"]
    words += ["--max-examples", "15", "--seed", "17", "--no-shrink", "--continue-on-failure", "--no-color"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    lines = [json.loads(line) for line in (described.folder / "access.jsonl").read_text().splitlines()]
    asked = {(line["method"], line["path"]) for line in lines if line["status"] == 200}
    assert asked >= {("POST", path) for path in EVERY[1:]} | {("GET", "/v1/models"), ("GET", "/v1/models/MODEL")}
    assert len(lines) > 300 and {401, 405} <= {line["status"] for line in lines}
    assert not [line for line in lines if line["status"] >= 500]


def test_every_example_runs_as_it_stands(described: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    document = httpx.get(f"{described.base_url}/openapi.json").json()
    samples = [
        (path, sample)
        for path, item in document["paths"].items()
        for operation in item.values()
        for sample in operation["x-codeSamples"]
    ]
    monkeypatch.setenv("TUNEGATE_URL", described.base_url)
    monkeypatch.setenv("TUNEGATE_API_KEY", SECRET)
    for path, sample in samples:
        said = io.StringIO()
        if sample["lang"] == "curl":
            source = sample["source"].replace("curl ", "curl --silent --show-error --fail ", 1)
            done = subprocess.run(["bash", "-ec", source], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (path, done.stderr)
            said.write(done.stdout)
        else:
            with contextlib.redirect_stdout(said):
                exec(sample["source"], {})
        assert said.getvalue().strip(), (path, sample["lang"])
    assert len(samples) == 2 * (len(EVERY) + 1) + 4


def test_the_page_is_shown_by_a_browser_that_may_load_nothing_else(described: Router) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    url = f"{described.base_url}/docs"
    with headless_browser() as browser:
        for scheme, width in (("light", 1100), ("dark", 320)):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: complaints.append(message.text))
            page.goto(url)
            assert page.inner_text("h1") == "What this endpoint takes"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme], "its style is let in"
            page.click("text=POST /classify")
            assert page.url.endswith("#classify") and page.locator("#classify pre").count() == 2
            assert "429" in page.inner_text("#e429") and page.locator("h2").count() == 4
            context.close()
    assert set(asked) == {url} and complaints == []
