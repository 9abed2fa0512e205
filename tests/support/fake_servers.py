"""Releases of a few bytes that the fake vLLM of this folder serves, and an environment for them: the router and all
else is real."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.release import ADAPTER, Manifest, digest_of, list_files
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.verdict import Verdict
from serve.record.environment import Environment
from tests.serve.conftest import free_ports

FAKE = Path(__file__).with_name("fake_vllm")
RUN = {
    "name": "x",
    "task": "causal-lm",
    "base": {"path": "none"},
    "data": {"source": "files", "files": ["none.jsonl"]},
    "train": {"max_steps": 1},
    "gate": "gate.yaml",
    "evaluate": {"max_new_tokens": 8, "parity": {"golden_prompts": 4}},
}


def fake_world(folder: Path) -> dict[str, str]:
    """The environment variables that make the fake be started in vLLM's place; `folder`/fake.json says how each release
    misbehaves."""
    return {
        "TUNEGATE_SERVE_PYTHON": sys.executable,
        "PYTHONPATH": f"{FAKE}:{FAKE.parents[2]}",
        "TUNEGATE_FAKE": str(folder / "fake.json"),
        "SSL_CERT_FILE": str(one_certificate(folder)),
    }


def one_certificate(folder: Path) -> Path:
    """httpx reads every authority that it trusts for each client, 70 ms; nothing here speaks TLS."""
    import certifi

    path = folder / "authority.pem"
    path.write_text(
        Path(certifi.where()).read_text(encoding="utf8").partition("-----END CERTIFICATE-----")[0]
        + "-----END CERTIFICATE-----\n"
    )
    return path


def misbehave(folder: Path, **modes: str) -> None:
    (folder / "fake.json").write_text(json.dumps(modes))


def publish_fake(name: str, *, base: str | None = None) -> str:
    """releases/NAME@DIGEST12 under the working directory; returns NAME@sha256:DIGEST. With a `base` it is that and an
    unmerged adapter."""
    folder = Path("releases") / f".{name}" / "release"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(base or name)
    if base:
        (folder / ADAPTER).mkdir()
        (folder / ADAPTER / "adapter_model.safetensors").write_text(name)
    lines = [
        {
            "id": str(number),
            "messages": [{"role": "user", "content": f"question {number}"}],
            "answer": f"{name} {number}",
            "first_token_logprob": -0.5,
        }
        for number in range(4)
    ]
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = list_files(folder)
    config = RunConfig.model_validate(RUN | {"name": name}).model_dump(mode="json")
    quantization = {"scheme": "adapter", "rank": 8, "layers": ["q_proj"]} if base else {}
    facts: dict[str, Any] = {
        "base": {},
        "data": {},
        "quantization": quantization,
        "git_revision": "test",
        "versions": {},
        "config": config,
        "created": "2026-11-25",
    }
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    Verdict(release=manifest.reference, outcome="pass", results=[]).write(folder.parent / "gate" / "verdict.json")
    folder.parent.rename(f"releases/{name}@{manifest.digest[7:19]}")
    return manifest.reference


def fake_environment(**facts: Any) -> Environment:
    """Without the gate's statistics, so that its watch can show nothing."""
    router_port, *slots = free_ports(3)
    settings = {
        "name": "x",
        "model": "m",
        "gate": None,
        "router": {"port": router_port},
        "slot_ports": tuple(slots),
        "bake_seconds": 0,
        "watch": {"on_inconclusive": "accept"},
        "state_dir": "state",
    }
    return Environment(DeployConfig.model_validate(settings | {"drain_deadline_seconds": 20} | facts))


def two_servers_a_slot() -> dict[str, Any]:
    """For fake_environment: the slots' ports are neighbours, and the second server of each has the next but one."""
    while True:
        (first,) = free_ports(1)
        with ExitStack() as stack:
            try:
                for port in range(first, first + 4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return {"slots": {"servers": 2}, "slot_ports": (first, first + 1)}
