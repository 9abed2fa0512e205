"""Does a server still answer? That its process lives and its port accepts proves nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from configs.errors import RefusedError
from configs.release import read_manifest
from configs.slots import Server, SlotName
from infra.dvc.releases import folder_of
from infra.vllm.counters import read_progress
from serve.record.environment import Environment
from serve.record.state import State


@dataclass
class Liveness:
    """`misses`: unanswered probes in a row; `progress`: how far each server had got at the last look, which was at
    `looked` (seconds, monotonic). Who gets on with its users' requests needs no probe."""

    misses: Counter[Server] = field(default_factory=Counter)
    progress: dict[Server, int | None] = field(default_factory=dict)
    looked: float = field(default_factory=time.monotonic)

    def hung(self, env: Environment, state: State, serving: Collection[SlotName]) -> frozenset[Server]:
        """The servers of `serving` that accept a real, tiny request and do not answer it, `probe_failures` times in a
        row."""
        here = {server for server in env.servers(state) if server[0] in serving} - env.died(state)
        for server in self.misses.keys() - here:
            del self.misses[server]
        for server in sorted(here):
            is_well = self.gets_on(env, state, server) or answers(env, state, *server)
            self.misses[server] = 0 if is_well else self.misses[server] + 1
        return frozenset(server for server in here if self.misses[server] >= env.config.supervision.probe_failures)

    def check(self, env: Environment, state: State, slot: SlotName) -> None:
        """While a release is watched under traffic: no oftener than the agent would look. Raises RefusedError where it
        accepts and does not answer."""
        if time.monotonic() - self.looked < env.config.supervision.interval_seconds:
            return
        if self.hung(env, state, [slot]):
            raise RefusedError(
                f"{state.wanted.desired}: under traffic it accepts requests and does not answer",
                hint=f"less {env.folder}/{slot}.log",
            )
        self.looked = time.monotonic()

    def gets_on(self, env: Environment, state: State, server: Server) -> bool:
        """Of a server that both slots live in nobody can tell whose requests it counts."""
        slot, number = server
        asked = env.server(state, slot, number)
        if asked is None or env.is_shared(state, slot):
            return False
        before = self.progress.get(server)
        now = self.progress[server] = read_progress(asked.base_url)
        return before is not None and now is not None and now > before


def answers(env: Environment, state: State, slot: SlotName, number: int = 0) -> bool:
    """One golden prompt, one token. A server that still starts is not asked; one that answers with an error is alive,
    and the bake's business."""
    import httpx

    from infra.vllm.client import request_of

    found, process = state.slots[slot], env.server(state, slot, number)
    if found is None or process is None or "healthy" not in found.servers[number].proofs:
        return True
    directory = folder_of(found.release) / "release"
    line = json.loads((directory / "golden.jsonl").open(encoding="utf8").readline())
    path, body = request_of(env.config.model, read_manifest(directory).task, line, 1)

    async def post() -> bool:
        async with httpx.AsyncClient(timeout=None, verify=False) as client:
            await asyncio.wait_for(
                client.post(f"{process.base_url}{path}", json=body), env.config.supervision.probe_timeout_seconds
            )
        return True

    try:
        return asyncio.run(post())
    except (httpx.HTTPError, TimeoutError):
        return False
