"""A server with vLLM's command line and the few routes that the proofs use: it answers the golden prompts of the
release that it was given.

Of unmerged adapters it serves one for each name that it was started with or was told of, as our middleware has vLLM do
it. Of users' requests it sums up what that middleware would. Its behaviour is read at each request from the file that
TUNEGATE_FAKE names: {"RELEASE NAME": "hang" | "wrong" | "empty" | "error" | "slow" | "insomnia" | "coma"}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infra.vllm.adapter_names import LOAD, UNLOAD, target_of
from infra.vllm.sleep import MIDDLEWARE as SLEEP
from infra.vllm.sleep import PATH as SLEEP_PATH
from infra.vllm.strata import PATH, Asked, Tally

ARGUMENTS = {word: sys.argv[at + 1] for at, word in enumerate(sys.argv[:-1]) if word.startswith("--")}


@dataclass(frozen=True)
class Served:
    """A release: its manifest, and the golden lines by their question."""

    manifest: dict[str, Any]
    golden: dict[str, dict[str, Any]]


def read(release: Path) -> Served:
    lines = map(json.loads, (release / "golden.jsonl").read_text(encoding="utf8").splitlines())
    manifest = json.loads((release / "manifest.json").read_text(encoding="utf8"))
    return Served(manifest, {line["messages"][-1]["content"]: line for line in lines})


OWN = ARGUMENTS.get("--lora-modules", "").partition("=")[0] or None
SERVED = {OWN: read(Path(ARGUMENTS["--model"]))}
METERED = json.loads(os.environ.get("TUNEGATE_USAGE", "{}"))
TALLY, LOCK = Tally(), threading.Lock()
AWAKE = threading.Event()
AWAKE.set()
TOKEN_SECONDS = float(os.environ.get("TUNEGATE_FAKE_PACE", "0.002"))
SLOWER = 50


def mode(served: Served) -> str:
    path = Path(os.environ.get("TUNEGATE_FAKE", ""))
    return str(json.loads(path.read_text(encoding="utf8")).get(served.manifest["name"], "")) if path.is_file() else ""


@dataclass(frozen=True)
class User:
    """Whose request is being answered."""

    slot: str
    asked: Asked
    status: int


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    user: User | None = None

    def send(self, body: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.note(content)

    def do_DELETE(self) -> None:
        self.rest(asleep=False)

    def rest(self, *, asleep: bool) -> None:
        """As the middleware that it was started with, or was not. Beside a server that is awake no GPU has room for
        its memory: that is the test's to see."""
        if SLEEP not in sys.argv:
            return self.send({"detail": "Not Found"}, 404)
        if mode(SERVED[OWN]) == ("insomnia" if asleep else "coma"):
            return self.send({"error": "no"}, 500)
        (AWAKE.clear if asleep else AWAKE.set)()
        self.send({"asleep": asleep})

    def do_GET(self) -> None:
        if self.path == SLEEP_PATH:
            return self.send({"asleep": not AWAKE.is_set()})
        if target_of(self.path).path == PATH:
            with LOCK:
                return self.send(TALLY.strata)
        self.send({"object": "list", "data": [{"id": ARGUMENTS["--served-model-name"]}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        target = target_of(self.path)
        if target.path == SLEEP_PATH:
            return self.rest(asleep=True)
        AWAKE.wait()  # as vLLM's scheduler: whoever asks a sleeper waits
        if target.path in (LOAD, UNLOAD):
            self.change(target.path, body)
        elif (served := SERVED.get(target.adapter or OWN)) is None:
            self.send({"error": {"message": "no such model"}}, 404)
        elif self.headers["x-tunegate-key"]:
            self.serve_user(served, body, target.slot or METERED["slot"])
        else:
            self.serve(served, body)

    def serve_user(self, served: Served, body: dict[str, Any], slot: str) -> None:
        status = 500 if mode(served) == "error" else 200
        with LOCK:
            asked = TALLY.begin()
        asked.read(json.dumps(body).encode())
        self.user = User(slot, asked, status)
        ended = False
        try:
            self.serve(served, body)
            ended = True
        finally:
            self.user = None
            with LOCK:
                TALLY.end(slot, asked, status, ended=ended, tokens=body.get("max_tokens", 2))

    def change(self, path: str, body: dict[str, str]) -> None:
        known = body["lora_name"] in SERVED
        if "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in os.environ or known == (path == LOAD):
            return self.send({"error": {"message": "loaded already, or not at all"}}, 400)
        if path == LOAD:
            SERVED[body["lora_name"]] = read(Path(body["lora_path"]).parent)
        else:
            del SERVED[body["lora_name"]]
        self.send({})

    def serve(self, served: Served, body: dict[str, Any]) -> None:
        wrong = mode(served)
        if wrong == "hang":
            time.sleep(3600)
        if wrong == "error":
            self.send({"error": {"message": "no"}}, 500)
        elif body.get("stream"):
            self.stream(served, int(body["max_tokens"]))
        else:
            self.answer(served, body, wrong)

    def answer(self, served: Served, body: dict[str, Any], wrong: str) -> None:
        golden = served.golden.get(body["messages"][-1]["content"], {"answer": "hello", "first_token_logprob": 0.0})
        text = {"wrong": "something else", "empty": ""}.get(wrong, golden["answer"])
        logprobs = {"content": [{"logprob": golden["first_token_logprob"]}]}
        choice = {"message": {"content": text}, "logprobs": logprobs, "finish_reason": "stop"}
        self.send({"choices": [choice], "usage": {"completion_tokens": 2, "prompt_tokens": 2}})

    def stream(self, served: Served, tokens: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        seconds = TOKEN_SECONDS * (SLOWER if mode(served) == "slow" else 1)
        for number in range(tokens):
            end = "length" if number == tokens - 1 else None
            choice = {"index": 0, "delta": {"content": "a "}, "finish_reason": end}
            # The server's own word for what it is, to hold the router's header against.
            self.chunk(
                json.dumps(
                    {
                        "id": "x",
                        "object": "chat.completion.chunk",
                        "system_fingerprint": served.manifest["digest"],
                        "choices": [choice],
                    }
                )
            )
            time.sleep(seconds)
        self.chunk("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text: str) -> None:
        line = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()
        self.note(line)

    def note(self, piece: bytes) -> None:
        if self.user:
            with LOCK:
                TALLY.answer(self.user.slot, self.user.asked, self.user.status, piece)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server((ARGUMENTS.get("--host", "127.0.0.1"), int(ARGUMENTS["--port"])), Handler).serve_forever()
