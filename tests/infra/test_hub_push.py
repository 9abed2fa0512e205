"""A release put on a hub of our own, which speaks the hub's commit API on loopback: byte for byte, private, once."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, InputError
from infra.hub import push_folder

pytestmark = pytest.mark.unit


class Store(ThreadingHTTPServer):
    """What the hub holds."""

    visibility: str | None = None
    files: dict[str, bytes]
    uploaded: dict[str, bytes]
    message: str = ""


class Hub(BaseHTTPRequestHandler):
    """Creation, preupload, Git LFS and commit, as huggingface_hub 1.x asks for them (hf_api.py, _commit_api.py)."""

    server: Store

    def log_message(self, format: str, *args: object) -> None: ...

    def answer(self, status: int, body: Any = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def do_POST(self) -> None:
        body, store, here = self.body(), self.server, f"http://127.0.0.1:{self.server.server_port}"
        if self.headers["Authorization"] != "Bearer may-write" and not self.path.startswith("/lfs/"):
            self.answer(403, {"error": "forbidden"})
        elif self.path == "/api/repos/create":
            if store.visibility is None:
                store.visibility = json.loads(body).get("visibility", "public")
            self.answer(200, {"url": f"{here}/owner/name", "name": "owner/name"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{here}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self.commit([json.loads(line) for line in body.splitlines()])
            self.answer(200, {"commitUrl": f"{here}/owner/name/commit/{'a' * 40}", "commitOid": "a" * 40})
        else:
            self.answer(404)

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.message = value["summary"]
            elif line["key"] == "deletedFile":
                del self.server.files[value["path"]]
            elif line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.uploaded[value["oid"]]

    def do_PUT(self) -> None:
        body = self.body()
        self.server.uploaded[hashlib.sha256(body).hexdigest()] = body
        self.answer(200)

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer may-write":
            self.answer(401, {"error": "unauthorized"})
            return
        siblings = [{"rfilename": name} for name in self.server.files]
        if "/tree/" in self.path:
            rows = [{"type": "file", "path": name, "size": 1, "oid": name} for name in self.server.files]
            self.answer(200, rows)
        else:
            self.answer(200, {"id": "owner/name", "sha": "a" * 40, "siblings": siblings})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a hub without Xet storage takes Git LFS
    with Store(("127.0.0.1", 0), Hub) as server:
        server.files, server.uploaded = {}, {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "may-write")
        yield server
        server.shutdown()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    (folder / "lora").mkdir(parents=True)
    for name, content in (
        ("README.md", b"# x\n"),
        ("manifest.json", b"{}"),
        ("model.safetensors", b"\0weights"),
        ("lora/adapter_model.safetensors", b"\1adapter"),
    ):
        (folder / name).write_bytes(content)
    return folder


def held(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("private", "visibility"), [(True, "private"), (False, "public")])
def test_a_release_lies_there_byte_for_byte(hub: Store, release: Path, private: bool, visibility: str) -> None:
    url = push_folder(release, "owner/name", "x@sha256:1", private)
    assert hub.files == held(release) and url.endswith("a" * 40)
    assert (hub.visibility, hub.message) == (visibility, "x@sha256:1")


def test_the_next_release_takes_its_place_and_leaves_nothing_of_it(hub: Store, release: Path) -> None:
    push_folder(release, "owner/name", "x@sha256:1")
    (release / "model.safetensors").write_bytes(b"\2others")
    (release / "lora/adapter_model.safetensors").unlink()
    push_folder(release, "owner/name", "x@sha256:2", private=False)
    assert hub.files == held(release) and hub.visibility == "private", "what is private stays so"


@pytest.mark.parametrize(
    ("token", "repository", "said"),
    [
        (None, "owner/name", "found no HF_TOKEN"),
        ("no", "owner/name", "may not write"),
        ("may-write", "a b", "OWNER/NAME"),
    ],
)
def test_what_the_hub_does_not_take_is_an_input_error(
    hub: Store, release: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, repository: str, said: str
) -> None:
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=said):
        push_folder(release, repository, "x@sha256:1")
    assert hub.files == {}


def test_a_hub_that_cannot_be_reached_is_an_outside_error(
    hub: Store, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ExternalError, match="the hub cannot be reached"):
            push_folder(release, "owner/name", "x@sha256:1")
