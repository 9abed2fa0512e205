"""Everything that is not allowed, sent to the real HAProxy: each is an ordinary refusal, and nothing reaches the model
server."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring, hash_of
from tests.infra.conftest import SECRET, RunningProxy
from tests.support.refused_paths import DISGUISED, ELSEWHERE

HEAD = "Host: router.example\r\nConnection: close\r\n"
KEYED = f"{HEAD}Authorization: Bearer {SECRET}\r\n"
BODY = '{"model": "assistant", "messages": []}'
LENGTH = f"Content-Length: {len(BODY)}\r\n"
PARSER = {400, 422, 501}  # not HTTP at all: HAProxy answers in its own words before any rule
METHODS = ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
READ = ("/v1/models", "/v1/models/assistant", "/health", "/openapi.json", "/docs")
OPEN_POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/classify")


@dataclass(frozen=True)
class Refusal:
    """Raw bytes, and the statuses that are an answer to them."""

    what: str
    request: bytes
    statuses: frozenset[int]


def shaped(what: str, line: str, headers: str, body: str | bytes, *statuses: int) -> Refusal:
    raw = body if isinstance(body, bytes) else body.encode("latin1")
    return Refusal(what, f"{line}\r\n{headers}\r\n".encode("latin1") + raw, frozenset(statuses))


def unknown_paths() -> list[Refusal]:
    return [
        shaped(
            f"{method} {path}",
            f"{method} {path} HTTP/1.1",
            KEYED + LENGTH * (method == "POST"),
            BODY * (method == "POST"),
            405 if method == "POST" and path == "/v1/models/another" else 404,
        )
        for path in ELSEWHERE.split()
        for method in ("GET", "POST")
    ]


def disguised_paths() -> list[Refusal]:
    return [
        shaped(
            f"{method} {path}",
            f"{method} {path} HTTP/1.1",
            KEYED + LENGTH * (method == "POST"),
            BODY * (method == "POST"),
            400,
            405 if method == "POST" and path.startswith("/v1/models/") else 404,
        )
        for path in DISGUISED.split()
        for method in ("GET", "POST")
    ]


def wrong_methods() -> list[Refusal]:
    reads = [(method, path) for path in READ for method in (*METHODS, "POST", "get")]
    reads = [one for one in reads if one != ("HEAD", "/health")]
    writes = [(method, path) for path in OPEN_POSTS for method in (*METHODS, "GET", "post")]
    return [
        shaped(f"{method} {path}", f"{method} {path} HTTP/1.1", KEYED + "Content-Length: 0\r\n", "", 405)
        for method, path in reads + writes
    ] + [
        shaped("CONNECT", "CONNECT metadata.internal:80 HTTP/1.1", KEYED, "", 400, 404, 405),
        shaped("OPTIONS *", "OPTIONS * HTTP/1.1", KEYED, "", 400),
    ]


def wrong_keys(expired: str, revoked: str, narrow: str) -> list[Refusal]:
    """Each on a path that is open to the right key. Tokens that claim to be JWTs are only texts to a router without
    `jwt`."""
    forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."
    headers = [
        *(
            "",
            "Authorization: \r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Bearer \r\n",
            f"Authorization: {SECRET}\r\n",
            f"Authorization: Basic {SECRET}\r\n",
        ),
        *(
            f"Authorization: Bearer {text}\r\n"
            for text in (
                "wrong",
                SECRET[:-1],
                SECRET + "x",
                SECRET.upper(),
                hash_of(SECRET),
                "default",
                "null",
                "*",
                "' OR 1=1",
                "x" * 8000,
            )
        ),
        *(f"Authorization: Bearer {text}\r\n" for text in (forged, "a.b.c", expired, revoked)),
        *(
            f"{name}: {SECRET}\r\n"
            for name in ("X-Api-Key", "Api-Key", "Cookie", "Proxy-Authorization", "X-Authorization", "x-tunegate-key")
        ),
    ]
    found = [
        shaped(f"key {header[:40]!r} {path}", f"POST {path} HTTP/1.1", HEAD + header + LENGTH, BODY, 401)
        for header in headers
        for path in OPEN_POSTS[:2]
    ]
    query = shaped("key in the query", f"POST /classify?api_key={SECRET} HTTP/1.1", HEAD + LENGTH, BODY, 401)
    twice = shaped("two keys", "POST /classify HTTP/1.1", f"{KEYED}Authorization: Bearer other\r\n{LENGTH}", BODY, 400)
    scope = [
        shaped(f"scope {path}", f"POST {path} HTTP/1.1", f"{HEAD}Authorization: Bearer {narrow}\r\n{LENGTH}", BODY, 403)
        for path in OPEN_POSTS[:4]
    ]
    return [*found, query, twice, *scope]


def smuggled() -> list[Refusal]:
    """Two lengths, broken chunks, hidden headers: most end in a second request to /metrics, which no server may see.
    401: a header folded onto the key."""
    inner = f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
    chunked = f"0\r\n\r\n{inner}"
    keyed = f"Host: router.example\r\nAuthorization: Bearer {SECRET}\r\n"
    lengths = {
        "CL.TE": ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", chunked),
        "TE.CL": ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", f"5c\r\n{inner}\r\n0\r\n\r\n"),
        "TE alone": ("Transfer-Encoding: chunked\r\n", chunked),
        "TE twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunked),
        "TE list": ("Transfer-Encoding: gzip, chunked\r\n", chunked),
        "TE unknown": ("Transfer-Encoding: xchunked\r\n", chunked),
        "TE tab": ("Transfer-Encoding:\tchunked\r\nContent-Length: 6\r\n", chunked),
        "TE space before colon": ("Transfer-Encoding : chunked\r\nContent-Length: 6\r\n", chunked),
        "TE upper case": ("TRANSFER-ENCODING: CHUNKED\r\nContent-Length: 6\r\n", chunked),
        "TE folded": ("Transfer-Encoding:\r\n chunked\r\nContent-Length: 6\r\n", chunked),
        "TE with vertical tab": ("Transfer-Encoding: \x0bchunked\r\nContent-Length: 6\r\n", chunked),
        "TE with NUL": ("Transfer-Encoding: chunked\x00\r\nContent-Length: 6\r\n", chunked),
        "TE quoted": ('Transfer-Encoding: "chunked"\r\nContent-Length: 6\r\n', chunked),
        "bad chunk size": ("Transfer-Encoding: chunked\r\n", f"zz\r\n{inner}"),
        "negative chunk": ("Transfer-Encoding: chunked\r\n", f"-1\r\n{inner}"),
        "huge chunk": ("Transfer-Encoding: chunked\r\n", f"ffffffffffffffff1\r\n{inner}"),
        "chunk extension": ("Transfer-Encoding: chunked\r\n", f"2;\n{inner}"),
        "two lengths": ("Content-Length: 6\r\nContent-Length: 90\r\n", inner),
        "length list": ("Content-Length: 6, 90\r\n", inner),
        "length signed": ("Content-Length: +6\r\n", inner),
        "length negative": ("Content-Length: -1\r\n", inner),
        "length hex": ("Content-Length: 0x6\r\n", inner),
        "length words": ("Content-Length: six\r\n", inner),
        "length empty": ("Content-Length: \r\n", inner),
        "length too large for 64 bits": ("Content-Length: 99999999999999999999\r\n", inner),
        "length with space": ("Content-Length: 6 6\r\n", inner),
        "length space before colon": ("Content-Length : 6\r\n", inner),
        "no length": ("", ""),
        "header name with a space": ("X Y: 1\r\nContent-Length: 0\r\n", ""),
        "header without colon": ("NoColon\r\nContent-Length: 0\r\n", ""),
        "header name with NUL": ("X\x00Y: 1\r\nContent-Length: 0\r\n", ""),
        "header value with NUL": ("X-Y: \x001\r\nContent-Length: 0\r\n", ""),
        "header without name": (": 1\r\nContent-Length: 0\r\n", ""),
        "bare CR in a header": ("X-Y: 1\rX-Z: 2\r\nContent-Length: 0\r\n", ""),
        "folded first header": (" X: 1\r\nContent-Length: 0\r\n", ""),
        "two hosts": ("Host: other\r\nContent-Length: 0\r\n", ""),
        "websocket": ("Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n", ""),
    }
    found = [
        shaped(what, "POST /classify HTTP/1.1", keyed + headers, body, 400, 401, 411, 413, 422, 501)
        for what, (headers, body) in lengths.items()
    ]
    return [
        *found,
        shaped("GET with a body", "GET /v1/models HTTP/1.1", f"{keyed}Content-Length: {len(inner)}\r\n", inner, 400),
    ]


def misshapen_lines() -> list[Refusal]:
    """The request line itself: absolute forms, spaces, controls, versions."""
    lines = [
        "GET http://evil.example/v1/models HTTP/1.1",
        "GET https://router.example/v1/models HTTP/1.1",
        "GET ftp://router.example/v1/models HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "POST http://127.0.0.1:8101/metrics HTTP/1.1",
        "GET v1/models HTTP/1.1",
        "GET ?/v1/models HTTP/1.1",
        "GET /v1/models\x00 HTTP/1.1",
        "GET /v1/models\x0b HTTP/1.1",
        "GET /v1/models HTTP/9.9",
        "GET /v1/models HTTP/1.2",
        "GET /v1/models HTTP/0.9",
        "GET /v1/models HTTP/2.0",
        "GET /v1/models HTP/1.1",
        "GET /v1/models HTTP/1",
        "GET /v1/models HTTP/11.1",
        "GET /v1/models FTP/1.1",
        "G\x00T /v1/models HTTP/1.1",
        "GET /v1/models\xff HTTP/1.1",
        "GET /v1/models",
        "GET",
        "\x16\x03\x01\x02\x00\x01",
        "PRI * HTTP/2.0",
        "SSH-2.0-OpenSSH_9.2",
        "* * *",
        "GET @/v1/models HTTP/1.1",
        "GET router.example:80 HTTP/1.1",
    ]
    return [shaped(f"line {line!r}", line, KEYED, "", 400, 404, 405, 505) for line in lines]


def oversize() -> list[Refusal]:
    big = 1024 * 1024 + 1
    return [
        *(
            shaped(f"body {path}", f"POST {path} HTTP/1.1", f"{KEYED}Content-Length: {big}\r\n", "{", 413)
            for path in OPEN_POSTS
        ),
        shaped("body of a terabyte", "POST /classify HTTP/1.1", f"{KEYED}Content-Length: {2**40}\r\n", "{", 413),
        *(
            shaped(f"header of {size}", "GET /v1/models HTTP/1.1", f"{KEYED}X-A: {'a' * size}\r\n", "", 431)
            for size in (17_000, 60_000, 300_000)
        ),
        shaped("header of 1.2 MB", "GET /v1/models HTTP/1.1", f"{KEYED}X-A: {'a' * 1_200_000}\r\n", "", 400),
        shaped(
            "150 headers",
            "GET /v1/models HTTP/1.1",
            KEYED + "".join(f"X-{number}: a\r\n" for number in range(150)),
            "",
            400,
        ),
        shaped("path of 20,000", f"GET /v1/models/{'a' * 20_000} HTTP/1.1", KEYED, "", 404, 431),
        shaped("query of 20,000", f"GET /v1/models?{'a' * 20_000} HTTP/1.1", KEYED, "", 431),
    ]


@pytest.mark.integration
def test_everything_that_is_not_allowed_is_refused_and_nothing_reaches_the_model_server(proxy: RunningProxy) -> None:
    keyring = Keyring(proxy.router.config)
    expired = keyring.add("expired", KeyLimits.model_validate({"expires": int(time.time()) - 1}))
    revoked = keyring.add("revoked", KeyLimits.model_validate({}))
    narrow = keyring.add("narrow", KeyLimits.model_validate({"scopes": ["models"]}))
    keyring.revoke("revoked")
    table = [
        *unknown_paths(),
        *disguised_paths(),
        *wrong_methods(),
        *wrong_keys(expired, revoked, narrow),
        *smuggled(),
        *misshapen_lines(),
        *oversize(),
    ]
    with ThreadPoolExecutor(24) as pool:
        seen = list(pool.map(lambda case: answered(proxy, case), table))
    wrong = [f"{case.what}: {one}" for case, one in zip(table, seen, strict=True) if one is not None]
    assert wrong == []
    assert proxy.arrivals == []
    print(f"{len(table)} requests refused")  # read by benchmarks/serve/promises.py
    assert len(table) >= 200
    assert proxy.ask(json={}).status_code == 200 and len(proxy.arrivals) == 1, "the router still works"


def answered(proxy: RunningProxy, case: Refusal) -> str | None:
    """What was wrong with the answer: a status that is no refusal, two answers of which one is not, or a JSON body that
    is not OpenAI's."""
    answer = proxy.raw(case.request, seconds=3)
    statuses = [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, flags=re.MULTILINE)]
    if not statuses or not set(statuses) <= case.statuses | {404}:
        return f"{statuses} instead of {sorted(case.statuses)}: {answer[:80]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"application/json" not in head:
        return None if set(statuses) <= PARSER else f"{head!r}"
    if case.request.startswith(b"HEAD "):
        return None
    # HAProxy always sends it
    error = json.loads(body[: int(re.search(rb"content-length: (\d+)", head)[1])])["error"]  # type: ignore[index]
    return None if set(error) == {"message", "type", "param", "code"} and error["code"] == statuses[0] else str(error)
