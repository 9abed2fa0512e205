"""The real client of the Hugging Face hub, against a hub of our own that speaks its API on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from configs.errors import ExternalError, InputError
from infra.hub import fetch_config, fetch_snapshot, list_repository

pytestmark = pytest.mark.unit
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"import os",
    "consolidated.safetensors": b"weights",
}


class Hub(BaseHTTPRequestHandler):
    """The tree listing, the model's description and its files, as huggingface_hub 1.x asks for them (hf_api.py,
    file_download.py)."""

    def log_message(self, format: str, *args: object) -> None: ...

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": REVISION, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if "/gated/" in path:
            self.answer(403, b"", X_Error_Code="GatedRepo")
        elif "/owner/name/" not in path:
            self.answer(404, b"", X_Error_Code="RepoNotFound")
        elif REVISION not in path:
            self.answer(404, b"", X_Error_Code="RevisionNotFound")
        elif "/tree/" in path:
            rows = [{"type": "file", "path": file, "size": len(body), "oid": file} for file, body in FILES.items()]
            self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
        elif "/resolve/" in path:
            self.answer(200, FILES[name], ETag=f'"{name}"')
        else:
            siblings = [{"rfilename": file} for file in FILES]
            self.answer(
                200,
                json.dumps({"id": "owner/name", "sha": REVISION, "siblings": siblings}).encode(),
                Content_Type="application/json",
            )

    do_HEAD = do_GET


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def test_a_pinned_commit_comes_without_pickles_and_without_code() -> None:
    folder = fetch_snapshot("owner/name", REVISION)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_of_a_config_nothing_else_is_fetched() -> None:
    found = fetch_config("owner/name", REVISION)
    assert found.read_bytes() == b"{}" and [path.name for path in found.parent.iterdir()] == ["config.json"]
    with pytest.raises(InputError, match="found no such revision"):
        fetch_config("owner/name", "f" * 40)


def test_the_list_names_what_is_never_fetched() -> None:
    assert set(list_repository("owner/name", REVISION)) == set(FILES)


@pytest.mark.parametrize(
    ("repository", "revision", "message"),
    [
        ("owner/other", REVISION, "no such repository"),
        ("owner/name", "f" * 40, "no such revision"),
        ("gated/name", REVISION, "a gated repository"),
    ],
)
def test_what_the_hub_does_not_give_is_an_input_error(repository: str, revision: str, message: str) -> None:
    with pytest.raises(InputError, match=f"base.hub: {repository}@{revision[:12]}: found {message}"):
        fetch_snapshot(repository, revision)
    with pytest.raises(InputError, match=message):
        list_repository(repository, revision)


def test_a_hub_that_cannot_be_reached_is_an_outside_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ExternalError, match=r"the hub cannot be reached.*refused"):
            fetch_snapshot("owner/name", REVISION)
        with pytest.raises(ExternalError, match=r"base\.path"):
            list_repository("owner/name", REVISION)


def test_what_was_fetched_once_needs_no_hub(hub: ThreadingHTTPServer) -> None:
    fetched = fetch_snapshot("owner/name", REVISION)
    hub.shutdown()
    hub.server_close()
    assert fetch_snapshot("owner/name", REVISION) == fetched
